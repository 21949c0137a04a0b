"""Days and times of day are read relative to the view's now."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_understudy.brain.dates import bare_clock, clocks, days

NOW = datetime(2026, 11, 22, 19, 0, tzinfo=UTC)  # a Sunday


@pytest.mark.parametrize(
    ("said", "day"),
    [
        ("today", "2026-11-22"),
        ("tomorrow morning", "2026-11-23"),
        ("the day after tomorrow", "2026-11-24"),
        ("next Tuesday", "2026-11-24"),
        ("on Sunday", "2026-11-29"),
        ("a week from Friday", "2026-12-04"),
        ("in two weeks", "2026-12-06"),
        ("three days from now", "2026-11-25"),
        ("the 5th of June", "2027-06-05"),
        ("June fifth", "2027-06-05"),
        ("December twenty third", "2026-12-23"),
        ("5 June 2028", "2028-06-05"),
        ("March third nineteen eighty five", "1985-03-03"),
        ("03/14/1985", "1985-03-14"),
        ("12/01", "2026-12-01"),
        ("2026-12-01", "2026-12-01"),
        ("the fifth", "2026-12-05"),
        ("Friday the 4th of December", "2026-12-04"),
        ("yesterday", "2026-11-21"),
        ("in a month", "2026-12-22"),
        ("next month", "2026-12-01"),
    ],
)
def test_each_way_of_naming_a_day_is_read(said: str, day: str) -> None:
    assert [d.day.isoformat() for d in days(said, NOW)] == [day]


@pytest.mark.parametrize(
    ("said", "clock"),
    [
        ("three thirty in the afternoon", "15:30"),
        ("3:30 pm", "15:30"),
        ("at 3:30 in the afternoon", "15:30"),
        ("15:30", "15:30"),
        ("half past four", "16:30"),
        ("quarter to nine", "08:45"),
        ("five to three", "14:55"),
        ("eight fifteen am", "08:15"),
        ("11 a.m.", "11:00"),
        ("two o'clock", "14:00"),
        ("noon", "12:00"),
        ("midnight", "00:00"),
        ("at ten", "10:00"),
        ("tomorrow evening", "18:00"),
    ],
)
def test_each_way_of_naming_a_time_is_read(said: str, clock: str) -> None:
    assert [c.clock.strftime("%H:%M") for c in clocks(said)] == [clock]


@pytest.mark.parametrize("said", ["February 30", "within two years", "the second one", "1/99", "nothing"])
def test_what_names_no_day_gives_none(said: str) -> None:
    assert days(said, NOW) == ()


@pytest.mark.parametrize("said", ["a rate of 7.25", "at 7 percent", "at 300 thousand", "at 25 dollars"])
def test_a_number_is_not_taken_for_a_time(said: str) -> None:
    assert clocks(said) == ()


def test_a_bare_hour_is_weak_and_a_part_of_the_day_vague() -> None:
    assert clocks("at nine")[0].weak
    assert clocks("in the morning")[0].vague
    assert not clocks("at nine in the morning")[0].weak


def test_an_answer_may_be_nothing_but_a_time() -> None:
    assert bare_clock("three thirty") == time(15, 30)
    assert bare_clock("the blue one") is None


@given(st.integers(1, 300))
def test_a_date_said_in_full_is_that_date(ahead: int) -> None:
    day = NOW.date() + timedelta(days=ahead)
    assert [d.day for d in days(f"on {day:%B} {day.day}, {day.year}", NOW)] == [day]


@given(st.text(), st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1)))  # noqa: DTZ001
def test_reading_days_never_raises(text: str, now: datetime) -> None:
    assert all(isinstance(d.day, date) for d in days(text, now))
    assert all(isinstance(c.clock, time) for c in clocks(text))
