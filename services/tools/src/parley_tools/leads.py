"""The leads: one per person and business, with the history of every change.

A person is known by e-mail, by phone, or by name within one session (so that a corrected e-mail changes the lead
rather than making a second one). Which lead that is, is decided by the rows of lead_identities, whose primary key
makes two callers at once agree. Deciding what the caller may do is the kit's matter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import phonenumbers
from email_validator import EmailNotValidError, validate_email
from sqlalchemy import Table, bindparam, func, select, update
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from parley_common.contracts.people import Person
from parley_common.errors import ToolRefused
from parley_common.ids import new_id
from parley_tools.store import ErasedSubject, Lead, LeadHistory, LeadIdentity

_IDENTITIES = cast("Table", LeadIdentity.__table__)  # type: ignore[attr-defined]
_TAKE = {
    name: insert(_IDENTITIES)
    .values(
        business=bindparam("business"), person_hash=bindparam("person_hash"), lead_id=bindparam("lead_id")
    )
    # An update that changes nothing, rather than DO NOTHING: it returns the row, and holds it.
    .on_conflict_do_update(
        index_elements=["business", "person_hash"], set_={"person_hash": bindparam("person_hash")}
    )
    .returning(_IDENTITIES.c.lead_id)
    for name, insert in (("sqlite", sqlite_insert), ("postgresql", pg_insert))
}


def valid_email(said: str) -> str:
    """Return an e-mail address in its normal form; its domain is not looked up. Raises ToolRefused."""
    try:
        return validate_email(said.strip(), check_deliverability=False).normalized
    except EmailNotValidError as wrong:
        raise ToolRefused(
            "That e-mail address does not look right. Could you spell it for me?", code="invalid_email"
        ) from wrong


def valid_phone(said: str, region: str) -> str:
    """Return a phone number as E.164; ``region`` is for numbers said without a country. Raises ToolRefused.

    Possible is asked for rather than valid: valid means "in a range handed out today" by the library's tables,
    which would refuse reserved numbers (such as some 555-01xx) and ranges newer than the installed release.
    """
    try:
        number = phonenumbers.parse(said, region)
    except phonenumbers.NumberParseException as wrong:
        raise _bad_phone() from wrong
    if phonenumbers.is_possible_number_with_reason(number) != phonenumbers.ValidationResult.IS_POSSIBLE:
        raise _bad_phone()
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def _bad_phone() -> ToolRefused:
    return ToolRefused(
        "That phone number does not look right. Could you say it again with the area code?",
        code="invalid_phone",
    )


@dataclass(frozen=True, slots=True)
class Where:
    """Which business, session and call a change comes from, and when."""

    business: str
    session_id: str
    call_id: str
    now: datetime


@dataclass(frozen=True, slots=True)
class Details:
    """What a caller gave, already valid."""

    person: Person
    consent_wording: str
    interest: dict[str, Any]
    channel: str
    page: str | None


@dataclass(frozen=True, slots=True)
class Saved:
    """A lead as it now is; ``changed`` names the fields that differ, all of them for a new one."""

    lead: Lead
    is_new: bool
    changed: tuple[str, ...]


async def save(db: AsyncSession, where: Where, details: Details) -> Saved:
    """Write a new lead, or merge into the one of the same person.

    Raises:
        ToolRefused: they were erased after they gave this consent; a newer one makes a new lead.
    """
    await _check_not_erased(db, where, details.person)
    lead_id, is_known = await _identify(db, where, details.person)
    lead = None
    if is_known:
        found = await db.execute(select(Lead).where(col(Lead.lead_id) == lead_id).with_for_update())
        lead = found.scalar_one_or_none()
    if lead is None:
        return await _create(db, where, lead_id, details)
    before = _snapshot(lead)
    _merge(lead, where, details)
    changes = {name: [before[name], now] for name, now in _snapshot(lead).items() if before[name] != now}
    if changes:
        remember(db, where, lead_id, "updated", changes)
    return Saved(lead, is_new=False, changed=tuple(changes))


async def _check_not_erased(db: AsyncSession, where: Where, person: Person) -> None:
    statement = select(func.max(col(ErasedSubject.erased_at))).where(
        col(ErasedSubject.business) == where.business,
        col(ErasedSubject.person_hash).in_(contact_marks(where.business, person)),
    )
    erased_at = (await db.execute(statement)).scalar_one()
    if erased_at is not None and where.now <= erased_at:
        raise ToolRefused("May I ask again whether we may keep your details?", code="consent_required")


async def of_session(db: AsyncSession, where: Where, lead_id: str | None) -> Lead | None:
    """Return this session's newest lead, or the named one if this session gave it; locked until the commit."""
    statement = (
        select(Lead)
        .where(col(Lead.business) == where.business, col(Lead.session_id) == where.session_id)
        .order_by(col(Lead.updated_at).desc())
        .limit(1)
        .with_for_update()
    )
    if lead_id is not None:
        statement = statement.where(col(Lead.lead_id) == lead_id)
    return (await db.execute(statement)).scalar_one_or_none()


def person_of(lead: Lead) -> Person:
    """Return how to reach a lead."""
    return Person(name=lead.name, email=lead.email, phone=lead.phone)


def remember(db: AsyncSession, where: Where, lead_id: str, what: str, changes: dict[str, Any]) -> None:
    """Add one entry to a lead's history."""
    db.add(
        LeadHistory(
            history_id=new_id(),
            lead_id=lead_id,
            what=what,
            session_id=where.session_id,
            call_id=where.call_id,
            changes=changes,
            at=where.now,
        )
    )


async def _identify(db: AsyncSession, where: Where, person: Person) -> tuple[str, bool]:
    """Return the id of the person's lead and whether anybody knew them, and tie all their marks to it."""
    marks = _marks(where, person)
    fresh = new_id()
    # In the order of their hashes, so that two callers who share marks cannot wait for each other.
    owners = {mark: await _owner_of(db, where.business, mark, fresh) for mark in sorted(marks)}
    known = [owners[mark] for mark in marks if owners[mark] != fresh]
    if not known:
        return fresh, False
    new_marks = [mark for mark, owner in owners.items() if owner == fresh]
    await db.execute(
        update(LeadIdentity)
        .where(col(LeadIdentity.business) == where.business, col(LeadIdentity.person_hash).in_(new_marks))
        .values(lead_id=known[0])
    )
    return known[0], True


def contact_marks(business: str, person: Person) -> list[str]:
    """Return the hashes an e-mail and a phone are known by within a business, the most telling first."""
    marks = [
        f"email:{person.email.lower()}" if person.email else "",
        f"phone:{person.phone}" if person.phone else "",
    ]
    return [_hashed(business, mark) for mark in marks if mark]


def _marks(where: Where, person: Person) -> Sequence[str]:
    """Return the hashes a person is known by, the most telling first."""
    name = " ".join((person.name or "").lower().split())
    within = [_hashed(where.business, f"session:{where.session_id}:{name}")] if name else []
    return [*contact_marks(where.business, person), *within]


def _hashed(business: str, mark: str) -> str:
    return hashlib.sha256(f"{business}:{mark}".encode()).hexdigest()


async def _owner_of(db: AsyncSession, business: str, mark: str, fresh: str) -> str:
    """Return whose mark this is; takes it for ``fresh`` when nobody's. Waits for a transaction that is taking it."""
    taken = _TAKE[db.get_bind().dialect.name]
    row = {"business": business, "person_hash": mark, "lead_id": fresh}
    return str((await db.execute(taken, row)).scalar_one())


async def _create(db: AsyncSession, where: Where, lead_id: str, details: Details) -> Saved:
    lead = Lead(
        lead_id=lead_id,
        business=where.business,
        session_id=where.session_id,
        name=details.person.name,
        email=details.person.email,
        phone=details.person.phone,
        consent_at=where.now,
        consent_wording=details.consent_wording,
        interest=details.interest,
        channel=details.channel,
        page=details.page,
        created_at=where.now,
        updated_at=where.now,
    )
    db.add(lead)
    changes = {name: [None, value] for name, value in _snapshot(lead).items() if value not in (None, {})}
    remember(db, where, lead_id, "captured", changes)
    await db.flush()
    return Saved(lead, is_new=True, changed=tuple(changes))


def _merge(lead: Lead, where: Where, details: Details) -> None:
    person = details.person
    lead.name = person.name or lead.name
    lead.email = person.email or lead.email
    lead.phone = person.phone or lead.phone
    lead.interest = lead.interest | details.interest
    lead.session_id = where.session_id
    lead.consent_at = where.now
    lead.consent_wording = details.consent_wording
    lead.updated_at = where.now


def _snapshot(lead: Lead) -> dict[str, Any]:
    """Return what a change is told by."""
    return {"name": lead.name, "email": lead.email, "phone": lead.phone, "interest": dict(lead.interest)}
