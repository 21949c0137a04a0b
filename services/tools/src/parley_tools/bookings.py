"""The bookings: who or what is taken when, and taking a slot so that nobody else can.

Whoever books a resource first takes the lock of its calendar row, then looks for an overlap (buffers counted), then
writes; so of any number of racers exactly one gets a slot, however long each booking is. What may be wished for is
decided by rules/slots.py, how long things take and who does them by rules/schedule.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast
from zoneinfo import ZoneInfo

from pydantic import JsonValue
from sqlalchemy import Table, select, update
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from parley_common.errors import LocalViolation
from parley_common.ids import new_id
from parley_tools.leads import Where
from parley_tools.refusals import Refused
from parley_tools.rules.schedule import SCHEDULING, Service, calendar_of, resource_named
from parley_tools.rules.slots import (
    Calendar,
    Plan,
    Reason,
    Slot,
    Taken,
    Wish,
    make_wish,
    plan,
    read_day,
    read_time,
    spoken_moment,
    spoken_zone,
    zone_named,
)
from parley_tools.store import Booking
from parley_tools.store import Calendar as CalendarRow

if TYPE_CHECKING:
    from parley_tools.context import ToolContext

BOOKED = "booked"
CANCELLED = "cancelled"
WHY: dict[Reason, str] = {
    "taken": "That time is already taken.",
    "closed": "We're closed that day.",
    "holiday": "That day is a holiday for us.",
    "away": "They're away that day.",
    "outside_hours": "That's outside our hours.",
    "too_soon": "That's too soon for us to set up.",
    "too_far": "That's further ahead than I can book.",
    "any_time": "",
}
_BOOKINGS = cast("Table", Booking.__table__)  # type: ignore[attr-defined]
_CALENDARS = cast("Table", CalendarRow.__table__)  # type: ignore[attr-defined]
_business = col(Booking.business)
_status = col(Booking.status)


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a booking is."""

    lead_id: str | None = None
    case_id: str | None = None


@dataclass(frozen=True, slots=True)
class Booked:
    """A slot that is taken."""

    booking_id: str
    resource: str
    starts_at: datetime
    ends_at: datetime
    time_zone: str = "UTC"
    """The one its caller was told the time in."""
    service: str | None = None
    owner: Owner = Owner()

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

    @property
    def label(self) -> str:
        """The moment as it is said, zone included: "Tuesday, January 6 at 3:30 PM Pacific time"."""
        return f"{spoken_moment(self.starts_at, self.zone)} {spoken_zone(self.zone)}"

    def details(self) -> dict[str, JsonValue]:
        """Return what a case or an output says of it; notify makes an invite of these fields."""
        return {
            "booking_id": self.booking_id,
            "starts_at": _local(self.starts_at, self.zone),
            "ends_at": _local(self.ends_at, self.zone),
            "time_zone": self.time_zone,
            "with_whom": self.resource,
            "service": self.service,
            "label": self.label,
        }


@dataclass(frozen=True, slots=True)
class Sought:
    """A wish for one thing of the business, read and ready to be planned."""

    wish: Wish
    zone: ZoneInfo
    calendar: Calendar
    service: Service | None


class Bookings:
    """The bookings of one business, in one call's unit of work. Tools get it as ``ctx.bookings``.

    The tool declares ``data=(SCHEDULING,)``.
    """

    def __init__(self, ctx: ToolContext) -> None:
        self._ctx = ctx

    def zone(self, said: str | None = None) -> ZoneInfo:
        """Return the zone the caller names, else the one their client tells, else the business's."""
        return zone_named(said) or zone_named(self._ctx.caller.time_zone) or self._ctx.business.zone

    def seek(
        self,
        day: str,
        time: str | None = None,
        *,
        time_zone: str | None = None,
        service: str | None = None,
        resource: str | None = None,
    ) -> Sought:
        """Read a wish as callers say it ("next Tuesday", "afternoon", "check-up", "Dr. Okafor").

        Raises:
            Refused: day_not_understood, service_not_understood, resource_not_understood or wrong_resource.
        """
        ctx, zone, data = self._ctx, self.zone(time_zone), self._ctx.data(SCHEDULING)
        wanted = data.service(service) if service else None
        if wanted is None and (service or data.services):
            names = ", ".join(each.name for each in data.services)
            raise Refused(f"What is it for? I can book {names}.", code="service_not_understood")
        calendar = calendar_of(ctx.business, data, wanted, resource_named(data, resource))
        on = read_day(day, ctx.now.astimezone(zone).date())
        if on is None:
            raise Refused("Which day would you like? A weekday or a date is fine.", code="day_not_understood")
        return Sought(make_wish(on, read_time(time), zone), zone, calendar, wanted)

    async def plan(self, sought: Sought) -> Plan:
        """Return the slot that is exactly what was wished, or up to three near it and why not that one."""
        taken = await taken_after(self._ctx.db, self._ctx.business.name, self._ctx.now)
        return plan(sought.calendar, taken, sought.wish, self._ctx.now, sought.zone)

    async def take(self, sought: Sought, slot: Slot, owner: Owner) -> Booked | None:
        """Book a planned slot with the first of its resources that is still free; null when others were faster."""
        return await take(
            self._ctx.db,
            self._ctx.where,
            owner,
            slot,
            zone=sought.zone,
            service=sought.service.name if sought.service else None,
            buffer=sought.calendar.buffer,
        )

    async def move(self, booked: Booked, sought: Sought, slot: Slot) -> Booked | None:
        """Give a booking up for another slot, both or neither; null when that slot is gone, and nothing changed."""
        taken = await self.take(sought, slot, booked.owner)
        if taken is not None:
            await self.cancel(booked)
        return taken

    async def cancel(self, booked: Booked) -> bool:
        """Free a booking's slot; returns whether it was booked."""
        statement = (
            update(Booking)
            .where(
                _business == self._ctx.business.name,
                col(Booking.booking_id) == booked.booking_id,
                _status == BOOKED,
            )
            .values(status=CANCELLED)
            .returning(col(Booking.booking_id))
        )
        return (await self._ctx.db.execute(statement)).scalar_one_or_none() is not None

    async def of(self, owner: Owner) -> list[Booked]:
        """Return what an owner has booked from now on, the soonest first."""
        if owner == Owner():
            raise LocalViolation("bookings of nobody")
        statement = (
            select(Booking)
            .where(
                _business == self._ctx.business.name, _status == BOOKED, col(Booking.ends_at) > self._ctx.now
            )
            .order_by(col(Booking.starts_at))
            .with_for_update()
        )
        if owner.lead_id is not None:
            statement = statement.where(col(Booking.lead_id) == owner.lead_id)
        if owner.case_id is not None:
            statement = statement.where(col(Booking.case_id) == owner.case_id)
        return [_booked(row) for row in (await self._ctx.db.execute(statement)).scalars()]

    def offer(self, planned: Plan, sought: Sought) -> dict[str, JsonValue]:
        """Return the output that says why not, and up to three slots whose fields can be passed back as a wish."""
        return _offers_output(planned, sought.zone)


async def taken_after(db: AsyncSession, business: str, since: datetime) -> list[Taken]:
    """Return the bookings of a business, buffers counted, that end after ``since``."""
    statement = select(Booking).where(
        _business == business, _status == BOOKED, col(Booking.blocked_until) > since
    )
    rows = (await db.execute(statement)).scalars()
    return [Taken(row.resource, row.starts_at, row.blocked_until) for row in rows]


async def take(
    db: AsyncSession,
    where: Where,
    owner: Owner,
    slot: Slot,
    *,
    zone: ZoneInfo,
    service: str | None = None,
    buffer: timedelta = timedelta(),
) -> Booked | None:
    """Take a slot with the first of its resources that is still free; null when others were faster.

    Ordering: waits for a transaction that is booking the same resource, then sees what it took.
    """
    blocked_until = slot.ends_at + buffer
    for resource in slot.resources:
        await _lock_calendar(db, where.business, resource)
        if await _is_taken(db, where.business, resource, slot.starts_at, blocked_until):
            continue
        row = Booking(
            booking_id=new_id(),
            business=where.business,
            resource=resource,
            service=service,
            lead_id=owner.lead_id,
            case_id=owner.case_id,
            session_id=where.session_id,
            starts_at=slot.starts_at,
            ends_at=slot.ends_at,
            blocked_until=blocked_until,
            time_zone=zone.key,
            status=BOOKED,
            created_at=where.now,
        )
        db.add(row)
        await db.flush()
        return _booked(row)
    return None


async def _lock_calendar(db: AsyncSession, business: str, resource: str) -> None:
    """Hold a resource's row until the unit of work ends. Resources are taken in declared order: no deadlock."""
    insert = sqlite_insert if db.get_bind().dialect.name == "sqlite" else pg_insert
    statement = insert(_CALENDARS).values(business=business, resource=resource, booked_count=1)
    raised = {"booked_count": _CALENDARS.c.booked_count + 1}
    await db.execute(statement.on_conflict_do_update(index_elements=["business", "resource"], set_=raised))


async def _is_taken(
    db: AsyncSession, business: str, resource: str, starts_at: datetime, blocked_until: datetime
) -> bool:
    statement = select(col(Booking.booking_id)).where(
        _business == business,
        col(Booking.resource) == resource,
        _status == BOOKED,
        col(Booking.starts_at) < blocked_until,
        col(Booking.blocked_until) > starts_at,
    )
    return (await db.execute(statement.limit(1))).scalar_one_or_none() is not None


def _booked(row: Booking) -> Booked:
    owner = Owner(row.lead_id, row.case_id)
    return Booked(row.booking_id, row.resource, row.starts_at, row.ends_at, row.time_zone, row.service, owner)


def _offers_output(planned: Plan, zone: ZoneInfo) -> dict[str, JsonValue]:
    why = WHY[planned.reason or "taken"]
    if not planned.offers:
        say = f"{why} I have no free times in the days I can book.".strip()
        return {"booked": False, "reason": planned.reason, "slots": [], "say": say}
    labels = [spoken_moment(slot.starts_at, zone) for slot in planned.offers]
    slots: list[JsonValue] = [
        _slot_output(slot, label, zone) for slot, label in zip(planned.offers, labels, strict=True)
    ]
    choice = labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])}, or {labels[-1]}"
    say = f"{why} I have {choice}, {spoken_zone(zone)}. Which would you like?".strip()
    return {"booked": False, "reason": planned.reason, "time_zone": zone.key, "slots": slots, "say": say}


def _slot_output(slot: Slot, label: str, zone: ZoneInfo) -> JsonValue:
    local = slot.starts_at.astimezone(zone)
    return {
        "starts_at": _local(slot.starts_at, zone),
        "preferred_day": f"{local:%Y-%m-%d}",
        "preferred_time": f"{local:%H:%M}",
        "with_whom": list(slot.resources),
        "label": label,
    }


def _local(moment: datetime, zone: ZoneInfo) -> str:
    return moment.astimezone(UTC).astimezone(zone).isoformat()
