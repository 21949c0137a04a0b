"""Makes the calendar invite of a booking: the bytes of an .ics file that calendars put in, move and take out.

The same booking always has the same UID, and a later fact about it a higher SEQUENCE, so that a calendar changes the
entry it has rather than making a second one. Does not send anything.

Source: RFC 5545 (iCalendar) sections 3.6.1, 3.8.4.7 and 3.8.7.4; RFC 5546 (iTIP) section 3.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from icalendar import Calendar, Event, vCalAddress, vText

PRODUCT = "-//Parley//Bookings//EN"
CONTENT_TYPE = "text/calendar"
Method = Literal["REQUEST", "CANCEL"]


@dataclass(frozen=True, slots=True)
class Invite:
    """What stands in someone's calendar."""

    uid: str
    """The booking's id: the same when it is moved or cancelled, if it is to be the same entry."""
    sequence: int
    """The seq of the fact it comes from: higher is later."""
    starts_at: datetime
    ends_at: datetime
    time_zone: str
    """IANA name: the one its caller was told the time in."""
    summary: str
    made_at: datetime
    organizer_name: str
    organizer_email: str
    attendee_name: str | None = None
    attendee_email: str | None = None
    """Null: nobody is invited; the entry can still be put in by hand."""
    description: str | None = None
    location: str | None = None
    is_cancelled: bool = False

    @property
    def method(self) -> Method:
        """Return what the mail's Content-Type names as ``method``."""
        return "CANCEL" if self.is_cancelled else "REQUEST"


def ics(invite: Invite) -> bytes:
    """Return the .ics file of an invite: UTF-8, CRLF, the zone's rules in it.

    Raises:
        ValueError: a moment without a zone, an end before the start, or a zone nobody knows.
    """
    zone = _zone(invite)
    event = Event()
    event.add("uid", f"{invite.uid}@parley")
    event.add("sequence", invite.sequence)
    event.add("dtstamp", invite.made_at)
    event.add("dtstart", invite.starts_at.astimezone(zone))
    event.add("dtend", invite.ends_at.astimezone(zone))
    event.add("summary", _line(invite.summary))
    event.add("status", "CANCELLED" if invite.is_cancelled else "CONFIRMED")
    event.add("transp", "OPAQUE")
    event.add("organizer", _address(invite.organizer_email, invite.organizer_name))
    if invite.attendee_email:
        attendee = _address(invite.attendee_email, invite.attendee_name)
        attendee.params["ROLE"] = vText("REQ-PARTICIPANT")
        attendee.params["RSVP"] = vText("FALSE")
        event.add("attendee", attendee)
    for name, words in (("description", invite.description), ("location", invite.location)):
        if words:
            event.add(name, words)
    calendar = Calendar()
    calendar.add("prodid", PRODUCT)
    calendar.add("version", "2.0")
    calendar.add("method", invite.method)
    calendar.add_component(event)
    calendar.add_missing_timezones()
    return bytes(calendar.to_ical())


def booking_times(details: Mapping[str, Any]) -> tuple[datetime, datetime, str] | None:
    """Return start, end and zone of the booking that a case's details carry; null when they carry none."""
    try:
        starts_at = datetime.fromisoformat(details["starts_at"])
        ends_at = datetime.fromisoformat(details["ends_at"])
        zone = str(details["time_zone"])
    except (KeyError, TypeError, ValueError):
        return None
    return (starts_at, ends_at, zone) if starts_at.tzinfo and ends_at.tzinfo else None


def _zone(invite: Invite) -> ZoneInfo:
    for moment in (invite.starts_at, invite.ends_at, invite.made_at):
        if moment.tzinfo is None:
            raise ValueError("a moment without a zone means nothing")
    if invite.ends_at <= invite.starts_at:
        raise ValueError("an invite ends after it starts")
    try:
        return ZoneInfo(invite.time_zone)
    except (ZoneInfoNotFoundError, OSError, ValueError) as wrong:
        raise ValueError(f"no such time zone: {invite.time_zone}") from wrong


def _address(email: str, name: str | None) -> vCalAddress:
    address = vCalAddress(f"mailto:{_line(email)}")
    if name:
        # Quotes and control characters have no place in a parameter: RFC 5545 section 3.2.
        address.params["CN"] = vText(_line(name).replace('"', "'"))
    return address


def _line(words: str) -> str:
    return " ".join(words.split())
