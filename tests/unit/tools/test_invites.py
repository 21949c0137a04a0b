"""The calendar invite of a booking: read back by the calendar library, its zone right, its identity stable."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import icalendar
import pytest

from parley_common.invites import Invite, booking_times, ics

STARTS = datetime(2026, 3, 9, 16, 0, tzinfo=UTC)
INVITE = Invite(
    uid="booking-1",
    sequence=2,
    starts_at=STARTS,
    ends_at=STARTS + timedelta(minutes=30),
    time_zone="America/Los_Angeles",
    summary="Call with Harborlight Lending",
    made_at=datetime(2026, 1, 5, 17, 0, tzinfo=UTC),
    organizer_name="Harborlight Lending",
    organizer_email="desk@harborlight.example.com",
    attendee_name="Daniel Cooper",
    attendee_email="daniel.cooper@example.com",
)


def read(invite: Invite) -> tuple[Any, Any]:
    calendar: Any = icalendar.Calendar.from_ical(ics(invite))
    (event,) = calendar.walk("VEVENT")
    return calendar, event


def test_an_invite_says_when_in_the_zone_the_caller_was_told_with_that_zones_rules() -> None:
    calendar, event = read(INVITE)
    assert (calendar["VERSION"], calendar["METHOD"]) == ("2.0", "REQUEST")
    assert event["DTSTART"].params["TZID"] == "America/Los_Angeles"
    assert event.decoded("DTSTART").isoformat() == "2026-03-09T09:00:00-07:00"
    assert event.decoded("DTEND") - event.decoded("DTSTART") == timedelta(minutes=30)
    assert [str(zone["TZID"]) for zone in calendar.walk("VTIMEZONE")] == ["America/Los_Angeles"]
    assert event["ATTENDEE"] == "mailto:daniel.cooper@example.com"
    assert event["ORGANIZER"].params["CN"] == "Harborlight Lending"


def test_a_file_has_crlf_lines_of_at_most_75_bytes() -> None:
    raw = ics(replace(INVITE, description="Ü" * 200, location="Pier 5"))
    assert raw.count(b"\n") == raw.count(b"\r\n") > 10
    assert max(len(line) for line in raw.split(b"\r\n")) <= 75


def test_a_cancellation_is_the_same_entry_with_a_later_sequence() -> None:
    _, before = read(INVITE)
    calendar, after = read(replace(INVITE, sequence=3, is_cancelled=True))
    assert (calendar["METHOD"], after["STATUS"]) == ("CANCEL", "CANCELLED")
    assert after["UID"] == before["UID"] == "booking-1@parley"
    assert after["SEQUENCE"] > before["SEQUENCE"]


def test_what_a_caller_said_cannot_write_lines_of_its_own() -> None:
    evil = 'Ann"\r\nATTENDEE:mailto:evil@example.com\r\nX:;,\\'
    raw = ics(replace(INVITE, summary=evil, attendee_name=evil, description=evil, location=evil))
    assert b"\r\nATTENDEE:mailto:evil" not in raw
    calendar: Any = icalendar.Calendar.from_ical(raw)
    (event,) = calendar.walk("VEVENT")
    assert event["ATTENDEE"] == "mailto:daniel.cooper@example.com"
    assert str(event["DESCRIPTION"]).startswith('Ann"')


def test_without_an_address_nobody_is_invited_but_the_entry_can_be_put_in() -> None:
    _, event = read(replace(INVITE, attendee_email=None))
    assert "ATTENDEE" not in event


@pytest.mark.parametrize(
    "changes",
    [
        {"starts_at": datetime(2026, 3, 9)},  # noqa: DTZ001 - it is what must be refused
        {"ends_at": STARTS},
        {"time_zone": "Moon/Sea"},
        {"time_zone": "../etc/passwd"},
    ],
)
def test_an_invite_that_means_no_time_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"zone|ends after"):
        ics(replace(INVITE, **changes))


def test_the_booking_in_a_cases_details_is_found_when_it_is_whole() -> None:
    details = {
        "starts_at": "2026-03-09T09:00:00-07:00",
        "ends_at": "2026-03-09T09:30:00-07:00",
        "time_zone": "America/Los_Angeles",
        "other": 1,
    }
    found = booking_times(details)
    assert found is not None
    assert (found[0], found[2]) == (STARTS, "America/Los_Angeles")
    assert booking_times({**details, "starts_at": "2026-03-09T09:00:00"}) is None
    assert booking_times({**details, "ends_at": 7}) is None
    assert booking_times({}) is None
