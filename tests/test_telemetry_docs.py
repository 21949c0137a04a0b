"""docs/telemetry.md and the code name the same spans, attributes, metrics and log events, with the same types and levels.

The code's names are found in its syntax tree: a name that is put together at run time counts as ``<x>`` where it varies.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

from harness.docs import Page, differences
from harness.house import Finding
from harness.telemetry_page import TelemetryPage

ROOT = Path(__file__).resolve().parents[1]
METRIC_TYPES = frozenset({"Counter", "Gauge", "Histogram"})
SPAN_MAKERS = frozenset({"span", "start_span"})
LEVELS = {"debug": "debug", "info": "info", "warning": "warning", "error": "error", "exception": "error"}
UNITS = {"_ms": "ms", "_s": "s", "_bytes": "bytes", "_usd": "USD", "_usd_today": "USD"}
VARIES = re.compile(r"<\w+>")
_ATTRIBUTE = re.compile(r"(?:gen_ai|messaging|server|error|parley)(?:\.[a-z_]+)+")
_SPARE = re.compile(r"`([^`]+)`")
Parsed = tuple[tuple[str, ast.Module], ...]


@cache
def code() -> Parsed:
    """Every module of our packages, parsed."""
    paths = [path for top in ("libs", "services") for path in (ROOT / top).glob("*/src/**/*.py")]
    return tuple((path.relative_to(ROOT).as_posix(), ast.parse(path.read_text("utf-8"))) for path in paths)


@cache
def page() -> TelemetryPage:
    return TelemetryPage(text_page())


def text_page() -> Page:
    return Page("docs/telemetry.md", (ROOT / "docs" / "telemetry.md").read_text("utf-8"))


# -- what the code names --------------------------------------------------------------------------


def calls(parsed: Parsed) -> Iterator[tuple[str, ast.Call]]:
    """Yield each call with a first argument, by the last part of what is called."""
    for _, tree in parsed:
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.args:
                yield ast.unparse(node.func).rpartition(".")[2], node


def metrics_in(parsed: Parsed) -> dict[str, tuple[str, frozenset[str]]]:
    """Return type and labels of each metric, by the name that Prometheus shows."""
    found = {}
    for called, node in calls(parsed):
        if called in METRIC_TYPES and all(isinstance(arg, ast.Constant | ast.List) for arg in node.args):
            values = [ast.literal_eval(arg) for arg in node.args]
            name = f"{values[0]}_total" if called == "Counter" else values[0]
            found[name] = called.lower(), frozenset(values[2] if len(values) > 2 else ())
    return found


def spans_in(parsed: Parsed) -> set[str]:
    return {
        name for called, node in calls(parsed) if called in SPAN_MAKERS for name in written_out(node.args[0])
    }


def events_in(parsed: Parsed) -> dict[str, set[str]]:
    """Return the levels of each log event."""
    found: dict[str, set[str]] = defaultdict(set)
    for called, node in calls(parsed):
        if called in LEVELS and ast.unparse(node.func) == f"log.{called}":
            for name in written_out(node.args[0]):
                found[name].add(LEVELS[called])
    return found


def attributes_in(parsed: Parsed) -> set[str]:
    """Return what span attributes are named: keys of dicts and what ``set_attribute`` is given."""
    names: list[ast.expr | None] = [n.args[0] for called, n in calls(parsed) if called == "set_attribute"]
    for _, tree in parsed:
        names += [key for node in ast.walk(tree) if isinstance(node, ast.Dict) for key in node.keys]
    texts = {node.value for node in names if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {text for text in texts if _ATTRIBUTE.fullmatch(text)}


def written_out(name: ast.expr) -> Iterator[str]:
    """Yield the names that an expression can be; what varies in one becomes ``<x>``."""
    match name:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=parts):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "<x>" for part in parts)
        case ast.IfExp(body=body, orelse=orelse):
            yield from (*written_out(body), *written_out(orelse))


# -- the page is the code -------------------------------------------------------------------------


def none_wrong(found: Iterable[Finding]) -> None:
    listed = "".join(f"\n  {finding}" for finding in found)
    assert not listed, listed


def test_the_page_has_every_span_and_no_other() -> None:
    told = {VARIES.sub("<x>", row.name) for row in page().spans}
    none_wrong(differences(text_page(), "span", told, spans_in(code())))


def test_the_page_has_every_attribute_and_no_other() -> None:
    told = {name for row in page().spans for name in row.attributes}
    none_wrong(differences(text_page(), "attribute", told, attributes_in(code())))


def test_every_attribute_of_ours_is_explained() -> None:
    (table,) = [t for t in text_page().tables("Spans") if t.head[0] == "attribute"]
    explained = {name for row in table.rows for name in _SPARE.findall(row[0])}
    ours = {name for name in attributes_in(code()) if name.startswith("parley.")}
    none_wrong(differences(text_page(), "attribute", explained, ours))


def test_every_span_stands_under_one_that_is_on_the_page() -> None:
    names = {row.name for row in page().spans}
    for row in page().spans:
        parents = set(_SPARE.findall(row.parent))
        assert parents <= names, row.name
        assert parents or row.name == "session.open", f"{row.name} has no parent"


def test_the_page_has_every_metric_with_its_type_and_labels_and_no_other() -> None:
    told = {(row.name, row.type, tuple(sorted(row.labels))) for row in page().metrics}
    named = {(name, kind, tuple(sorted(labels))) for name, (kind, labels) in metrics_in(code()).items()}
    none_wrong(differences(text_page(), "metric", told, named))


def test_the_unit_of_a_metric_is_the_one_in_its_name() -> None:
    for row in page().metrics:
        assert row.meaning, row.name
        name = row.name.removesuffix("_total")
        suffix = next((each for each in UNITS if name.endswith(each)), None)
        if suffix is not None:
            assert row.unit == UNITS[suffix], row.name
        else:
            assert row.unit in {"count", "frames", "tokens"}, row.name


def test_the_page_has_every_log_event_with_its_levels_and_no_other() -> None:
    told: dict[str, set[str]] = defaultdict(set)
    for row in page().events:
        assert row.meaning, row.name
        told[row.name] |= row.levels
    named = {(name, *sorted(levels)) for name, levels in events_in(code()).items()}
    none_wrong(
        differences(text_page(), "event", {(name, *sorted(each)) for name, each in told.items()}, named)
    )


def test_no_name_stands_twice_in_one_table() -> None:
    for names in ([row.name for row in page().spans], [row.name for row in page().metrics]):
        assert len(names) == len(set(names))


# -- the check can fail ---------------------------------------------------------------------------

SAMPLE: Parsed = (
    (
        "sample.py",
        ast.parse(
            'Counter("parley_a", "words", ["why"])\n'
            'Gauge("parley_b_ms", "words", buckets=(1, 2))\n'
            'start_span(f"do {what}", parent=None, attributes={"parley.what": 1})\n'
            'span.set_attribute("error.type", code)\n'
            'log.info("a.b" if good else "a.c", session="x")\n'
            'log.exception("a.c")\n'
            "match.span(); other.info('no event')\n"
        ),
    ),
)


@pytest.mark.parametrize(
    ("reader", "expected"),
    [
        (
            metrics_in,
            {"parley_a_total": ("counter", frozenset({"why"})), "parley_b_ms": ("gauge", frozenset())},
        ),
        (spans_in, {"do <x>"}),
        (events_in, {"a.b": {"info"}, "a.c": {"info", "error"}}),
        (attributes_in, {"parley.what", "error.type"}),
    ],
    ids=["metrics", "spans", "events", "attributes"],
)
def test_names_are_found_however_they_are_written(
    reader: Callable[[Parsed], object], expected: object
) -> None:
    assert reader(SAMPLE) == expected
