"""Logs, traces and metrics: set up once per process, used by name everywhere.

One trace per session in W3C context; spans go to an OTLP collector when one is configured, and cost nothing
otherwise. Metrics are Prometheus's, served by each service under /metrics.

Law: no audio, words, names, phones, e-mails or tool arguments in anything emitted here.
"""

from __future__ import annotations

import logging
import sys
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
from prometheus_client import Counter, Gauge, Histogram

from parley_common.settings import ParleySettings, TelemetrySettings

__all__ = ["Counter", "Gauge", "Histogram", "SpanKind", "span"]

LATENCY_BUCKETS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 300, 500, 800, 1_200, 2_000, 5_000, 10_000, 30_000)

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
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    )
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, renderer],
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
    """A span around a block. ``parent`` is a traceparent from elsewhere; null: the current span."""
    context = context_of(parent) if parent else None
    with _tracer.start_as_current_span(name, context=context, kind=kind, attributes=attributes) as current:
        yield current


def record_span(
    name: str, *, parent: str | None, start_ns: int, end_ns: int, attributes: Mapping[str, Any] | None = None
) -> None:
    """Export a span that is already over; ``start_ns`` and ``end_ns`` are nanoseconds of the wall clock."""
    done = _tracer.start_span(name, context=context_of(parent), start_time=start_ns, attributes=attributes)
    done.end(end_time=end_ns)


def start_span(name: str, *, parent: str | None, attributes: Mapping[str, Any] | None = None) -> Span:
    """Start a span that is not the current one; its owner must call ``end``."""
    return _tracer.start_span(name, context=context_of(parent), attributes=attributes)


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


def context_of(traceparent: str | None) -> Context | None:
    """Return the context that a traceparent names; null and nonsense give the current one."""
    return extract({"traceparent": traceparent}) if traceparent else None


def _add_trace(_logger: Any, _name: str, entry: structlog.typing.EventDict) -> structlog.typing.EventDict:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        entry["trace_id"] = format(context.trace_id, "032x")
    return entry
