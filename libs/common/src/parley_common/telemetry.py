"""Logs, traces and metrics: set up once per process, used by name everywhere.

One trace per session in W3C context; spans go to an OTLP collector when one is configured, and cost nothing
otherwise. Metrics are Prometheus's, served by each service under /metrics. Every name is in docs/telemetry.md.

Law: no audio, words, names, phones, e-mails or tool arguments in anything emitted here. The text of an exception
could quote them: a span that fails carries a code, and a log line the errors' types and places.
"""

from __future__ import annotations

import logging
import re
import secrets
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagate import extract, inject
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

from parley_common.clock import Clock
from parley_common.settings import ParleySettings, TelemetrySettings

__all__ = ["Counter", "Gauge", "Histogram", "Span", "SpanKind", "span"]

LATENCY_BUCKETS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 300, 500, 800, 1_200, 2_000, 5_000, 10_000, 30_000)

disable_created_metrics()  # type: ignore[no-untyped-call] # a second series for each, which nobody reads

LAG_EVERY_MS = 250
LOOP_LAG_MS = Histogram(
    "parley_event_loop_lag_ms", "How late the event loop wakes", buckets=LATENCY_BUCKETS_MS
)

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""Version 00. Source: W3C Trace Context, section 3.2."""

_tracer = trace.get_tracer("parley")


def configure_logs(settings: ParleySettings, service: str) -> None:
    """Send structlog and the standard library's logs to stderr: JSON, or colours on a terminal."""
    level = getattr(logging, settings.log_level.upper())
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace,
        _say_where_it_failed,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler], force=True)
    structlog.contextvars.bind_contextvars(service=service)


def configure_traces(settings: TelemetrySettings, service: str, instance: str) -> None:
    """Export spans to the OTLP endpoint when there is one; otherwise spans are no-ops."""
    if not settings.exporter_otlp_endpoint:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    resource = Resource.create({"service.name": f"parley-{service}", "service.instance.id": instance})
    provider = TracerProvider(resource=resource)
    endpoint = settings.exporter_otlp_endpoint.rstrip("/") + "/v1/traces"
    provider.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint), schedule_delay_millis=1_000)
    )
    trace.set_tracer_provider(provider)


def shutdown_traces() -> None:
    """Export what is still held; called once as a process stops."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.shutdown()


@contextmanager
def span(
    name: str,
    *,
    parent: str | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Mapping[str, Any] | None = None,
) -> Iterator[Span]:
    """A span around a block. ``parent`` is a traceparent from elsewhere; null: the current span.

    An exception that leaves the block marks the span with its stable code, or its type.
    """
    context = context_of(parent) if parent else None
    with _tracer.start_as_current_span(
        name,
        context=context,
        kind=kind,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield current
        except Exception as wrong:
            mark_failed(current, getattr(wrong, "stable_code", type(wrong).__name__))
            raise


def start_span(
    name: str,
    *,
    parent: str | None,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Mapping[str, Any] | None = None,
    start_ns: int | None = None,
) -> Span:
    """Start a span that is not the current one; its owner must call ``end``.

    ``start_ns`` is in nanoseconds of the wall clock; null: now.
    """
    return _tracer.start_span(
        name, context=context_of(parent), kind=kind, attributes=attributes, start_time=start_ns
    )


def mark_failed(current: Span, code: str) -> None:
    """Mark a span as failed with a stable code; never with a message that could hold personal data."""
    current.set_status(Status(StatusCode.ERROR, code))
    current.set_attribute("error.type", code)


def current_traceparent() -> str | None:
    """Return the W3C traceparent of the current span; null when nothing is traced."""
    return traceparent_of(None)


def traceparent_of(current: Span | None) -> str | None:
    """Return the traceparent of a span, or of the current one."""
    carrier: dict[str, str] = {}
    inject(carrier, context=trace.set_span_in_context(current) if current else None)
    return carrier.get("traceparent")


def new_traceparent() -> str:
    """Return the traceparent of a trace that begins with whoever sends it, sampled."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def valid_traceparent(text: str | None) -> str | None:
    """Return a traceparent from outside as it is; null for anything else, which must not be passed on."""
    return text if text and _TRACEPARENT.fullmatch(text) else None


def join_logs(*, session_id: str | None, traceparent: str | None, **more: str) -> None:
    """Bind what joins the logs of this task, and of those it starts, to their session and its trace.

    Call it once, where the session enters the process; null is left out.
    """
    structlog.contextvars.bind_contextvars(**_joining(session_id, traceparent), **more)


@contextmanager
def joined_logs(*, session_id: str | None, traceparent: str | None) -> Iterator[None]:
    """Do what ``join_logs`` does for a block: where one task works for many sessions in turn."""
    with structlog.contextvars.bound_contextvars(**_joining(session_id, traceparent)):
        yield


def _joining(session_id: str | None, traceparent: str | None) -> dict[str, str]:
    trace_id = (valid_traceparent(traceparent) or "").partition("-")[2].partition("-")[0]
    bound = {"session_id": session_id, "trace_id": trace_id}
    return {name: value for name, value in bound.items() if value}


async def watch_loop_lag(clock: Clock) -> None:
    """Measure how late the event loop wakes, until cancelled."""
    while True:
        due_ms = clock.now_ms() + LAG_EVERY_MS
        await clock.sleep_ms(LAG_EVERY_MS)
        LOOP_LAG_MS.observe(max(0, clock.now_ms() - due_ms))


def context_of(traceparent: str | None) -> Context | None:
    """Return the context that a traceparent names; null and nonsense give the current one."""
    return extract({"traceparent": traceparent}) if traceparent else None


def _add_trace(_logger: Any, _name: str, entry: structlog.typing.EventDict) -> structlog.typing.EventDict:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        entry["trace_id"] = format(context.trace_id, "032x")
    return entry


def _say_where_it_failed(
    _logger: Any, _name: str, entry: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Put types and places of an error in the stead of its traceback, whose last lines are the error's own words."""
    given = entry.pop("exc_info", None)
    if given is True:
        given = sys.exc_info()
    wrong = given[1] if isinstance(given, tuple) else given
    if isinstance(wrong, BaseException):
        entry["exception"] = "\n".join(_places(traceback.TracebackException.from_exception(wrong)))
    return entry


def _places(wrong: traceback.TracebackException, indent: str = "") -> Iterator[str]:
    cause = wrong.__cause__ or (None if wrong.__suppress_context__ else wrong.__context__)
    if cause is not None:
        yield from _places(cause, indent)
        yield f"{indent}then"
    yield f"{indent}{wrong.exc_type.__qualname__ if wrong.exc_type else 'error'}"
    for frame in wrong.stack:
        yield f"{indent}  at {frame.filename}:{frame.lineno} in {frame.name}"
    for inner in wrong.exceptions or ():
        yield from _places(inner, indent + "  ")
