"""Decides whether a letter carries a calendar invite, and what stands in it. PURE.

Closing a case takes out the entry that its letters put in (standing.py).

The entry's id is the lead's or case's: a booking that is moved is a new booking with a new id, and a calendar must
change the entry that it has.

Law: a booking that cannot be read costs the invite, never the letter.
"""

from __future__ import annotations

import json
from email.headerregistry import Address

from parley_common.contracts.cases import CaseClosed, CaseOpened, CaseUpdated
from parley_common.contracts.facts import BY_TYPE
from parley_common.contracts.leads import LeadCallScheduled
from parley_common.contracts.people import Person
from parley_common.contracts.record import Fact, read_contract
from parley_common.invites import Invite, booking_times, ics
from parley_notify.delivery import Delivery
from parley_notify.letters import Letter, label


def invite_of(delivery: Delivery, payload: str, letter: Letter, sender: Address) -> tuple[bytes, str] | None:
    """Return the .ics file and its method of the booking that a fact is about; null when it is about none."""
    fact = read_contract(BY_TYPE[delivery.fact_type], payload.encode())
    invite = _invite(fact, delivery, letter, sender)
    if invite is None:
        return None
    try:
        return ics(invite), invite.method
    except ValueError:  # an end before the start, a zone that this machine does not know
        return None


def _invite(fact: Fact, delivery: Delivery, letter: Letter, sender: Address) -> Invite | None:
    match fact:
        case LeadCallScheduled():
            times = (fact.starts_at, fact.ends_at, fact.time_zone)
            summary = f"Call with {fact.person.name or 'name not given'}"
            whom, cancelled = fact.with_whom, fact.status == "cancelled"
        case CaseOpened() | CaseUpdated():
            found = booking_times(fact.details)
            if found is None:
                return None
            times, summary = found, fact.summary
            told = fact.details.get("with_whom")
            whom, cancelled = (
                told if isinstance(told, str) else None,
                getattr(fact, "status", "") == "cancelled",
            )
        case CaseClosed():
            found = booking_times(json.loads(delivery.booking or "{}"))
            if found is None:
                return None
            # Nothing of what the booking was about: its person may have been erased since.
            times, summary, whom, cancelled = found, label(fact.kind), None, True
        case _:
            return None
    person = fact.person or Person()
    lines = [person.name, person.phone, person.email, f"With {whom}" if whom else None]
    return Invite(
        uid=delivery.subject_id,
        sequence=delivery.seq,
        starts_at=times[0],
        ends_at=times[1],
        time_zone=times[2],
        summary=summary,
        made_at=delivery.fact_time,
        organizer_name=sender.display_name or sender.addr_spec,
        organizer_email=sender.addr_spec,
        attendee_email=delivery.destination,
        description="\n".join([letter.subject, *filter(None, lines)]),
        is_cancelled=cancelled,
    )
