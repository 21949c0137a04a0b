"""The simulation keeps its books, follows the code where the code decides, and is moved by what should move it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from load.simulation import report
from load.simulation.__main__ import _parser, inputs_of
from load.simulation.backstage import Facts, Tools
from load.simulation.engine import Outcome, Simulation
from load.simulation.inputs import Inputs, World, read_bench, read_settings
from load.simulation.sizing import mean_s, sessions_of_tier, size

AT = 60
"""When what goes wrong goes wrong."""


def small(**changes: Any) -> Inputs:
    """Return 600 sessions at their peak, on a deployment of their size, where nothing goes wrong but what is said."""
    world = replace(World().calm(duration_s=200), sessions=600, refused_return_share=0.0)
    told = {name: changes[name] for name in ("sessions", "businesses") if name in changes}
    inputs = replace(Inputs(), world=replace(world, **told))
    return replace(inputs, deployment=size(inputs, inputs.world.sessions)).but(**changes)


def run(**changes: Any) -> Outcome:
    return Simulation(small(**changes)).run()


EVERYTHING = {
    "session_crash_at_s": AT,
    "gateway_crash_at_s": AT,
    "crashed_processes": 2,
    "broker_away_at_s": AT,
    "broker_away_s": 30,
    "upstream_refuses_at_s": AT + 20,
    "in_step_at_s": AT + 20,
    "session_sessions_max": 22,
    "refused_return_share": 0.5,
}


def test_whoever_arrived_runs_has_ended_was_refused_or_was_lost_at_every_step() -> None:
    steps = run(**EVERYTHING).steps
    books = [np.array(steps[name]) for name in ("arrived", "sessions", "ended", "refused", "lost")]
    assert (books[0] == sum(books[1:])).all()
    assert all(book[-1] > 0 for book in books)


def test_processes_carry_just_the_sessions_that_run_and_each_session_keeps_to_its_cell() -> None:
    simulation = Simulation(small(**EVERYTHING, sessions=5_000))
    simulation.run()
    crowd, running, cells = simulation.crowd, simulation.crowd.running(), simulation.d.cells
    there = running[np.isinf(crowd.back_s[running])]
    for fleet, carried in (
        (simulation.replicas, crowd.replica[running]),
        (simulation.gateways, crowd.gateway[there]),
    ):
        assert (fleet.at == np.bincount(carried, minlength=len(fleet.at))).all()
        assert fleet.at.max() <= fleet.room
    assert cells > 1
    assert (crowd.replica[there] % cells == crowd.gateway[there] % cells).all()


def test_a_seed_decides_all_of_a_run() -> None:
    assert run(**EVERYTHING) == run(**EVERYTHING)
    assert Simulation(small(**EVERYTHING), seed=2).run().sums != run(**EVERYTHING).sums


@pytest.mark.parametrize("longest_s", [7_200.0, 240.0])
def test_a_steady_state_holds_as_many_as_arrive_times_how_long_they_stay(longest_s: float) -> None:
    world = World().calm(duration_s=1_200)
    inputs = replace(Inputs(), world=replace(world, sessions=1_500, session_max_s=longest_s))
    outcome = Simulation(replace(inputs, deployment=size(inputs, 1_500)), has_doors=False).run()
    came = (outcome.sums["arrived"] - outcome.steps["arrived"][0]) / 1_200
    for within in (slice(0, 300), slice(900, 1_200)):
        there = np.mean(outcome.steps["sessions"][within])
        assert there == pytest.approx(came * mean_s(outcome.inputs.world), rel=0.07)


def test_more_replicas_never_refuse_more() -> None:
    few = small().deployment.session_replicas // 2
    refused = [run(session_replicas=few + more).total("refused") for more in (0, 2, 4, 8, 16)]
    assert refused == sorted(refused, reverse=True)
    assert refused[0] > refused[-1]


def test_a_session_dies_with_its_replica_and_nobody_comes_back_to_it() -> None:
    outcome = run(session_crash_at_s=AT, crashed_processes=3)
    assert outcome.sums["lost: session_lost (its replica died)"] == outcome.total("lost") > 30
    assert outcome.sums["resumed"] == 0


def test_nobody_is_placed_on_a_process_that_is_down() -> None:
    simulation = Simulation(small(session_crash_at_s=0, gateway_crash_at_s=0, crashed_processes=3))
    for now_s in range(20):
        simulation.step(now_s)
    for fleet in (simulation.replicas, simulation.gateways):
        down = fleet.back_s > 0
        assert (down.sum(), fleet.at[down].sum()) == (3, 0)
        assert fleet.at[~down].sum() > 0


def test_clients_of_a_dead_gateway_go_on_at_another_within_the_grace() -> None:
    quick = run(gateway_crash_at_s=AT, crashed_processes=2)
    assert quick.sums["resumed"] > 60
    assert quick.total("lost") == 0
    slow = run(gateway_crash_at_s=AT, crashed_processes=2, resume_mean_s=60.0)
    assert slow.sums["lost: not back within the grace"] > slow.sums["resumed"] > 0


def test_a_spool_that_is_full_drops_the_oldest_facts_but_none_that_ends_a_session() -> None:
    facts = Facts(small(spool_facts_max=100, turns_per_min=60.0, tools_per_turn=0.0))
    one = np.eye(1, len(facts.other))[0]
    for _ in range(150):
        facts.step(one, one * 0, one, broker_is_there=False)
    assert (facts.ended[0], facts.other[0], round(facts.dropped)) == (150, 0, 150)
    facts.step(one * 0, one * 0, one * 0, broker_is_there=True)
    assert facts.fullest == 0


def test_a_broker_that_is_away_refuses_and_loses_no_session_and_drops_no_fact_that_has_room() -> None:
    short, long = (run(broker_away_at_s=AT, broker_away_s=100, spool_facts_max=most) for most in (50_000, 10))
    assert short.sums["facts dropped"] == 0 < long.sums["facts dropped"]
    assert (long.total("refused"), long.total("lost")) == (0, 0)
    assert short.use["session processor"] == long.use["session processor"]


def test_a_tool_call_is_asked_again_until_its_last_attempt_and_only_then_times_out() -> None:
    attempts_s = int(2 * small().deployment.tool_deadline_s)
    assert run(broker_away_at_s=AT, broker_away_s=attempts_s).sums["tool calls timed out"] == 0
    assert run(broker_away_at_s=AT, broker_away_s=attempts_s + 2).sums["tool calls timed out"] > 0


def test_a_tool_call_waits_longer_the_fuller_its_process_is_and_without_end_past_that() -> None:
    waits = []
    for share in (0.1, 0.5, 0.9, 1.5):
        tools, rng = Tools(small()), np.random.default_rng(1)
        for _ in range(30):
            tools.step(round(share * tools._per_s), rng, broker_is_there=True)
        waits.append(tools.wait_ms(0.99) - tools.wait_ms(0.5) + 1000 * tools.queued.max() / tools._per_s)
        if share < 1:  # of M/M/1 quantiles are apart by the logarithms, over what is left of the process
            assert waits[-1] == pytest.approx(1000 * np.log(50) / (tools._per_s * (1 - share)), rel=0.05)
    assert waits == sorted(waits)
    assert waits[-1] > 10 * waits[-2]


def test_tokens_refuse_before_any_replica_is_full_where_they_are_the_lower_ceiling() -> None:
    inputs = small(upstream_requests_per_min=None, upstream_tokens_per_min=9_000_000.0)
    most = sessions_of_tier(inputs.world, 1e18, 9_000_000)
    assert most < 600
    respected = Simulation(inputs.but(business_sessions_max=most, morning_share=0.2)).run()
    assert respected.total("refused") == respected.sums["refused: business_full"] > 0
    assert max(respected.use["session lines (SESSION_SESSIONS_MAX)"]) < 1
    assert max(respected.steps["sessions"]) < most * 1.1
    ignored = Simulation(inputs).run()
    assert ignored.total("refused") == 0
    over = "responses over upstream's limits"
    assert ignored.sums[over] > 10 * respected.sums[over]


def test_roll_overs_in_step_are_lost_where_upstream_refuses_and_those_spread_out_are_not() -> None:
    refusing = {"upstream_refuses_at_s": AT, "upstream_refuses_s": 60, "in_step_at_s": AT}
    assert run(**refusing, rollover_jitter_s=0.0).sums["lost: upstream_lost"] > 300
    assert run(**refusing | {"in_step_at_s": AT + 90}).total("lost") == 0
    assert run(**refusing, rollover_jitter_s=900.0).sums["lost: upstream_lost"] < 50
    short = run(**refusing | {"upstream_refuses_s": 20, "rollover_jitter_s": 0.0})
    assert (short.total("lost"), short.sums["rolled over"] > 300) == (0, True)


@pytest.mark.parametrize("sessions", [100, 2_500])
def test_what_is_sized_for_sessions_bears_them_in_time(sessions: int) -> None:
    world = replace(World().calm(duration_s=60), sessions=sessions)
    inputs = replace(Inputs(), world=world).but(read_calls_per_s=9.0, effect_calls_per_s=9.0)
    deployment = size(inputs, sessions)
    outcome = Simulation(replace(inputs, deployment=deployment)).run()
    assert outcome.total("refused") <= outcome.sums["arrived"] * 0.001
    late_s = outcome.sums["session-seconds too busy to be in time"]
    assert late_s <= 0.005 * sum(outcome.steps["sessions"])
    for name in ("tools processes", "notify processes", "databases", "Kafka brokers"):
        assert np.mean(outcome.use[name]) < 0.9, name
    assert deployment.brokers >= deployment.cells * deployment.replication


def test_gateways_and_replicas_that_know_each_other_for_nothing_need_no_cells() -> None:
    known, free = (size(inputs, 50_000) for inputs in (Inputs(), report.free_of_mesh(Inputs())))
    assert known.cells > free.cells == 1
    assert known.gateways + known.session_replicas > free.gateways + free.session_replicas


def test_what_is_narrowest_breaks_first() -> None:
    inputs = small(sessions=300, database_commits_per_s=2.0, upstream_tokens_per_min=None)
    found = report.breaks_first(inputs, 1)
    assert found[0][0] == "databases"
    assert Simulation(inputs.but(session_sessions_max=1), has_doors=False).run().total("refused") == 0
    assert [full for *_, full in found] == sorted(full for *_, full in found)
    assert {name: full for name, _, full in found}["upstream tokens"] == np.inf
    assert report.full_at([0.5 * load for load in report.LOADS]) == pytest.approx(2.0)
    assert report.full_at([8 * load for load in report.LOADS]) == pytest.approx(0.125)


def test_a_bench_report_and_settings_replace_what_is_measured(tmp_path: Path) -> None:
    def rung(callers: int, cpu: float, *, good: bool) -> dict[str, Any]:
        costs = {"session": cpu, "gateway": cpu / 2}
        figures = {"tool_ms": {"p50": 12.5}}
        memory = {"session": 300.0 + callers, "gateway": 40.0}
        sizes = {"rung": {"callers": callers}, "cpu_ms_per_session_s": costs, "memory_kb_per_session": memory}
        return {"system": "parley", "is_good": good, "figures": figures, **sizes}

    bench: dict[str, Any] = {"at": "2026-12-01T08:00:00+00:00", "largest": {"parley": {"callers": 100}}}
    made = ((1, 9.0, 1.0), (100, 0.5, 100.0), (1_000, 0.1, 640.0), (2_000, 0.1, 580.0))
    calls = [
        {
            "tool": "analyze_deal",
            "rate_per_s": rate,
            "commits_per_call": each,
            "tally": {"answered_per_s": per_s},
        }
        for rate, each, per_s in made
    ]
    bench["volume"] = {"tools": calls, "outbox": [{"per_s": 2_000.0}], "notify": []}
    bench["measured"] = [rung(10, 9.0, good=True), rung(100, 4.0, good=True), rung(125, 3.0, good=False)]
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(bench), "utf-8")
    inputs = Inputs().but(**read_bench(path), **read_settings(["broker_away_at_s=none", "cells=3"]))
    m = inputs.measured
    assert (m.measured_on, m.session_cpu_ms_per_s, m.gateway_cpu_ms_per_s, m.busy_max) == (
        "2026-12-01",
        4.0,
        2.0,
        0.6,
    )
    assert (m.session_memory_kb, m.tool_base_ms) == (425.0, 12.5)
    assert (m.read_calls_per_s, m.commits_per_read, m.relay_facts_per_s) == (640.0, 0.5, 2_000.0)
    assert m.deliveries_per_s == Inputs().measured.deliveries_per_s
    assert (inputs.world.broker_away_at_s, inputs.deployment.cells) == (None, 3)
    with pytest.raises(ValueError, match="no input is called colour"):
        Inputs().but(colour=1)


def test_the_page_and_the_json_tell_the_same_run() -> None:
    args = _parser().parse_args(
        ["--sessions", "300", "--set", "duration_s=120", "--tier", "5", "--admit-by-tokens"]
    )
    inputs = inputs_of(args)
    outcome = Simulation(inputs).run()
    broken = report.breaks_first(inputs, 1)
    page, told = report.markdown(outcome, broken, 1, 0.0), report.as_json(outcome, broken, 1)
    assert f"| arrived | {outcome.sums['arrived']:,} |" in page
    assert json.loads(json.dumps(told))["sums"] == outcome.sums
    assert inputs.deployment.business_sessions_max == sessions_of_tier(inputs.world, 20_000, 15_000_000)
