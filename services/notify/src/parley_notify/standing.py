"""Finds the calendar entries that a case's letters left behind: to whom, and when. Sends nothing.

A closing fact tells no times, so they come from the letters that were sent. What is found holds nothing personal.

Law: an entry is taken out only where it was put in, and not any more once its booking has begun.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from parley_common.contracts.cases import CaseClosed, CaseOpened, CaseUpdated
from parley_common.invites import booking_times
from parley_notify.routes import Planned
from parley_notify.tables import DELIVERED, PENDING
from parley_notify.tables import deliveries as table

_TELL_BOOKINGS = (CaseOpened.fact_type, CaseUpdated.fact_type)


@dataclass(frozen=True, slots=True)
class Entry:
    """One booking in one recipient's calendar."""

    to: Planned
    booking: str
    """Its times, as JSON: ``starts_at``, ``ends_at``, ``time_zone``."""


@dataclass(frozen=True, slots=True)
class Told:
    """One delivery that a fact causes."""

    to: Planned
    name: str
    """Unlike that of any other delivery of the same fact."""
    booking: str | None
    """The booking that its letter takes out of a calendar."""


async def entries(db: AsyncSession, closed: CaseClosed) -> list[Entry]:
    """Return the entries that a case's closing takes out, one for each route and recipient."""
    told = (
        select(table)
        .where(
            table.c.subject_id == closed.key,
            table.c.business == closed.business,
            table.c.channel == "email",
            table.c.fact_type.in_(_TELL_BOOKINGS),
            table.c.state.in_((PENDING, DELIVERED)),
            table.c.payload.is_not(None),
        )
        .order_by(table.c.seq)
    )
    newest = {(row.route, row.destination): row for row in (await db.execute(told)).all() if _books(row)}
    return [
        Entry(Planned(row.route, row.channel, row.destination, row.host, None), booking)
        for row in newest.values()
        if (booking := _booking(row, closed)) is not None
    ]


def merged(planned: Sequence[Planned], left: Sequence[Entry]) -> list[Told]:
    """Return what is to be told: what routes say, and the entries of routes and recipients that would hear nothing."""
    by_place = {(entry.to.route, entry.to.destination): entry.booking for entry in left}
    told = [Told(to, to.route, by_place.pop((to.route, to.destination), None)) for to in planned]
    silent = [entry for entry in left if (entry.to.route, entry.to.destination) in by_place]
    return told + [Told(each.to, f"{each.to.route}/{each.to.destination}", each.booking) for each in silent]


def _books(row: Any) -> bool:
    return booking_times(_details(row)) is not None


def _booking(row: Any, closed: CaseClosed) -> str | None:
    """Return a row's booking; null when it was cancelled already, or has begun and so is no plan any more."""
    details = _details(row)
    times = booking_times(details)
    if times is None or times[0] <= closed.at or json.loads(row.payload).get("status") == "cancelled":
        return None
    return json.dumps({name: details[name] for name in ("starts_at", "ends_at", "time_zone")})


def _details(row: Any) -> dict[str, Any]:
    details: dict[str, Any] = json.loads(row.payload).get("details") or {}
    return details
