"""An OTLP/HTTP collector for tests: keeps spans and metric points, and draws traces as trees.

It accepts /v1/traces and /v1/metrics in protobuf, gzipped or not. It deliberately samples, batches and
forgets nothing.
"""

from __future__ import annotations

import gzip
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan

from harness.http_server import Answer, HttpServer, Reply, Request

AttributeValue = str | bool | int | float | list[Any] | None


@dataclass(frozen=True)
class Span:
    """One span as a service exported it."""

    name: str
    service: str
    trace_id: str
    span_id: str
    parent_id: str
    """Empty for a root."""
    kind: str
    started_ns: int
    ended_ns: int
    attributes: Mapping[str, AttributeValue]
    is_error: bool
    links: tuple[str, ...]
    """Span ids that this one points at without being their child."""

    @property
    def duration_ms(self) -> float:
        return (self.ended_ns - self.started_ns) / 1e6


@dataclass(frozen=True)
class Branch:
    """A span and its children, by start time."""

    span: Span
    children: tuple[Branch, ...] = field(default=())

    def lines(self, depth: int = 0) -> list[str]:
        """Draw the tree, one ``service: name`` a line."""
        own = f"{'  ' * depth}{self.span.service}: {self.span.name}"
        return [own, *(line for child in self.children for line in child.lines(depth + 1))]


@dataclass(frozen=True)
class Point:
    """One number of one metric; of a histogram, its count and sum."""

    name: str
    service: str
    attributes: Mapping[str, AttributeValue]
    value: float
    """The number; of a histogram the sum."""
    count: int | None
    """How many measurements a histogram holds; null for other metrics."""


class OtlpCollector:
    """Listens on 127.0.0.1; give ``url`` as OTEL_EXPORTER_OTLP_ENDPOINT."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: list[Span] = []
        self._points: list[Point] = []
        self._exports: list[bytes] = []
        self._http = HttpServer(self._answer)

    @property
    def url(self) -> str:
        return self._http.url

    def spans(self, name: str | None = None, *, trace_id: str | None = None) -> list[Span]:
        """Return the spans received, by start time; optionally only of one name or trace."""
        with self._lock:
            found = [
                span
                for span in self._spans
                if name in (None, span.name) and trace_id in (None, span.trace_id)
            ]
        return sorted(found, key=lambda span: span.started_ns)

    def points(self, name: str) -> list[Point]:
        """Return every point received of one metric, in order of arrival."""
        with self._lock:
            return [point for point in self._points if point.name == name]

    @property
    def exports(self) -> list[bytes]:
        """Return all that was received, decompressed, as bytes to be searched: text stands in it as UTF-8."""
        with self._lock:
            return list(self._exports)

    def tree(self, trace_id: str) -> list[Branch]:
        """Return the roots of one trace. A span whose parent has not arrived (yet) is a root too."""
        spans = self.spans(trace_id=trace_id)
        known = {span.span_id for span in spans}
        return [_branch(span, spans) for span in spans if span.parent_id not in known]

    def close(self) -> None:
        """Stop listening."""
        self._http.close()

    def _answer(self, request: Request) -> Answer:
        body = (
            gzip.decompress(request.body)
            if request.headers.get("content-encoding") == "gzip"
            else request.body
        )
        with self._lock:
            self._exports.append(body)
        match request.path:
            case "/v1/traces":
                spans = _spans(ExportTraceServiceRequest.FromString(body))
                with self._lock:
                    self._spans.extend(spans)
            case "/v1/metrics":
                points = _points(ExportMetricsServiceRequest.FromString(body))
                with self._lock:
                    self._points.extend(points)
            case _:
                return Reply(404)
        return Reply(200, headers={"content-type": "application/x-protobuf"})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _branch(span: Span, spans: list[Span]) -> Branch:
    children = tuple(_branch(child, spans) for child in spans if child.parent_id == span.span_id)
    return Branch(span, children)


def _spans(export: ExportTraceServiceRequest) -> list[Span]:
    return [
        _span(wire, str(_attributes(resource.resource.attributes).get("service.name", "")))
        for resource in export.resource_spans
        for scope in resource.scope_spans
        for wire in scope.spans
    ]


def _span(wire: WireSpan, service: str) -> Span:
    return Span(
        name=wire.name,
        service=service,
        trace_id=wire.trace_id.hex(),
        span_id=wire.span_id.hex(),
        parent_id=wire.parent_span_id.hex(),
        kind=WireSpan.SpanKind.Name(wire.kind).removeprefix("SPAN_KIND_").lower(),
        started_ns=wire.start_time_unix_nano,
        ended_ns=wire.end_time_unix_nano,
        attributes=_attributes(wire.attributes),
        is_error=wire.status.code == 2,
        links=tuple(link.span_id.hex() for link in wire.links),
    )


def _points(export: ExportMetricsServiceRequest) -> list[Point]:
    return [
        point
        for resource in export.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in _points_of(
            metric, str(_attributes(resource.resource.attributes).get("service.name", ""))
        )
    ]


def _points_of(metric: Metric, service: str) -> list[Point]:
    kind = metric.WhichOneof("data")
    if kind == "histogram":
        return [
            Point(metric.name, service, _attributes(data.attributes), data.sum, data.count)
            for data in metric.histogram.data_points
        ]
    if kind in {"sum", "gauge"}:
        numbers = metric.sum.data_points if kind == "sum" else metric.gauge.data_points
        return [
            Point(
                metric.name, service, _attributes(data.attributes), data.as_double or float(data.as_int), None
            )
            for data in numbers
        ]
    return []


def _attributes(wire: Any) -> dict[str, AttributeValue]:
    pairs: list[KeyValue] = list(wire)
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(wire: AnyValue) -> AttributeValue:
    match wire.WhichOneof("value"):
        case "array_value":
            return [_value(entry) for entry in wire.array_value.values]
        case None | "kvlist_value" | "bytes_value":
            return None
        case kind:
            value: AttributeValue = getattr(wire, kind)
            return value
