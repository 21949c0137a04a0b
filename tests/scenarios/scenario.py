"""Scenario files: reading one, and comparing what came of a dialogue with what it expects. README.md has the format.

Pure, but for reading a file. How a dialogue is played is run.py's matter.

Law: what a scenario does not name does not matter; what it names has to be there, and each part that is not is said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
MODES = ("typed", "spoken")
KEYS = {"name", "mode", "lines", "expect"}
EXPECTATIONS = {"tools", "facts", "refusals", "never", "says"}
_DAY = re.compile(r"\{(today|tomorrow|in (\d{1,3}) days)\}")


@dataclass(frozen=True)
class Line:
    """One thing the caller says."""

    say: str
    barge_in_ms: int | None = None


@dataclass(frozen=True)
class Scenario:
    """One dialogue of one business."""

    business: str
    name: str
    mode: str
    lines: tuple[Line, ...]
    expect: Mapping[str, Any]


@dataclass(frozen=True)
class CallSeen:
    """One tool call as it was asked for, and what came of it."""

    tool: str
    arguments: Mapping[str, Any]
    status: str
    code: str | None = None


@dataclass(frozen=True)
class Came:
    """What came of a dialogue."""

    calls: Sequence[CallSeen] = ()
    facts: Sequence[tuple[str, Mapping[str, Any]]] = ()
    """Their names as in routes, and their values."""
    said: str = ""
    failure: str | None = None
    oddities: Mapping[str, int] = field(default_factory=dict)


def load(business: str) -> list[Scenario]:
    """Return the scenarios of a business. Raises ValueError that names the scenario."""
    raw = yaml.safe_load((HERE / f"{business}.yaml").read_text(encoding="utf-8"))
    return [_scenario(business, each) for each in raw]


def _scenario(business: str, raw: Mapping[str, Any]) -> Scenario:
    name = str(raw.get("name"))
    expect = raw.get("expect") or {}
    if set(raw) - KEYS or set(expect) - EXPECTATIONS:
        unknown = (set(raw) - KEYS) | (set(expect) - EXPECTATIONS)
        raise ValueError(f"{business}: {name!r} has {', '.join(sorted(unknown))}, which nobody reads")
    if raw.get("mode") not in MODES:
        raise ValueError(f"{business}: {name!r} is neither typed nor spoken")
    if not raw.get("lines") or not expect:
        raise ValueError(f"{business}: {name!r} says nothing, or expects nothing")
    return Scenario(business, name, raw["mode"], tuple(Line(**each) for each in raw["lines"]), expect)


def dated(text: str, today: date) -> str:
    """Return a line with its days put in: "{tomorrow}" as people say it."""

    def day(match: re.Match[str]) -> str:
        ahead = int(match[2]) if match[2] else {"today": 0, "tomorrow": 1}[match[1]]
        on = today + timedelta(days=ahead)
        return f"{on:%A, %B} {on.day}"

    return _DAY.sub(day, text)


def faults(scenario: Scenario, came: Came) -> list[str]:
    """Return what a dialogue lacks of what its scenario expects, or has that it must not; empty when it is as meant."""
    expect = scenario.expect
    found = [came.failure] if came.failure else []
    found += [f"protocol: {what} ×{count}" for what, count in came.oddities.items()]
    found += _tool_faults(expect.get("tools", ()), came.calls)
    found += _fact_faults(expect.get("facts", ()), came.facts)
    codes = {call.code for call in came.calls if call.status == "refused"}
    found += [f"no refusal {code}" for code in expect.get("refusals", ()) if code not in codes]
    done = {call.tool for call in came.calls if call.status == "ok"}
    found += [f"{tool} succeeded" for tool in expect.get("never", ()) if tool in done]
    return found + [
        f"never said {words!r}" for words in expect.get("says", ()) if not _fits(words, came.said)
    ]


def _tool_faults(expected: Sequence[Any], calls: Sequence[CallSeen]) -> list[str]:
    """Find the expected calls in order; each is looked for after the one before."""
    at, found = 0, []
    for each in expected:
        tool, arguments = _named(each)
        place = next(
            (
                n
                for n in range(at, len(calls))
                if calls[n].tool == tool and _holds(arguments, calls[n].arguments)
            ),
            None,
        )
        if place is None:
            found.append(f"no call {tool}{_shown(arguments)}")
        else:
            at = place + 1
    return found


def _fact_faults(expected: Sequence[Any], facts: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    at, found = 0, []
    for each in expected:
        name, fields = _named(each)
        place = next(
            (n for n in range(at, len(facts)) if facts[n][0] == name and _holds(fields, facts[n][1])), None
        )
        if place is None:
            found.append(f"no fact {name}{_shown(fields)}")
        else:
            at = place + 1
    return found


def _named(each: Any) -> tuple[str, Mapping[str, Any]]:
    """Return name and fields of ``name`` or ``{name: {field: value}}``."""
    if isinstance(each, str):
        return each, {}
    ((name, fields),) = each.items()
    return name, fields or {}


def _holds(expected: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    return all(_fits(wanted, _inside(value, path)) for path, wanted in expected.items())


def _inside(value: Any, path: str) -> Any:
    for step in path.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _fits(wanted: Any, value: Any) -> bool:
    """Tell whether a value is the wanted one: texts contain it, whatever their case; lists hold each of its parts."""
    if isinstance(wanted, str):
        text = value if isinstance(value, str) else "" if value is None else str(value)
        if len(wanted) > 2 and wanted.startswith("/") and wanted.endswith("/"):
            return re.search(wanted[1:-1], text, re.IGNORECASE) is not None
        return value is not None and wanted.lower() in text.lower()
    if isinstance(wanted, list):
        held = value if isinstance(value, list) else []
        return all(any(_fits(part, each) for each in held) for part in wanted)
    if isinstance(wanted, bool) or isinstance(value, bool):
        return wanted is value
    return bool(wanted == value)


def _shown(fields: Mapping[str, Any]) -> str:
    return f" with {dict(fields)}" if fields else ""
