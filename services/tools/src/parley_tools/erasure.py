"""Removes what the tools database knows of a person in one business, and remembers that it did, by hash.

The lead with its history and identities goes; cases keep their kind, status and reference but nobody's details; what
is still to come is cancelled; stored results of the person's sessions are replaced, so that no repeat gets them.
Records of kits are not searched: a kit that keeps people in records removes them itself. What Kafka has until its
retention, and what consumers must do about it, is said by the fact this emits.

Law: one unit of work; running it twice is the same as once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import CursorResult, delete, or_, select, update
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from parley_common.contracts.leads import LeadErased
from parley_common.contracts.people import Person
from parley_common.outbox import Outbox
from parley_tools.bookings import BOOKED, CANCELLED
from parley_tools.leads import contact_marks
from parley_tools.outcomes import SAY_FAILED, Outcome
from parley_tools.store import (
    OUTBOX,
    Booking,
    Case,
    ErasedSubject,
    Lead,
    LeadHistory,
    LeadIdentity,
    ToolCallRow,
)

ERASED = "(erased)"


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose data is to be removed: any of these. E-mail and phone in their normal forms."""

    email: str | None = None
    phone: str | None = None
    lead_id: str | None = None


@dataclass(frozen=True, slots=True)
class Erased:
    """What was removed."""

    lead_ids: tuple[str, ...]
    case_count: int
    booking_count: int = 0
    """Bookings to come that were cancelled."""
    result_count: int = 0
    """Stored results of tool calls in this person's sessions."""


async def erase(db: AsyncSession, outbox: Outbox, business: str, subject: Subject, now: datetime) -> Erased:
    """Remove a person's data; emits LeadErased for each lead they had."""
    leads = await _leads(db, business, subject)
    people = [Person(email=lead.email, phone=lead.phone) for lead in leads]
    people.append(Person(email=subject.email, phone=subject.phone))
    sessions = await _sessions(db, leads)
    booking_count = 0
    for lead in leads:
        marks = contact_marks(business, Person(email=lead.email, phone=lead.phone))
        await _remember(db, business, marks, lead.lead_id, now)
        booking_count += await _remove(db, lead, now)
        fact = LeadErased(
            lead_id=lead.lead_id,
            seq=await outbox.next_seq(db, lead.lead_id),
            business=business,
            at=now,
            subject_hash=marks[0] if marks else "",
        )
        await outbox.add(db, fact, seq=fact.seq, now=now)
    of_cases = await _clear_cases(db, business, people, now)
    result_count = await _clear_results(db, business, sessions | set(of_cases))
    return Erased(tuple(lead.lead_id for lead in leads), len(of_cases), booking_count, result_count)


async def _leads(db: AsyncSession, business: str, subject: Subject) -> list[Lead]:
    marks = contact_marks(business, Person(email=subject.email, phone=subject.phone))
    known = select(col(LeadIdentity.lead_id)).where(
        col(LeadIdentity.business) == business, col(LeadIdentity.person_hash).in_(marks)
    )
    named = col(Lead.lead_id) == subject.lead_id if subject.lead_id else col(Lead.lead_id).in_(known)
    statement = select(Lead).where(col(Lead.business) == business, or_(named, col(Lead.lead_id).in_(known)))
    ordered = statement.order_by(col(Lead.lead_id)).with_for_update()
    return list((await db.execute(ordered)).scalars())


async def _sessions(db: AsyncSession, leads: Sequence[Lead]) -> set[str]:
    ids = [lead.lead_id for lead in leads]
    history = select(col(LeadHistory.session_id)).where(col(LeadHistory.lead_id).in_(ids))
    return {lead.session_id for lead in leads} | set((await db.execute(history)).scalars())


async def _remember(
    db: AsyncSession, business: str, marks: Sequence[str], lead_id: str, now: datetime
) -> None:
    insert = sqlite_insert if db.get_bind().dialect.name == "sqlite" else pg_insert
    for mark in marks:
        row = {"business": business, "person_hash": mark, "lead_id": lead_id, "erased_at": now}
        new = insert(ErasedSubject).values(row)
        await db.execute(
            new.on_conflict_do_update(
                index_elements=["business", "person_hash"], set_={"lead_id": lead_id, "erased_at": now}
            )
        )


async def _remove(db: AsyncSession, lead: Lead, now: datetime) -> int:
    """Remove a lead; returns how many bookings to come were cancelled."""
    lead_id = lead.lead_id
    await db.execute(delete(LeadHistory).where(col(LeadHistory.lead_id) == lead_id))
    await db.execute(delete(LeadIdentity).where(col(LeadIdentity.lead_id) == lead_id))
    mine = col(Booking.lead_id) == lead_id
    to_come = (mine, col(Booking.status) == BOOKED, col(Booking.starts_at) > now)
    cancelled = await db.execute(update(Booking).where(*to_come).values(status=CANCELLED))
    # What was published is only a copy here; what was not still goes out, and is told to be removed after it.
    sent = (OUTBOX.rows.c.aggregate_id == lead_id, OUTBOX.rows.c.sent_at.is_not(None))
    await db.execute(delete(OUTBOX.rows).where(*sent))
    await db.delete(lead)
    await db.flush()
    return cast("CursorResult[Any]", cancelled).rowcount


async def _clear_cases(db: AsyncSession, business: str, people: Sequence[Person], now: datetime) -> list[str]:
    """Take the person out of their cases; returns the session of each."""
    emails = [person.email for person in people if person.email]
    phones = [person.phone for person in people if person.phone]
    theirs = or_(col(Case.email).in_(emails), col(Case.phone).in_(phones))
    nobody: dict[str, Any] = {"name": None, "email": None, "phone": None, "subject": None}
    statement = (
        update(Case)
        .where(col(Case.business) == business, theirs)
        .values(**nobody, summary=ERASED, details={}, updated_at=now)
        .returning(col(Case.session_id))
    )
    return list((await db.execute(statement)).scalars())


async def _clear_results(db: AsyncSession, business: str, sessions: set[str]) -> int:
    gone = Outcome.refused("erased", SAY_FAILED, "The data of this session was erased.").stored(0)
    theirs = (
        col(ToolCallRow.business) == business,
        col(ToolCallRow.session_id).in_(sessions),
        col(ToolCallRow.result).is_not(None),
    )
    cleared = await db.execute(update(ToolCallRow).where(*theirs).values(result=gone))
    return cast("CursorResult[Any]", cleared).rowcount
