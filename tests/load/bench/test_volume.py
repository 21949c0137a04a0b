"""What a bench at volume counts: calls and answers, facts and their order, duties against the steps beside them."""

from __future__ import annotations

from pathlib import Path

from load.bench.asker import Answered, tally
from load.bench.duties import DUTIES, NONE, TRACING, DutiesPlan, DutyStep, costs
from load.bench.ground import Ground
from load.bench.hearing import Ear
from load.bench.judge import Figures, Spread
from load.bench.logs import Log
from load.bench.outbox_volume import Arrived, compare
from load.bench.stamps import FRAME_BYTES, NUMBER_BITS, SILENCE, seq_of, tone, write
from load.bench.steps import Measured, Rung
from load.bench.turns import SILENCE_FRAMES
from load.bench.volume import Found, VolumePlan, parts

SENT = {"a": 1_000, "b": 2_000, "c": 3_000}


def good(call_id: str, at_us: int) -> Answered:
    return Answered(call_id, True, at_us)


def test_each_call_that_is_answered_well_counts_once_with_the_time_to_its_first_answer() -> None:
    found = tally(SENT, [good("a", 11_000), good("b", 22_000), good("c", 63_000)])
    assert (found.asked, found.answered, found.failed, found.lost, found.twice) == (3, 3, 0, 0, 0)
    assert (found.trip_ms.p50, found.trip_ms.worst) == (20.0, 60.0)
    assert found.answered_per_s == round(3 / 0.062, 1)


def test_a_second_answer_is_twice_and_no_answer_is_lost_and_a_bad_one_failed() -> None:
    found = tally(SENT, [good("a", 11_000), good("a", 12_000), Answered("b", False, 9_000), good("other", 1)])
    assert (found.asked, found.answered, found.failed, found.lost, found.twice) == (3, 1, 1, 1, 1)
    assert found.trip_ms == Spread(1, 10.0, 10.0, 10.0, 10.0)


def test_calls_that_nobody_answers_have_no_rate_and_no_time() -> None:
    found = tally(SENT, [])
    assert (found.answered, found.lost, found.answered_per_s, found.trip_ms) == (0, 3, 0.0, Spread(0))


def test_facts_in_order_per_lead_are_whole_however_leads_are_mixed() -> None:
    written = {"one": ["1", "2"], "two": ["3", "4"]}
    read = [("two", "3"), ("one", "1"), ("two", "4"), ("one", "2")]
    assert compare(written, read) == Arrived(facts=4, lost=0, twice=0, out_of_order=0)


def test_a_fact_that_is_missing_twice_there_or_behind_a_later_one_is_told() -> None:
    written = {"one": ["1", "2", "3"], "two": ["4", "5"]}
    read = [("one", "2"), ("one", "1"), ("one", "2"), ("two", "4")]
    assert compare(written, read) == Arrived(facts=5, lost=2, twice=1, out_of_order=1)


def step(duty: str, cpu_ms: float, up_ms: float, **seen: int) -> DutyStep:
    nothing, up = Spread(0), Spread(9, p50=up_ms, p99=2 * up_ms)
    figures = Figures(3, 3, up, *[nothing] * 8, *[0] * 8)
    measured = Measured(
        system="parley",
        rung=Rung(3),
        figures=figures,
        cpu_ms_per_session_s={"session": cpu_ms},
        memory_kb_per_session={},
        held_s=1.0,
        core_pct={},
        generator_pct=0.0,
        upstream_pct=0.0,
        backends_pct=0.0,
        backends_ms_per_session_s={"kafka": 1.0},
        generator_late_ms=0.0,
        upstream_late_ms=0.0,
    )
    return DutyStep(duty, measured, {**{d.name: 0 for d in DUTIES}, "facts": 5, "unsent": 0, **seen})


def test_a_duty_costs_what_its_step_took_beyond_the_mean_of_those_beside_it() -> None:
    steps = [
        step("none", 10.0, 1.0),
        step("tracing", 13.0, 1.5, tracing=7),
        step("none", 12.0, 1.0),
        step("tracing", 15.0, 2.0, tracing=7),
        step("none", 14.0, 1.0),
        step("logs", 99.0, 9.0, logs=1),
    ]
    (cost,) = costs(steps)
    assert (cost.duty, cost.is_done) == ("tracing", True)
    assert (cost.cpu_ms["session"].mean, cost.cpu_ms["session"].rounds) == (2.0, (2.0, 2.0))
    assert cost.cpu_ms["kafka"].mean == 0.0
    assert (cost.latency_ms["up p50"].mean, cost.latency_ms["up p50"].rounds) == (0.75, (0.5, 1.0))


def test_a_duty_that_was_not_seen_or_that_was_seen_where_it_was_off_is_not_done() -> None:
    assert step("tracing", 1.0, 1.0, tracing=3).is_done
    assert not step("tracing", 1.0, 1.0).is_done
    assert not step("none", 1.0, 1.0, logs=1).is_done
    assert not step("tracing", 1.0, 1.0, tracing=3, logs=1).is_done
    assert not step("none", 1.0, 1.0, unsent=1).is_done
    assert step("all", 1.0, 1.0, **{duty.name: 1 for duty in DUTIES}).is_done
    assert not step("all", 1.0, 1.0, tracing=1).is_done


def test_between_any_two_duties_there_is_a_step_without_any() -> None:
    plan = DutiesPlan(rounds=2, duties=DUTIES)
    order = list(plan.order())
    assert order[::2] == [NONE] * 9
    assert order[1::2] == [*DUTIES, *DUTIES]
    assert TRACING in order


def test_a_volume_has_each_service_in_it_and_as_many_deliveries_however_many_routes() -> None:
    plan = VolumePlan(notify_facts=200, notify_routes=(1, 4), notify_dead_route=True)
    titles = [part.title for part in parts(plan, Ground(None, None), Found(), print)]  # type: ignore[arg-type]
    assert titles == [
        "notify with 1 route",
        "notify with 4 routes",
        "notify with 1 route and a dead one",
        "the relay with facts of 200 leads",
        "tool calls of analyze_deal",
    ]


def test_an_ear_tells_the_begin_and_the_end_of_speech_once_each_and_writes_down_every_frame(
    tmp_path: Path,
) -> None:
    told: list[str] = []
    log = Log(tmp_path, "ear")
    ear = Ear(log, lambda _: told.append("speech"), lambda: told.append("silence"))
    for number in range(2):
        ear.hear(write(seq_of(4, number), 1) + tone())
    assert (told, ear.caller, ear.is_heard) == (["speech"], 4, True)
    for number in range(2, 2 + 2 * SILENCE_FRAMES):
        ear.hear(write(seq_of(4, number), 1) + SILENCE)
    assert (told, ear.is_heard) == (["speech", "silence"], False)
    assert [seq - (4 << NUMBER_BITS) for seq in log.frame[1::3]] == list(range(2 + 2 * SILENCE_FRAMES))
    ear.hear(bytes(FRAME_BYTES))
    assert len(log.frame) == 3 * (2 + 2 * SILENCE_FRAMES)
    log.close()
