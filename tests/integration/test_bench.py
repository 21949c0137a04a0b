"""The bench, short: a few callers through each system. What it finds is correctness; no time is asserted here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from harness.broker import Broker
from harness.postgres import PostgresServer
from load.bench import report
from load.bench.duties import ALL, DUTIES, Duties, DutiesPlan
from load.bench.ground import Ground
from load.bench.machine import Cores, choose_cores
from load.bench.notify_volume import measure_notify
from load.bench.outbox_volume import measure_outbox
from load.bench.run import Plan, Run
from load.bench.steps import Measured, Rung, ladder
from load.bench.systems import Lab, UpstreamName, start_backends, stop_tools
from load.bench.tools_volume import measure_tools

SHORT = Rung(callers=3, measure_s=3.5, per_s=10.0, settle_s=1.5, tail_s=1.5)
TURN_S = 1.5


@pytest.fixture
def cores() -> Cores:
    return choose_cores(None, None)


@pytest.fixture
def lab(tmp_path: Path, cores: Cores) -> Iterator[Lab]:
    with Lab(tmp_path / "lab", cores, turn_s=TURN_S) as lab:
        yield lab


def check(measured: Measured) -> None:
    """Nothing lost or late after a stop, every caller there, every barge-in stopped."""
    figures = measured.figures
    assert figures.is_whole, figures
    assert figures.live == SHORT.callers
    assert figures.expected > SHORT.callers * 150
    if measured.system != "echo":
        assert figures.barge_ins > 0
        assert figures.truncation_error_ms.count > 0


async def test_the_baselines_lose_nothing_and_fall_silent_and_the_report_says_so(
    tmp_path: Path, lab: Lab
) -> None:
    run = Run(Plan(), lab, say=lambda _: None)
    for system in ("echo", "relay"):
        run.measured += await ladder(lab, system, [SHORT])
        check(run.measured[-1])
    report.write(run, tmp_path / "out", datetime(2026, 1, 2, tzinfo=UTC))
    whole = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert [one["system"] for one in whole["measured"]] == ["echo", "relay"]
    assert whole["measured"][1]["figures"]["lost_up"] == 0
    assert "| relay | 3 |" in (tmp_path / "out" / "bench.md").read_text()
    assert (tmp_path / "out" / "bench.svg").read_text().startswith("<svg")


@pytest.mark.parametrize("upstream", ["lean", "understudy"])
async def test_parley_loses_nothing_and_falls_silent_at_every_barge_in(
    tmp_path: Path, cores: Cores, kafka_broker: Broker, upstream: UpstreamName
) -> None:
    with Lab(tmp_path / "lab", cores, upstream, TURN_S) as lab:
        backends = await start_backends(lab, kafka_broker)
        (measured,) = await ladder(lab, "parley", [SHORT], backends)
        check(measured)
        if upstream == "lean":
            assert measured.figures.tool_ms.count > 0


async def test_each_service_alone_loses_nothing_and_falls_silent(lab: Lab, kafka_broker: Broker) -> None:
    backends = await start_backends(lab, kafka_broker)
    for service in ("gateway", "session"):
        (measured,) = await ladder(lab, service, [SHORT], backends)
        check(measured)


async def test_at_volume_each_call_is_answered_each_fact_relayed_and_each_delivery_made_once(
    tmp_path: Path, lab: Lab, kafka_broker: Broker, postgres_server: PostgresServer
) -> None:
    ground = Ground(lab, kafka_broker, postgres_server)
    run = Run(Plan(parts=frozenset({"volume"})), lab, say=lambda _: None)
    run.volume.notify.append(await measure_notify(ground, facts=12, routes=2, dead_route=True))
    run.volume.outbox.append(await measure_outbox(ground, facts=450, leads=9))
    run.volume.tools += await measure_tools(ground, "save_lead", rates=(50,), seconds=1.5)
    (delivered,), (relayed,), (asked,) = run.volume.notify, run.volume.outbox, run.volume.tools
    assert (delivered.due, delivered.lost, delivered.twice) == (24, 0, 0)
    assert relayed.arrived.facts == 450
    assert relayed.is_whole, relayed.arrived
    assert (asked.tally.asked, asked.tally.answered) == (75, 75)
    assert asked.is_whole, asked
    report.write(run, tmp_path / "out", datetime(2026, 1, 2, tzinfo=UTC))
    whole = json.loads((tmp_path / "out" / "bench.json").read_text())["volume"]
    assert [one["is_whole"] for part in whole.values() for one in part] == [True] * 3
    page = (tmp_path / "out" / "bench.md").read_text()
    assert "| save_lead | 50 | 75 / 75 |" in page
    assert "| 450 facts of 9 leads |" in page
    assert "| 2 routes and a dead one, 12 facts |" in page


async def test_optional_duties_are_done_where_they_are_on_and_left_where_they_are_off(
    tmp_path: Path, lab: Lab, kafka_broker: Broker
) -> None:
    backends = await start_backends(lab, kafka_broker)
    stop_tools(backends)
    run = Run(Plan(parts=frozenset({"duties"})), lab, say=lambda _: None)
    plan = DutiesPlan(SHORT.callers, SHORT.measure_s, rounds=1, duties=(ALL,))
    duties = Duties(lab, backends, run.duty_pairs)
    await duties.measure(plan, begins=lambda _: True, tell=lambda _: None)
    (pair,) = run.duty_pairs
    for side in (pair.off, pair.on):
        check(side.measured)
        assert side.seen["facts"] > SHORT.callers
        assert side.is_done, side.seen
    assert not any(pair.off.seen[duty.name] for duty in DUTIES)
    assert all(pair.on.seen[duty.name] for duty in DUTIES)
    page = report.markdown(run, datetime(2026, 1, 2, tzinfo=UTC))
    assert "3 callers on each side." in page
    assert "| without any |" in page
    assert "| all |" in page


async def test_what_a_run_has_no_time_for_is_left_out_and_said(lab: Lab, kafka_broker: Broker) -> None:
    run = Run(Plan(budget_s=1.0, broker=kafka_broker), lab, say=lambda _: None)
    await run.whole()
    assert run.measured == []
    assert not run.volume
    assert "no time was left for echo with 10 callers" in run.remarks
    assert "no time was left for notify with 1 route" in run.remarks
    assert "no time was left for tool calls of analyze_deal" in run.remarks
    assert "no time was left for parley with 10 callers" in report.markdown(
        run, datetime(2026, 1, 2, tzinfo=UTC)
    )
