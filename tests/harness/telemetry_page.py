"""docs/telemetry.md as a reader has it: spans, metrics and log events, each with what the page says of it.

It reads tables by their first heading (``span``, ``metric``, ``event``) wherever they stand; words around them are prose.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from harness.docs import Page, Table

_NAMES = re.compile(r"`([^`]+)`")
_HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$", re.MULTILINE)


@dataclass(frozen=True)
class SpanRow:
    """A span: its name (``<x>`` stands for what varies), what it stands under, what it says."""

    name: str
    parent: str
    attributes: frozenset[str]

    def fits(self, name: str) -> bool:
        """Tell whether a span of this name is meant."""
        return re.fullmatch(re.sub(r"<\w+>", ".+", self.name), name) is not None


@dataclass(frozen=True)
class MetricRow:
    """A metric as Prometheus shows it."""

    name: str
    type: str
    labels: frozenset[str]
    unit: str
    meaning: str


@dataclass(frozen=True)
class EventRow:
    """A log event, and the levels it has."""

    name: str
    levels: frozenset[str]
    meaning: str


class TelemetryPage:
    """The page, read."""

    def __init__(self, page: Page) -> None:
        self._page = page

    @cached_property
    def spans(self) -> tuple[SpanRow, ...]:
        return tuple(
            SpanRow(_first(row[0]), row[2], frozenset(_NAMES.findall(row[3]))) for row in self._rows("span")
        )

    @cached_property
    def metrics(self) -> tuple[MetricRow, ...]:
        return tuple(
            MetricRow(_first(row[0]), row[1], frozenset(_NAMES.findall(row[2])), row[3], row[4])
            for row in self._rows("metric")
        )

    @cached_property
    def events(self) -> tuple[EventRow, ...]:
        return tuple(
            EventRow(_first(row[0]), frozenset(row[1].split(", ")), row[2]) for row in self._rows("event")
        )

    def span(self, name: str) -> SpanRow | None:
        """Return what the page says of a span that was emitted; null when it does not know it."""
        return next((row for row in self.spans if row.fits(name)), None)

    def _rows(self, first_heading: str) -> Iterator[tuple[str, ...]]:
        for table in self._tables():
            if table.head[0] == first_heading:
                yield from table.rows

    def _tables(self) -> Iterator[Table]:
        for heading in _HEADING.findall(self._page.text):
            yield from self._page.tables(heading)


def _first(cell: str) -> str:
    found = _NAMES.search(cell)
    assert found is not None, f"no name in {cell!r}"
    return found[1]
