"""Which slots there are and what a wish means: hours, notice, holidays, bookings, zones, daylight saving."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_common.business_config import Hours
from parley_tools.rules.slots import (
    Calendar,
    Taken,
    free_slots,
    make_wish,
    plan,
    read_day,
    read_time,
    slots_on,
    spoken_moment,
    spoken_zone,
    zone_named,
)

PACIFIC = ZoneInfo("America/Los_Angeles")
EASTERN = ZoneInfo("America/New_York")
MONDAY_9 = datetime(2026, 1, 5, 17, 0, tzinfo=UTC)  # 9:00 in Los Angeles
CALENDAR = Calendar(
    hours=Hours(
        monday=("09:00-12:00", "13:00-17:00"),
        tuesday=("09:00-17:00",),
        sunday=("00:00-06:00",),
        friday=("09:00-10:00",),
    ),
    zone=PACIFIC,
    slot=timedelta(minutes=30),
    buffer=timedelta(0),
    min_notice=timedelta(hours=2),
    days_ahead=14,
    holidays={date(2026, 1, 12): "a holiday"},
    resources=("Ann", "Bob"),
)


def local(day: date, zone: ZoneInfo = PACIFIC, calendar: Calendar = CALENDAR) -> list[str]:
    return [f"{starts.astimezone(zone):%H:%M}" for starts, _ in slots_on(calendar, day)]


def test_slots_fill_the_opening_hours_and_not_the_break() -> None:
    assert local(date(2026, 1, 5)) == [
        *("09:00", "09:30", "10:00", "10:30", "11:00", "11:30"),
        *("13:00", "13:30", "14:00", "14:30", "15:00", "15:30", "16:00", "16:30"),
    ]
    assert local(date(2026, 1, 7)) == []
    assert local(date(2026, 1, 12)) == []


def test_a_buffer_stands_between_slots_and_the_last_one_ends_by_closing_time() -> None:
    spaced = replace(CALENDAR, buffer=timedelta(minutes=15), slot=timedelta(minutes=50))
    assert local(date(2026, 1, 5), calendar=spaced)[:3] == ["09:00", "10:05", "11:10"]
    assert local(date(2026, 1, 9), calendar=spaced) == ["09:00"]


def test_the_hour_that_daylight_saving_skips_has_no_slots_and_the_doubled_hour_has_both() -> None:
    # 2026-03-08: 02:00 becomes 03:00; 2026-11-01: 02:00 becomes 01:00. Both are Sundays, open 00:00 to 06:00.
    spring, autumn = local(date(2026, 3, 8)), local(date(2026, 11, 1))
    assert spring == [
        "00:00",
        "00:30",
        "01:00",
        "01:30",
        *[f"0{h}:{m}" for h in (3, 4, 5) for m in ("00", "30")],
    ]
    assert len(autumn) == 14
    assert autumn.count("01:00") == autumn.count("01:30") == 2


def test_a_nine_o_clock_slot_is_nine_o_clock_before_and_after_the_change() -> None:
    before = next(slots_on(CALENDAR, date(2026, 3, 6)))[0]
    after = next(slots_on(CALENDAR, date(2026, 3, 9)))[0]
    assert (before.hour, after.hour) == (17, 16)
    assert before.astimezone(PACIFIC).hour == after.astimezone(PACIFIC).hour == 9


def test_nothing_is_free_before_the_notice_time_or_after_the_last_day() -> None:
    free = list(free_slots(CALENDAR, [], MONDAY_9))
    assert free[0].starts_at == MONDAY_9 + timedelta(hours=2)
    assert free[-1].starts_at <= MONDAY_9 + timedelta(days=15)
    assert all(slot.resources == ("Ann", "Bob") for slot in free)


def test_a_booking_takes_its_person_and_only_the_second_one_the_slot() -> None:
    ten = datetime(2026, 1, 6, 18, 0, tzinfo=UTC)
    ann = Taken("Ann", ten, ten + timedelta(minutes=30))
    bob = Taken("Bob", ten + timedelta(minutes=29), ten + timedelta(minutes=59))
    by_start = {slot.starts_at: slot.resources for slot in free_slots(CALENDAR, [ann, bob], MONDAY_9)}
    assert ten not in by_start
    assert by_start[ten + timedelta(minutes=30)] == ("Ann",)
    assert by_start[ten - timedelta(minutes=30)] == ("Ann", "Bob")


@pytest.mark.parametrize(
    ("day", "at", "reason"),
    [
        ("2026-01-06", "08:00", "outside_hours"),
        ("2026-01-05", "12:00", "outside_hours"),
        ("2026-01-05", "09:30", "too_soon"),
        ("2026-01-06", "10:10", "taken"),
        ("2026-01-07", "10:00", "closed"),
        ("2026-01-12", "10:00", "holiday"),
        ("2026-03-02", "10:00", "too_far"),
        ("2025-12-30", "10:00", "too_soon"),
    ],
)
def test_a_wish_that_cannot_be_met_has_its_reason_and_up_to_three_others_near_it(
    day: str, at: str, reason: str
) -> None:
    wish = make_wish(date.fromisoformat(day), time.fromisoformat(at), PACIFIC)
    planned = plan(CALENDAR, [], wish, MONDAY_9, PACIFIC)
    assert (planned.slot, planned.reason, len(planned.offers)) == (None, reason, 3)
    starts = [slot.starts_at for slot in planned.offers]
    assert starts == sorted(starts)


def test_a_wish_is_read_in_the_callers_zone() -> None:
    wish = make_wish(date(2026, 1, 6), time(15, 30), EASTERN)
    planned = plan(CALENDAR, [], wish, MONDAY_9, EASTERN)
    assert planned.slot is not None
    assert planned.slot.starts_at.astimezone(PACIFIC).time() == time(12, 30)


def test_a_wish_without_a_time_gets_three_of_that_day_and_a_part_of_the_day_is_kept_to() -> None:
    any_time = plan(CALENDAR, [], make_wish(date(2026, 1, 6), None, PACIFIC), MONDAY_9, PACIFIC)
    assert [f"{s.starts_at.astimezone(PACIFIC):%d %H:%M}" for s in any_time.offers] == [
        "06 09:00",
        "06 09:30",
        "06 10:00",
    ]
    afternoon = make_wish(date(2026, 1, 6), read_time("in the afternoon"), PACIFIC)
    offers = plan(CALENDAR, [], afternoon, MONDAY_9, PACIFIC).offers
    assert f"{offers[0].starts_at.astimezone(PACIFIC):%H:%M}" == "12:00"
    evening = make_wish(date(2026, 1, 6), read_time("evening"), PACIFIC)
    assert plan(CALENDAR, [], evening, MONDAY_9, PACIFIC).reason == "outside_hours"


def test_when_everything_is_taken_nothing_is_offered() -> None:
    closed = replace(CALENDAR, hours=Hours())
    planned = plan(closed, [], make_wish(date(2026, 1, 6), None, PACIFIC), MONDAY_9, PACIFIC)
    assert (planned.slot, planned.offers) == (None, ())


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("2026-03-14", "2026-03-14"),
        ("2026-03-14T10:00", "2026-03-14"),
        ("today", "2026-01-05"),
        ("tomorrow morning", "2026-01-06"),
        ("the day after tomorrow", "2026-01-07"),
        ("Tuesday", "2026-01-06"),
        ("next Tues", "2026-01-06"),
        ("Monday", "2026-01-12"),
        ("on Sunday", "2026-01-11"),
        ("2026-02-30", None),
        ("next month", None),
        ("whenever", None),
    ],
)
def test_days_are_read_as_people_and_models_say_them(said: str, expected: str | None) -> None:
    day = read_day(said, date(2026, 1, 5))
    assert (day.isoformat() if day else None) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("15:30", time(15, 30)),
        ("3:30 pm", time(15, 30)),
        ("3:30 p.m.", time(15, 30)),
        ("3:30", time(15, 30)),
        ("03:30", time(3, 30)),
        ("12 am", time(0)),
        ("12 pm", time(12)),
        ("9", time(9)),
        ("3 in the afternoon", time(15)),
        ("10 in the morning", time(10)),
        ("15:30:00", time(15, 30)),
        ("morning", (time(8), time(12))),
        ("25:00", None),
        ("whenever", None),
        ("", None),
        (None, None),
    ],
)
def test_times_are_read_as_people_and_models_say_them(said: str | None, expected: object) -> None:
    assert read_time(said) == expected


@given(st.text(max_size=40))
def test_nothing_that_is_said_breaks_the_reading(said: str) -> None:
    read_time(said)
    read_day(said, date(2026, 1, 5))
    zone_named(said)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("America/Chicago", "America/Chicago"),
        ("Eastern", "America/New_York"),
        ("pacific time", "America/Los_Angeles"),
        ("EST", "America/New_York"),
        ("Europe/Berlin", "Europe/Berlin"),
        ("../etc/passwd", None),
        ("America", None),
        ("the moon", None),
        (None, None),
    ],
)
def test_zones_are_known_by_their_names_and_by_what_americans_call_them(
    said: str | None, expected: str | None
) -> None:
    zone = zone_named(said)
    assert (zone.key if zone else None) == expected


def test_moments_are_said_as_people_say_them() -> None:
    moment = datetime(2026, 1, 6, 23, 30, tzinfo=UTC)
    assert spoken_moment(moment, PACIFIC) == "Tuesday, January 6 at 3:30 PM"
    assert spoken_moment(moment, EASTERN) == "Tuesday, January 6 at 6:30 PM"
    assert spoken_moment(datetime(2026, 1, 6, 17, tzinfo=UTC), PACIFIC) == "Tuesday, January 6 at 9 AM"
    assert (spoken_zone(PACIFIC), spoken_zone(ZoneInfo("Europe/Berlin"))) == ("Pacific time", "Berlin time")
