"""What the OpenTelemetry SDK exports arrives as plain spans, trees and points."""

from __future__ import annotations

import httpx
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, set_span_in_context

from harness.otlp import OtlpCollector


def tracing(collector: OtlpCollector, service: str) -> TracerProvider:
    provider = TracerProvider(resource=Resource.create({"service.name": service}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{collector.url}/v1/traces")))
    return provider


def test_spans_of_two_services_make_one_tree(otlp: OtlpCollector) -> None:
    gateway, session = tracing(otlp, "gateway"), tracing(otlp, "session")
    root = gateway.get_tracer("t").start_span("session.open")
    child = session.get_tracer("t").start_span("turn", context=set_span_in_context(root))
    grandchild = session.get_tracer("t").start_span("tool", context=set_span_in_context(child))
    for span in (grandchild, child, root):
        span.end()
    trace_id = f"{root.get_span_context().trace_id:032x}"
    (branch,) = otlp.tree(trace_id)
    assert branch.lines() == ["gateway: session.open", "  session: turn", "    session: tool"]
    gateway.shutdown()
    session.shutdown()


def test_a_span_keeps_its_attributes_kind_error_and_links(otlp: OtlpCollector) -> None:
    provider = tracing(otlp, "tools")
    cause = provider.get_tracer("t").start_span("cause")
    cause.end()
    links = [Link(cause.get_span_context())]
    span = provider.get_tracer("t").start_span("effect", kind=SpanKind.CONSUMER, links=links)
    span.set_attributes({"text": "x", "count": 3, "share": 0.5, "yes": True, "list": ["a", "b"]})
    span.set_status(Status(StatusCode.ERROR))
    span.end()
    (seen,) = otlp.spans("effect")
    assert seen.attributes == {"text": "x", "count": 3, "share": 0.5, "yes": True, "list": ["a", "b"]}
    assert (seen.kind, seen.is_error, seen.service) == ("consumer", True, "tools")
    assert seen.links == (otlp.spans("cause")[0].span_id,)
    assert seen.duration_ms >= 0
    provider.shutdown()


def test_a_span_whose_parent_never_came_is_a_root(otlp: OtlpCollector) -> None:
    provider = tracing(otlp, "notify")
    absent = provider.get_tracer("t").start_span("absent")
    orphan = provider.get_tracer("t").start_span("orphan", context=set_span_in_context(absent))
    orphan.end()
    (branch,) = otlp.tree(f"{orphan.get_span_context().trace_id:032x}")
    assert branch.lines() == ["notify: orphan"]
    provider.shutdown()


def test_numbers_and_histograms_arrive_as_points(otlp: OtlpCollector) -> None:
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{otlp.url}/v1/metrics"))
    provider = MeterProvider([reader], Resource.create({"service.name": "session"}), shutdown_on_exit=False)
    meter = provider.get_meter("t")
    meter.create_counter("turns").add(2, {"business": "cap"})
    latency = meter.create_histogram("voice_to_voice_ms")
    latency.record(300)
    latency.record(500)
    provider.shutdown()
    (turns,) = otlp.points("turns")
    assert (turns.value, turns.count, turns.attributes, turns.service) == (
        2,
        None,
        {"business": "cap"},
        "session",
    )
    (measured,) = otlp.points("voice_to_voice_ms")
    assert (measured.value, measured.count) == (800, 2)


def test_any_other_path_is_not_found(otlp: OtlpCollector) -> None:
    assert httpx.post(f"{otlp.url}/v1/other", content=b"").status_code == 404
