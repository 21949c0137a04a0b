"""Telemetry: what may leave a process, what joins its logs, and how late its loop is."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence

import pytest
import structlog
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from prometheus_client import REGISTRY

from harness.processes import Processes
from harness.waiting import until
from parley_common import telemetry
from parley_common.clock import ManualClock
from parley_common.errors import DependencyUnavailable

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SECRET = "dana@example.com"


class Kept(SpanExporter):
    """Keeps what is exported."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += spans
        return SpanExportResult.SUCCESS


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> list[ReadableSpan]:
    kept = Kept()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    monkeypatch.setattr(telemetry, "_tracer", provider.get_tracer("test"))
    return kept.spans


@pytest.mark.parametrize(
    ("wrong", "code"),
    [(ValueError(SECRET), "ValueError"), (DependencyUnavailable(SECRET, code="db_away"), "db_away")],
)
def test_a_span_that_fails_carries_a_code_and_no_word_of_the_exception(
    exported: list[ReadableSpan], wrong: Exception, code: str
) -> None:
    with pytest.raises(type(wrong)), telemetry.span("work"):
        raise wrong
    (span,) = exported
    assert span.attributes == {"error.type": code}
    assert not span.status.is_ok
    assert SECRET not in span.to_json()


def test_a_span_stands_under_the_traceparent_it_is_given(exported: list[ReadableSpan]) -> None:
    with telemetry.span("work", parent=TRACEPARENT):
        inner = telemetry.current_traceparent()
    (span,) = exported
    assert span.parent is not None
    assert f"{span.parent.trace_id:032x}-{span.parent.span_id:016x}" in TRACEPARENT
    assert span.context is not None
    assert inner == f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-01"


def test_without_an_exporter_a_context_goes_on_as_it_came() -> None:
    with telemetry.span("work", parent=TRACEPARENT):
        assert telemetry.current_traceparent() == TRACEPARENT
    assert telemetry.traceparent_of(telemetry.start_span("work", parent=TRACEPARENT)) == TRACEPARENT


def test_only_a_whole_traceparent_is_taken_from_outside() -> None:
    assert telemetry.valid_traceparent(TRACEPARENT) == TRACEPARENT
    made = telemetry.new_traceparent()
    assert telemetry.valid_traceparent(made) == made != telemetry.new_traceparent()
    zero_trace, zero_span = f"00-{'0' * 32}-{'1' * 16}-01", f"00-{'1' * 32}-{'0' * 16}-01"
    for wrong in (None, "", SECRET, TRACEPARENT + "-x", TRACEPARENT.upper(), zero_trace, zero_span):
        assert telemetry.valid_traceparent(wrong) is None, wrong


def test_joined_logs_carry_session_and_trace_and_only_inside(capsys: pytest.CaptureFixture[str]) -> None:
    render = structlog.wrap_logger(
        structlog.PrintLogger(),
        [structlog.contextvars.merge_contextvars, structlog.processors.JSONRenderer()],
    )
    with telemetry.joined_logs(session_id="s1", traceparent=TRACEPARENT):
        render.msg("inside")
    with telemetry.joined_logs(session_id=None, traceparent="nonsense"):
        render.msg("outside")
    inside, outside = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert inside == {
        "event": "inside",
        "session_id": "s1",
        "trace_id": TRACEPARENT.split("-")[1],
    }
    assert outside == {"event": "outside"}


LOGS_ERRORS = f"""
import logging, structlog
from parley_common.settings import ParleySettings
from parley_common.telemetry import configure_logs

def break_it():
    try:
        raise ValueError({SECRET!r})
    except ValueError as wrong:
        raise ExceptionGroup("several", [KeyError({SECRET!r})]) from wrong

configure_logs(ParleySettings(log_format="json"), "shop")
for log in (structlog.get_logger().exception, logging.getLogger("library").exception):
    try:
        break_it()
    except Exception:
        log("it.broke")
"""


async def test_a_logged_error_tells_types_and_places_and_none_of_its_words(processes: Processes) -> None:
    proc = processes.start([sys.executable, "-c", LOGS_ERRORS], name="logs-errors")
    assert await proc.wait_exit(30) == 0
    assert SECRET not in proc.log()
    ours, foreign = (json.loads(line) for line in proc.log().splitlines())
    for entry in (ours, foreign):
        lines = [line.strip() for line in entry["exception"].splitlines()]
        assert [line for line in lines if not line.startswith("at ")] == [
            "ValueError",
            "then",
            "ExceptionGroup",
            "KeyError",
        ]
        assert any(line.endswith("in break_it") for line in lines)
        assert (entry["event"], entry["service"], entry["level"]) == ("it.broke", "shop", "error")


class _LateClock(ManualClock):
    """A clock whose every sleep lasts 40 ms too long."""

    async def sleep_ms(self, delay_ms: float) -> None:
        await self.advance(round(delay_ms) + 40)


async def test_the_lag_of_the_loop_is_how_late_it_woke() -> None:
    def observed() -> tuple[float, float]:
        name = telemetry.LOOP_LAG_MS._name
        return tuple(REGISTRY.get_sample_value(f"{name}_{part}") or 0.0 for part in ("count", "sum"))  # type: ignore[return-value]

    count, total = observed()
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(telemetry.watch_loop_lag(_LateClock()))
        await until(lambda: observed()[0] >= count + 3, why="the lag to be measured")
        watching.cancel()
    after_count, after_total = observed()
    assert after_total - total == 40 * (after_count - count)
