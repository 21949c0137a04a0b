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


async def test_what_a_run_has_no_time_for_is_left_out_and_said(lab: Lab, kafka_broker: Broker) -> None:
    run = Run(Plan(budget_s=1.0, broker=kafka_broker), lab, say=lambda _: None)
    await run.whole()
    assert run.measured == []
    assert "no time was left for echo with 10 callers" in run.remarks
    assert "no time was left for parley with 10 callers" in report.markdown(
        run, datetime(2026, 1, 2, tzinfo=UTC)
    )
