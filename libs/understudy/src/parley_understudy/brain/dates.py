"""Finds days and times of day in what was said, relative to a given now.

It does not decide whether a day or an instant is wanted. "Next Tuesday" is the first Tuesday after today;
hours without morning or afternoon are taken from 8 in the morning to 7 in the evening.

Law: the same words and the same ``now`` give the same day; an impossible day is not found.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta

from .numbers import SMALL, amounts, small_number
from .words import each_of

_MONTHS = each_of("january february march april may june july august september october november december")
_DAYS = each_of("monday tuesday wednesday thursday friday saturday sunday")
_ORDINALS = each_of(
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth "
    "fourteenth fifteenth "
    "sixteenth seventeenth eighteenth nineteenth twentieth twenty-first twenty-second twenty-third "
    "twenty-fourth "
    "twenty-fifth twenty-sixth twenty-seventh twenty-eighth twenty-ninth thirtieth thirty-first"
)
_ORDINAL = "|".join(w.replace("-", "[- ]") for w in reversed(_ORDINALS))
_MONTH = "|".join([*_MONTHS, *(rf"{m[:3]}\.?" for m in _MONTHS if m != "may"), r"sept\.?"])
_WEEKDAY = "|".join([*_DAYS, *(d[:3] for d in _DAYS[:5])])
_NUMBER = "|".join(sorted(SMALL, key=len, reverse=True))
_HOUR = r"(?:2[0-4]|1\d|0?\d|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)"
_MINUTE = (
    r"(?:oh[ -]\w+|fifteen|ten|twenty|thirty|forty|fifty)(?:[ -]?(?:one|two|three|four|five|"
    r"six|seven|eight|nine))?"
)
_HALF = r"(?P<half>a\.?m\b\.?|p\.?m\b\.?|a m\b|p m\b)"
_PART = (
    r"(?P<part>in the morning|in the afternoon|in the evening|at night|tonight|this morning|"
    r"this afternoon|this evening|morning|afternoon|evening)"
)
_PART_HOURS = {"morning": 9, "afternoon": 14, "evening": 18, "night": 19}
_NOT_A_TIME = (
    r"(?![\d,.]*\d|\s*(?:%|percent|per cent|dollars|thousand|million|hundred|k\b|years?\b|"
    r"months?\b|people|bed|bath|point))"
)

_DAY_FORMS = [
    re.compile(r"\b(?P<y>\d{4})-(?P<m>\d\d)-(?P<d>\d\d)(?!\d)"),
    re.compile(rf"\b(?P<month>{_MONTH})\s+(?:the\s+)?(?P<day>\d{{1,2}}(?:st|nd|rd|th)?\b|{_ORDINAL}|"
        rf"(?:{_NUMBER})(?:[- ](?:one|two|three|four|five|six|seven|eight|nine)\b)?)"),
    re.compile(rf"\b(?:the\s+)?(?P<day>\d{{1,2}}(?:st|nd|rd|th)?|"
        rf"{_ORDINAL})\s+(?:of\s+)?(?P<month>{_MONTH})\b"),
    re.compile(r"\b(?P<m>\d{1,2})/(?P<d>\d{1,2})(?:/(?P<y>\d{4}|\d\d))?\b"),
    re.compile(r"\b(?P<word>the day after tomorrow|day after tomorrow|tomorrow|tonight|today|yesterday|"
        r"this (?:morning|afternoon|evening))\b"),
    re.compile(rf"\ba week from (?P<later>{_WEEKDAY})\b|\b(?P<after>{_WEEKDAY}) after next\b"),
    re.compile(rf"\b(?:(?:next|this|coming|on)\s+)*(?P<weekday>{_WEEKDAY})(?:'s|s)?\b"),
    re.compile(rf"\b(?:in\s+)?(?P<count>\d{{1,3}}|a|an|{_NUMBER})\s+(?P<span>day|week|"
        rf"month)s?(?:\s+from\s+(?:now|today)|(?<=\w)(?P<ago> ago))\b"),
    re.compile(rf"\bin\s+(?P<count>\d{{1,3}}|a|an|{_NUMBER})\s+(?P<span>day|week|month)s?\b"),
    re.compile(r"\bnext (?P<coming>week|month)\b"),
    re.compile(rf"\b(?:the|on)\s+(?P<only>\d{{1,2}}(?:st|nd|rd|th)|"
        rf"{'|'.join(w.replace('-', '[- ]') for w in reversed(_ORDINALS[3:]))})\b(?!\s+(?:one|option|"
            rf"slot|time|choice|item))"),
]  # fmt: skip
_CLOCK_FORMS = [
    re.compile(rf"(?<!\d)(?P<h>[01]?\d|2[0-3]):(?P<m>[0-5]\d)(?::[0-5]\d)?\s*(?:{_HALF})?(?!\d)"),
    re.compile(rf"\b(?P<h>{_HOUR})\.(?P<m>[0-5]\d)\s*{_HALF}"),
    re.compile(rf"\b(?P<rel>half|quarter|\d{{1,2}}|five|ten|twenty|twenty[- ]five) (?P<way>past|to|"
        rf"after|before|of) (?P<h>{_HOUR})\b(?:\s*{_HALF})?"),
    re.compile(rf"\b(?P<h>{_HOUR})(?:[ -](?P<mw>{_MINUTE}))?\s*{_HALF}"),
    re.compile(rf"\b(?P<h>{_HOUR})\s+o'?clock\b(?:\s*{_HALF})?"),
    re.compile(r"\b(?P<name>noon|midday|midnight)\b"),
    re.compile(rf"\b(?P<h>{_HOUR})(?:[ -](?P<mw>{_MINUTE}))?(?=\s+(?:in the (?:morning|afternoon|"
        rf"evening)|at night|tonight|this afternoon|this evening)\b)"),
    re.compile(rf"\b(?P<weak>at|around|about|by|say|"
        rf"after)\s+(?P<h>{_HOUR})(?:[ -](?P<mw>{_MINUTE}))?\b{_NOT_A_TIME}"),
]  # fmt: skip
_PAIR = re.compile(rf"\b(?P<h>{_HOUR})[ -](?P<mw>(?:oh[ -]five|fifteen|thirty|forty[ -]five))\b{_NOT_A_TIME}")
_BARE_CLOCK = re.compile(rf"(?P<h>{_HOUR})(?:[ -](?P<mw>{_MINUTE}))?")
_PART_FORM = re.compile(rf"\b{_PART}\b")


@dataclass(frozen=True)
class Day:
    """A day that was said."""

    start: int
    end: int
    day: date


@dataclass(frozen=True)
class Clock:
    """A time of day that was said. ``weak`` may as well be a plain number; ``vague`` names only a part of the day."""

    start: int
    end: int
    clock: time
    weak: bool = False
    vague: bool = False


def days(text: str, now: datetime) -> tuple[Day, ...]:
    """Return the days named in ``text``, in order, none overlapping."""
    low, found = text.lower(), list[Day]()
    for form in _DAY_FORMS:
        for match in form.finditer(low):
            if any(match.start() < f.end and f.start < match.end() for f in found):
                continue
            end = match.end()
            try:
                day, end = _day(match, low, now.date())
            except (ValueError, OverflowError):
                continue
            found.append(Day(match.start(), end, day))
    return _without_echoes(sorted(found, key=lambda f: f.start), low)


def _without_echoes(found: list[Day], text: str) -> tuple[Day, ...]:
    """Drop the weekday that only introduces a date: "Friday the 4th of December"."""
    kept = list[Day]()
    for day in found:
        if kept and text[kept[-1].end : day.start].strip(" ,") in {"", "on"}:
            day = replace(day, start=kept.pop().start)  # noqa: PLW2901
        kept.append(day)
    return tuple(kept)


def _day(match: re.Match[str], text: str, today: date) -> tuple[date, int]:
    groups = {k: v for k, v in match.groupdict().items() if v}
    if "month" in groups:
        month = _month(groups["month"])
        year, end = _year(text, match.end())
        return _future(year, month, _ordinal(groups["day"]), today), end
    if "m" in groups:
        year = int(groups.get("y", 0))
        year = year + (1900 if year > today.year % 100 + 20 else 2000) if 0 < year < 100 else year
        return _future(year, int(groups["m"]), int(groups["d"]), today), match.end()
    return _relative(groups, today), match.end()


def _relative(groups: dict[str, str], today: date) -> date:
    if "word" in groups:
        word = groups["word"]
        ahead = {"tomorrow": 1, "yesterday": -1}.get(word, 2 if "after" in word and "tomorrow" in word else 0)
        return today + timedelta(days=ahead)
    if "weekday" in groups or "later" in groups or "after" in groups:
        name = groups.get("weekday") or groups.get("later") or groups["after"]
        wanted = next(i for i, d in enumerate(_DAYS) if d.startswith(name[:3]))
        ahead = (wanted - today.weekday() - 1) % 7 + 1
        return today + timedelta(days=ahead if "weekday" in groups else ahead + 7)
    if "span" in groups:
        raw = groups["count"]
        count = 1 if raw in {"a", "an"} else (small_number(raw) or 0)
        count = -count if "ago" in groups else count
        return _shift(today, count, groups["span"])
    if "coming" in groups:
        first = today - timedelta(days=today.weekday())
        return (
            first + timedelta(days=7)
            if groups["coming"] == "week"
            else _shift(today.replace(day=1), 1, "month")
        )
    return _next_numbered(_ordinal(groups["only"]), today)


def _shift(day: date, count: int, span: str) -> date:
    if span != "month":
        return day + timedelta(days=count * (7 if span == "week" else 1))
    index = day.year * 12 + day.month - 1 + count
    for last in (day.day, 30, 29, 28):
        try:
            return date(index // 12, index % 12 + 1, last)
        except ValueError:
            continue
    raise ValueError("no such month")


def _next_numbered(number: int, today: date) -> date:
    for ahead in range(4):
        month = _shift(today.replace(day=1), ahead, "month")
        try:
            day = month.replace(day=number)
        except ValueError:
            continue
        if day >= today:
            return day
    raise ValueError("no such day")


def _month(text: str) -> int:
    return next(i for i, m in enumerate(_MONTHS, 1) if m.startswith(text[:3]))


def _ordinal(text: str) -> int:
    digits = re.match(r"\d+", text)
    if digits:
        return int(digits.group())
    text = text.replace(" ", "-")
    return _ORDINALS.index(text) + 1 if text in _ORDINALS else (small_number(text.replace("-", " ")) or 0)


def _year(text: str, end: int) -> tuple[int, int]:
    """Return the year said right after a day and month (0 when none was) and where it ends."""
    rest = re.match(r"(?:,|\s|of|in)*", text[end:])
    start = end + (rest.end() if rest else 0)
    for amount in amounts(text[start : start + 40])[:1]:
        if amount.start == 0 and 1900 <= amount.value <= 2100:
            return int(amount.value), start + amount.end
    return 0, end


def _future(year: int, month: int, day: int, today: date) -> date:
    if year:
        return date(year, month, day)
    for ahead in range(9):
        try:
            found = date(today.year + ahead, month, day)
        except ValueError:
            continue
        if found >= today:
            return found
    raise ValueError("no such day")


def clocks(text: str) -> tuple[Clock, ...]:
    """Return the times of day named in ``text``, in order; a part of the day alone gives a vague one."""
    low, found = text.lower(), list[Clock]()
    for form in (*_CLOCK_FORMS, _PAIR):
        for match in form.finditer(low):
            if any(match.start() < f.end and f.start < match.end() for f in found):
                continue
            clock = _clock(match, _part_of_day(low))
            if clock is not None:
                weak = form is _PAIR or bool(match.groupdict().get("weak"))
                found.append(Clock(match.start("h") if weak else match.start(), match.end(), clock, weak))
    strong = [f for f in found if not f.weak]
    part = _PART_FORM.search(low)
    if not found and part is not None:
        hour = next((h for word, h in _PART_HOURS.items() if word in part.group()), 19)
        return (Clock(part.start(), part.end(), time(hour), vague=True),)
    if part is not None:
        found = [replace(f, weak=False) for f in found]
    return tuple(sorted(strong or found, key=lambda f: f.start))


def bare_clock(text: str) -> time | None:
    """Return the time of day that ``text`` is when a time was asked for: "three thirty", "3"."""
    match = _BARE_CLOCK.fullmatch(text.strip().lower().rstrip("."))
    return _clock(match, "") if match else None


def _part_of_day(text: str) -> str:
    part = _PART_FORM.search(text)
    return part.group() if part else ""


def _clock(match: re.Match[str], part: str) -> time | None:
    groups = {k: v for k, v in match.groupdict().items() if v}
    if "name" in groups:
        return time(0 if groups["name"] == "midnight" else 12)
    hour = small_number(groups["h"])
    minute = int(groups.get("m", 0)) if "m" in groups else _minutes(groups.get("mw", ""))
    if hour is None or minute is None:
        return None
    half = groups.get("half", "")[:1] or ("a" if "morning" in part else "p" if part else "")
    if "rel" in groups:
        relative = {"half": 30, "quarter": 15}.get(groups["rel"]) or small_number(groups["rel"]) or 0
        back = groups["way"] in {"to", "before", "of"}
        hour, minute = (hour - 1 if back else hour), (60 - relative if back else relative)
    return _on_the_clock(hour, minute, half, fixed=groups["h"].startswith("0"))


def _on_the_clock(hour: int, minute: int, half: str, *, fixed: bool) -> time | None:
    if not 0 <= hour <= 24 or not 0 <= minute < 60:
        return None
    if half == "p" and hour < 12:
        hour += 12
    elif half == "a" and hour == 12:
        hour = 0
    elif not half and not fixed and 1 <= hour <= 7:
        hour += 12
    return time(hour % 24, minute)


def _minutes(text: str) -> int | None:
    if not text:
        return 0
    value = small_number(text.removeprefix("oh").replace("-", " "))
    return value if value is not None and value < 60 else None
