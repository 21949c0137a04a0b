"""Calendar invites in e-mails about bookings: who gets one, what stands in it, and how it travels."""

from __future__ import annotations

import email
import email.policy
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from icalendar import Calendar

from harness.maildir import mails
from parley_common.clock import ManualClock
from parley_common.contracts.cases import CaseUpdated
from parley_common.contracts.leads import LeadCallScheduled
from parley_common.contracts.record import Fact, to_json
from parley_notify.channels.email import EmailChannel
from parley_notify.channels.maildir import MaildirOffice
from parley_notify.channels.outcome import Delivered
from parley_notify.invitations import invite_of
from parley_notify.letters import Letter, Letters
from parley_notify.settings import parse_sender
from unit.notify.samples import (
    AT,
    CASE,
    DANA,
    LEAD,
    bare_facts,
    business,
    delivery,
    full_facts,
    opened,
    route,
)

SENDER = parse_sender("Harbor Lending <cap@harbor.example.com>")
LETTER = Letter("Call booked: Dana Reyes", "text", "html")
TIMES = {
    "starts_at": "2026-01-06T09:00:00-06:00",
    "ends_at": "2026-01-06T09:30:00-06:00",
    "time_zone": "America/Chicago",
}


def call(**changes: Any) -> LeadCallScheduled:
    (sample,) = [fact for fact in full_facts() if isinstance(fact, LeadCallScheduled)]
    return sample.model_copy(update=changes)


def event_of(fact: Fact) -> tuple[Any, str] | None:
    found = invite_of(delivery(fact), to_json(fact).decode(), LETTER, SENDER)
    if found is None:
        return None
    calendar = Calendar.from_ical(found[0])
    (event,) = calendar.walk("VEVENT")
    assert str(calendar["METHOD"]) == found[1]
    return event, found[1]


def test_a_booked_call_invites_the_desk() -> None:
    found = event_of(call(seq=4))
    assert found is not None
    event, method = found
    assert method == "REQUEST"
    assert (str(event["UID"]), event["SEQUENCE"]) == (f"{LEAD}@parley", 4)
    assert event["DTSTART"].dt == AT + timedelta(days=1)
    assert str(event["ATTENDEE"]) == "mailto:sales@example.com"
    assert str(event["ORGANIZER"]) == "mailto:cap@harbor.example.com"
    assert "Call with Dana Reyes" in str(event["SUMMARY"])
    assert str(DANA.phone) in str(event["DESCRIPTION"])


def test_a_moved_and_a_cancelled_call_are_the_entry_that_the_calendar_has() -> None:
    """The booking has another id by then; the lead's is what stays."""
    booked, moved = event_of(call(seq=3)), event_of(call(seq=4, booking_id="BK-2", status="moved"))
    cancelled = event_of(call(seq=5, booking_id="BK-2", status="cancelled"))
    assert booked is not None
    assert moved is not None
    assert cancelled is not None
    assert booked[0]["UID"] == moved[0]["UID"] == cancelled[0]["UID"]
    assert [each[0]["SEQUENCE"] for each in (booked, moved, cancelled)] == [3, 4, 5]
    assert (cancelled[1], str(cancelled[0]["STATUS"])) == ("CANCEL", "CANCELLED")


def test_a_case_about_a_booking_invites_too_and_any_other_does_not() -> None:
    found = event_of(opened(details={**TIMES, "with_whom": "Dr. Okafor"}, summary="Check-up"))
    assert found is not None
    assert str(found[0]["UID"]) == f"{CASE}@parley"
    assert str(found[0]["SUMMARY"]) == "Check-up"
    assert "With Dr. Okafor" in str(found[0]["DESCRIPTION"])
    assert event_of(opened()) is None
    values = {"case_id": CASE, "seq": 2, "business": "harbor", "at": AT, "kind": "x", "summary": "s"}
    updated = CaseUpdated.model_validate(values | {"status": "moved", "details": TIMES})
    assert event_of(updated) is not None


@pytest.mark.parametrize(
    "changes",
    [{"time_zone": "Nowhere/Unknown"}, {"ends_at": AT + timedelta(days=1)}, {"ends_at": AT}],
)
def test_a_booking_that_makes_no_sense_costs_the_invite_and_not_the_letter(changes: dict[str, Any]) -> None:
    assert event_of(call(**changes)) is None


def test_every_bare_fact_is_survived() -> None:
    assert [event_of(fact) for fact in bare_facts()] == [None] * len(bare_facts())


async def sent(fact: Fact, tmp_path: Path) -> EmailMessage:
    letters = Letters({"harbor": business(tmp_path / "businesses", route())})
    channel = EmailChannel(letters, MaildirOffice(tmp_path / "mail"), sender=SENDER, clock=ManualClock())
    assert await channel.send(delivery(fact)) == Delivered()
    (file,) = (tmp_path / "mail" / "new").iterdir()
    content = file.read_bytes()
    assert content.isascii()
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


async def test_the_invite_travels_as_an_alternative_and_as_a_file(tmp_path: Path) -> None:
    message = await sent(call(), tmp_path)
    parts = [part.get_content_type() for part in message.walk() if not part.is_multipart()]
    assert parts == ["text/plain", "text/html", "text/calendar", "application/ics"]
    offered = next(part for part in message.walk() if part.get_content_type() == "text/calendar")
    assert offered.get_param("method") == "REQUEST"
    assert offered.get_content_charset() == "utf-8"
    file = next(part for part in message.walk() if part.get_content_type() == "application/ics")
    assert file.get_filename() == "invite.ics"
    assert Calendar.from_ical(file.get_content()).walk("VEVENT")
    assert Calendar.from_ical(offered.get_content()).walk("VEVENT")


async def test_a_letter_about_anything_else_has_no_file(tmp_path: Path) -> None:
    assert (await sent(opened(), tmp_path)).get_content_type() == "multipart/alternative"
    assert len(mails(tmp_path / "mail")) == 1
