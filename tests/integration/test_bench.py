"""The bench, short: a few callers through each system. What it finds is correctness; no time is asserted here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from harness.broker import Broker
from load.bench import report
from load.bench.machine import Cores, choose_cores
from load.bench.run import Plan, Run
from load.bench.steps import Measured, Rung, ladder
from load.bench.systems import Lab, UpstreamName, start_backends

SHORT = Rung(callers=3, measure_s=4.0, per_s=10.0, settle_s=2.0, tail_s=2.5)
TURN_S = 2.0


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


async def test_the_baselines_lose_nothing_and_fall_silent(lab: Lab) -> None:
    for system in ("echo", "relay"):
        for measured in await ladder(lab, system, [SHORT]):
            check(measured)


@pytest.mark.parametrize("upstream", ["lean", "burst", "understudy"])
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


async def test_a_run_says_what_it_measured_and_what_it_had_no_time_for(
    tmp_path: Path, lab: Lab, kafka_broker: Broker
) -> None:
    said: list[str] = []
    plan = Plan(budget_s=1.0, broker=kafka_broker)
    run = Run(plan, lab, said.append)
    await run.whole()
    assert run.remarks[0] == "no time was left for echo with 10 callers"
    run.measured = await ladder(lab, "relay", [SHORT])
    at = datetime(2026, 1, 2, tzinfo=UTC)
    report.write(run, tmp_path / "out", at)
    whole = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert whole["measured"][0]["system"] == "relay"
    assert whole["measured"][0]["figures"]["lost_up"] == 0
    page = (tmp_path / "out" / "bench.md").read_text()
    assert "| relay | 3 |" in page
    assert "no time was left for parley with 10 callers" in page
    assert (tmp_path / "out" / "bench.svg").read_text().startswith("<svg")
