"""Says values: numbers, money, percent, moments and field names as a voice would.

It formats; it decides nothing.

Law: short, plain English without markup.
"""

from __future__ import annotations

import re
from datetime import date, datetime, time
from typing import Any

from .words import each_of, join, name_words

_MONEY = re.compile(
    r"usd|dollar|price|payment|cost|rent|income|flow|amount|total|balance|fee|tax|noi|loan|budget|refund|subtotal"
)
_PERCENT = re.compile(r"percent|pct|rate|apr|cap_rate|vacancy|ltv|return|cash_on_cash")
_NOT_MONEY = re.compile(
    r"count|years|months|number|score|ratio|percent|pct|rate|dscr|days|hours|minutes|quantity|id$"
)
_UPPER = frozenset(each_of("dscr noi ltv apr id roi hoa vin sku zip"))
_UNIT_WORDS = frozenset(each_of("usd percent pct"))


def labelled(name: str) -> str:
    """Return a field's name in spoken words, its unit left out."""
    words = name_words(name)
    kept = [w for w in words if w not in _UNIT_WORDS] or words
    return " ".join(w.upper() if w in _UPPER else w for w in kept)


def spoken(value: Any, name: str = "") -> str:
    """Return ``value`` as a voice says it; the field's ``name`` tells money from percent from plain numbers."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return _number(value, name.lower())
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        return join([spoken(v, name) for v in value[:3]])
    return "" if value is None or isinstance(value, dict) else str(value)[:120]


def _number(value: float, name: str) -> str:
    if not abs(value) <= 1e15:  # also true of what is not a number
        return "unknown"
    if _MONEY.search(name) and not _NOT_MONEY.search(name):
        return _money(value)
    if _PERCENT.search(name):
        shown = (
            value * 100
            if re.search(r"rate|fraction", name) and 0 < abs(value) < 1 and "percent" not in name
            else value
        )
        return f"{_figures(shown)}%"
    return _figures(value)


def _money(value: float) -> str:
    sign = "minus " if value < 0 else ""
    whole = abs(value - round(value)) < 0.005 or abs(value) >= 1000
    return f"{sign}${abs(round(value)):,}" if whole else f"{sign}${abs(value):,.2f}"


def _figures(value: float) -> str:
    return f"{int(value):,}" if float(value).is_integer() else f"{value:,.2f}".rstrip("0").rstrip(".")


def _text(value: str) -> str:
    if re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        return said_day(value)
    if re.match(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d", value):
        try:
            return spoken_moment(datetime.fromisoformat(value))
        except ValueError:
            return value
    if re.fullmatch(r"\d\d:\d\d(?::\d\d)?", value):
        return said_clock(value)
    return value.replace("_", " ") if re.fullmatch(r"[a-z]+(?:_[a-z]+)+", value) else value


def said_day(value: str) -> str:
    """Return an ISO date as "Tuesday, November 24", the year only when it is long past."""
    try:
        day = date.fromisoformat(value)
    except ValueError:
        return value
    if day.year < 2015:
        return f"{day:%B} {day.day}, {day.year}"
    return f"{day:%A}, {day:%B} {day.day}"


def said_clock(value: str) -> str:
    """Return an ISO time as "3:30 PM"."""
    try:
        return _clock(time.fromisoformat(value))
    except ValueError:
        return value


def _clock(clock: time) -> str:
    minute = f":{clock.minute:02}" if clock.minute else ""
    return f"{clock.hour % 12 or 12}{minute} {'AM' if clock.hour < 12 else 'PM'}"


def spoken_moment(moment: datetime) -> str:
    """Return an instant as "Tuesday, November 24 at 3:30 PM"."""
    return f"{moment:%A}, {moment:%B} {moment.day} at {_clock(moment.time())}"
