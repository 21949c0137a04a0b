"""Which slots there are, and which one a caller's wish means. Given hours, holidays and bookings; no clock.

Slots stand on a grid from each opening time in the business's own zone, worked out in UTC, so that a change to or
from daylight saving neither doubles nor loses one. Wishes are read in the caller's zone.

Law: a slot offered is inside opening hours, not on a holiday, not too soon, not too far off, and free.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from parley_common.business_config import Hours

OFFERED_MAX = 3
EARLIEST_BARE_HOUR = 7
"""A bare "3:30" is the afternoon: nobody asks a business for a call before seven."""
WEEKDAYS = (
    "mon(day)?",
    "tue(s(day)?)?",
    "wed(nesday)?",
    "thu(rs?(day)?)?",
    "fri(day)?",
    "sat(urday)?",
    "sun(day)?",
)
PARTS_OF_DAY = {
    "morning": (time(8), time(12)),
    "noon": (time(11, 30), time(13)),
    "midday": (time(11, 30), time(13)),
    "lunch": (time(11, 30), time(13)),
    "afternoon": (time(12), time(17)),
    "evening": (time(17), time(21)),
}
US_ZONES = {
    "eastern": "America/New_York",
    "est": "America/New_York",
    "edt": "America/New_York",
    "et": "America/New_York",
    "central": "America/Chicago",
    "cst": "America/Chicago",
    "cdt": "America/Chicago",
    "ct": "America/Chicago",
    "mountain": "America/Denver",
    "mst": "America/Denver",
    "mdt": "America/Denver",
    "mt": "America/Denver",
    "arizona": "America/Phoenix",
    "pacific": "America/Los_Angeles",
    "pst": "America/Los_Angeles",
    "pdt": "America/Los_Angeles",
    "pt": "America/Los_Angeles",
    "alaska": "America/Anchorage",
    "hawaii": "Pacific/Honolulu",
    "utc": "UTC",
    "gmt": "UTC",
}
_CLOCK = re.compile(r"(\d{1,2})(?:[:.h](\d{2}))?(?::\d{2})?\s*(a\.?m\.?|p\.?m\.?)?", re.IGNORECASE)

Reason = Literal["taken", "closed", "holiday", "away", "outside_hours", "too_soon", "too_far", "any_time"]
Days = tuple[date, date]
"""First and last day, both included."""


@dataclass(frozen=True, slots=True)
class Calendar:
    """When one thing of a business can be booked, and with whom."""

    hours: Hours
    zone: ZoneInfo
    slot: timedelta
    buffer: timedelta
    min_notice: timedelta
    days_ahead: int
    holidays: dict[date, str]
    resources: tuple[str, ...]
    own_hours: Mapping[str, Hours] = field(default_factory=dict)
    """Of resources whose hours are not the business's."""
    away: Mapping[str, tuple[Days, ...]] = field(default_factory=dict)
    step: timedelta | None = None
    """From one slot's start to the next; null: a slot and its buffer, so that slots do not overlap."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A booking: half-open, UTC; ``ends_at`` is the end of the buffer after it."""

    resource: str
    starts_at: datetime
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class Slot:
    """A time that could be booked, and with whom."""

    starts_at: datetime
    ends_at: datetime
    resources: tuple[str, ...]
    """Who is free then, in the declared order."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the caller asked for: a moment (UTC), or a day and perhaps a part of it, in the caller's zone."""

    day: date
    exact: datetime | None = None
    between: tuple[time, time] | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do about a wish: book ``slot``, or offer ``offers`` and say why not."""

    slot: Slot | None
    offers: tuple[Slot, ...] = ()
    reason: Reason | None = None


def zone_named(name: str | None) -> ZoneInfo | None:
    """Return the zone that a caller or a browser names ("Pacific time", "America/Chicago"); null when none is known."""
    if not name:
        return None
    words = re.sub(r"[^a-z ]", "", name.lower()).split()
    known = next((US_ZONES[word] for word in words if word in US_ZONES), None)
    try:
        # Names first: the tz database has a zone "EST", but who says so in July means New York's time.
        return ZoneInfo(known or name.strip())
    except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        return None


def read_day(said: str, today: date) -> date | None:
    """Return the date meant by an ISO date, a weekday's name, today or tomorrow; null when it is none of them.

    A weekday is the next one: on a Tuesday, "Tuesday" is a week ahead.
    """
    text = said.strip().lower()
    if iso := re.match(r"\d{4}-\d{2}-\d{2}", text):
        try:
            return date.fromisoformat(iso[0])
        except ValueError:
            return None
    if "tomorrow" in text:
        return today + timedelta(days=2 if "after" in text else 1)
    if text in ("today", "now", "this morning", "this afternoon", "this evening"):
        return today
    for number, name in enumerate(WEEKDAYS):
        if re.search(rf"\b{name}s?\b", text):
            return today + timedelta(days=(number - today.weekday() - 1) % 7 + 1)
    return None


def read_time(said: str | None) -> time | tuple[time, time] | None:
    """Return a time of day, or a part of the day; null when any time will do or nothing was understood."""
    text = (said or "").strip().lower()
    part = next((PARTS_OF_DAY[word] for word in re.findall(r"[a-z]+", text) if word in PARTS_OF_DAY), None)
    match = _CLOCK.search(text)
    if match is None:
        return part
    hour, minute = int(match[1]), int(match[2] or 0)
    half = (match[3] or "").replace(".", "")
    if half == "pm" or (not half and part and part[0] >= time(12) and hour < 12):
        hour = hour % 12 + 12
    elif half == "am":
        hour %= 12
    elif 1 <= hour < EARLIEST_BARE_HOUR and not match[1].startswith("0"):
        hour += 12
    return time(hour, minute) if hour < 24 and minute < 60 else part


def make_wish(day: date, said_time: time | tuple[time, time] | None, zone: ZoneInfo) -> Wish:
    """Return what a day and a time mean in the caller's zone."""
    if isinstance(said_time, time):
        return Wish(day, exact=datetime.combine(day, said_time, zone).astimezone(UTC))
    return Wish(day, between=said_time)


def slots_on(
    calendar: Calendar, day: date, resource: str | None = None
) -> Iterator[tuple[datetime, datetime]]:
    """Yield every slot of a day in the business's zone, free or not, as UTC start and end.

    Of one resource, or by the business's own hours.
    """
    for opens, closes in _spans(calendar, day, resource):
        starts = _instant(day, opens, calendar.zone)
        last = _instant(day, closes, calendar.zone) - calendar.slot
        while starts <= last:
            yield starts, starts + calendar.slot
            starts += calendar.step or calendar.slot + calendar.buffer


def _spans(calendar: Calendar, day: date, resource: str | None) -> tuple[tuple[time, time], ...]:
    """Return when a day is open, in the business's zone: nothing on a holiday or when the resource is away."""
    if day in calendar.holidays or _is_away(calendar, day, resource):
        return ()
    hours = calendar.own_hours.get(resource or "", calendar.hours)
    return hours.on(day.weekday())


def _is_away(calendar: Calendar, day: date, resource: str | None) -> bool:
    return any(first <= day <= last for first, last in calendar.away.get(resource or "", ()))


def _open_spans(calendar: Calendar, day: date) -> list[tuple[time, time]]:
    """Return the spans of everybody together."""
    return [span for resource in calendar.resources for span in _spans(calendar, day, resource)]


def _instant(day: date, at: time, zone: ZoneInfo) -> datetime:
    """Return the UTC moment of a wall time; one that the clock skips becomes the moment after the skip."""
    return datetime.combine(day, at, zone).astimezone(UTC)


def free_slots(calendar: Calendar, taken: Collection[Taken], now: datetime) -> Iterator[Slot]:
    """Yield the free slots in order, from the notice time to the last day that may be booked."""
    earliest = now + calendar.min_notice
    today = now.astimezone(calendar.zone).date()
    for ahead in range(calendar.days_ahead + 1):
        free: dict[tuple[datetime, datetime], list[str]] = {}
        for name in calendar.resources:
            for starts, ends in slots_on(calendar, today + timedelta(days=ahead), name):
                if starts >= earliest and not _clashes(name, starts, ends + calendar.buffer, taken):
                    free.setdefault((starts, ends), []).append(name)
        for starts, ends in sorted(free):
            yield Slot(starts, ends, tuple(free[starts, ends]))


def _clashes(resource: str, starts: datetime, blocked_until: datetime, taken: Collection[Taken]) -> bool:
    return any(
        each.resource == resource and each.starts_at < blocked_until and starts < each.ends_at
        for each in taken
    )


def plan(
    calendar: Calendar, taken: Collection[Taken], wish: Wish, now: datetime, caller_zone: ZoneInfo
) -> Plan:
    """Return the slot that is exactly what was wished, or up to three near it and why not that one."""
    free = list(free_slots(calendar, taken, now))
    if wish.exact is not None:
        match = next((slot for slot in free if slot.starts_at == wish.exact), None)
        if match:
            return Plan(match)
        return Plan(None, _nearest(free, wish.exact), _why_not(calendar, wish.exact, now))
    on_day = [slot for slot in free if slot.starts_at.astimezone(caller_zone).date() == wish.day]
    fitting = [slot for slot in on_day if _within(slot, wish.between, caller_zone)]
    if fitting:
        return Plan(None, tuple(fitting[:OFFERED_MAX]), "any_time")
    moment = datetime.combine(wish.day, wish.between[0] if wish.between else time(12), caller_zone)
    reason = "outside_hours" if on_day else _why_no_day(calendar, wish.day, now)
    return Plan(None, _nearest(on_day or free, moment.astimezone(UTC)), reason)


def _within(slot: Slot, between: tuple[time, time] | None, zone: ZoneInfo) -> bool:
    return between is None or between[0] <= slot.starts_at.astimezone(zone).time() < between[1]


def _nearest(free: list[Slot], moment: datetime) -> tuple[Slot, ...]:
    near = sorted(free, key=lambda slot: abs(slot.starts_at - moment))[:OFFERED_MAX]
    return tuple(sorted(near, key=lambda slot: slot.starts_at))


def _why_not(calendar: Calendar, moment: datetime, now: datetime) -> Reason:
    local = moment.astimezone(calendar.zone)
    whole_day = _why_no_day(calendar, local.date(), now)
    if whole_day != "taken":
        return whole_day
    spans = _open_spans(calendar, local.date())
    if not any(opens <= local.time() < closes for opens, closes in spans):
        return "outside_hours"
    return "too_soon" if moment < now + calendar.min_notice else "taken"


def _why_no_day(calendar: Calendar, day: date, now: datetime) -> Reason:
    """Return why nothing of a day can be had; ``taken`` when the day itself is fine."""
    today = now.astimezone(calendar.zone).date()
    if day < today:
        return "too_soon"
    if day > today + timedelta(days=calendar.days_ahead):
        return "too_far"
    if day in calendar.holidays:
        return "holiday"
    if _open_spans(calendar, day):
        return "taken"
    return "away" if any(_is_away(calendar, day, name) for name in calendar.resources) else "closed"


def spoken_moment(moment: datetime, zone: ZoneInfo) -> str:
    """Return a moment as it is said: "Tuesday, January 6 at 3:30 PM"."""
    local = moment.astimezone(zone)
    hour = local.hour % 12 or 12
    minutes = f":{local.minute:02}" if local.minute else ""
    half = "AM" if local.hour < 12 else "PM"
    return f"{local:%A}, {local:%B} {local.day} at {hour}{minutes} {half}"


def spoken_zone(zone: ZoneInfo) -> str:
    """Return a zone as it is said: "Pacific time"."""
    said = next((word for word, name in US_ZONES.items() if name == zone.key and len(word) > 4), None)
    if said:
        return f"{said.capitalize()} time"
    return "UTC" if zone.key == "UTC" else f"{zone.key.rsplit('/', 1)[-1].replace('_', ' ')} time"
