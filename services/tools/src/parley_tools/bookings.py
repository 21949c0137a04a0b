"""The bookings: who is taken when, and taking a slot so that nobody else can.

The partial unique index on (business, resource, starts_at) decides a race; slots.py decides what may be wished for.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import cast

from sqlalchemy import Table, select
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from parley_common.ids import new_id
from parley_tools.leads import Where
from parley_tools.rules.slots import Slot, Taken
from parley_tools.store import Booking

BOOKED = "booked"
_BOOKINGS = cast("Table", Booking.__table__)  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Booked:
    """A slot that is now taken."""

    booking_id: str
    resource: str
    starts_at: datetime
    ends_at: datetime


async def taken_after(db: AsyncSession, business: str, since: datetime) -> list[Taken]:
    """Return the bookings of a business that end after ``since``."""
    statement = select(Booking).where(
        col(Booking.business) == business, col(Booking.status) == BOOKED, col(Booking.ends_at) > since
    )
    rows = (await db.execute(statement)).scalars()
    return [Taken(row.resource, row.starts_at, row.ends_at) for row in rows]


async def of_lead(db: AsyncSession, business: str, lead_id: str, starts_at: datetime) -> Booked | None:
    """Return what this lead has booked at that moment; null when nothing."""
    statement = select(Booking).where(
        col(Booking.business) == business,
        col(Booking.lead_id) == lead_id,
        col(Booking.starts_at) == starts_at,
        col(Booking.status) == BOOKED,
    )
    row = (await db.execute(statement.limit(1))).scalar_one_or_none()
    return Booked(row.booking_id, row.resource, row.starts_at, row.ends_at) if row else None


async def take(db: AsyncSession, where: Where, lead_id: str, slot: Slot, time_zone: str) -> Booked | None:
    """Take a slot with the first of its resources that is still free; null when others were faster.

    Ordering: waits for a transaction that is taking the same slot, then sees whether it did.
    """
    insert = sqlite_insert if db.get_bind().dialect.name == "sqlite" else pg_insert
    for resource in slot.resources:
        booking_id = new_id()
        statement = insert(_BOOKINGS).values(
            booking_id=booking_id,
            business=where.business,
            resource=resource,
            lead_id=lead_id,
            session_id=where.session_id,
            starts_at=slot.starts_at,
            ends_at=slot.ends_at,
            time_zone=time_zone,
            status=BOOKED,
            created_at=where.now,
        )
        done = await db.execute(statement.on_conflict_do_nothing().returning(_BOOKINGS.c.booking_id))
        if done.scalar_one_or_none() is not None:
            return Booked(booking_id, resource, slot.starts_at, slot.ends_at)
    return None
