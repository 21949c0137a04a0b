"""The scheduling kit: a call with a person, in a real slot of the business's hours."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from parley_common.contracts.leads import LeadCallScheduled
from parley_common.errors import ToolRefused
from parley_tools import bookings, leads
from parley_tools.bookings import Booked
from parley_tools.context import DataFile, ToolContext
from parley_tools.leads import Where
from parley_tools.registry import Output, tool
from parley_tools.rules.slots import (
    Calendar,
    Plan,
    Reason,
    Slot,
    Wish,
    make_wish,
    plan,
    read_day,
    read_time,
    spoken_moment,
    spoken_zone,
    zone_named,
)
from parley_tools.store import Lead


class Holiday(BaseModel):
    """A day without calls."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    date: date
    name: str


class Scheduling(BaseModel):
    """data/scheduling.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slot_min: int = Field(ge=5, le=480)
    buffer_min: int = Field(default=0, ge=0, le=240)
    min_notice_min: int = Field(default=60, ge=0)
    days_ahead: int = Field(default=14, ge=1, le=120)
    resources: tuple[str, ...] = Field(min_length=1)
    """Who takes the calls, in the order they are asked."""
    holidays: tuple[Holiday, ...] = ()


SCHEDULING = DataFile("scheduling.yaml", Scheduling)

WHY: dict[Reason, str] = {
    "taken": "That time is already taken.",
    "closed": "We're closed that day.",
    "holiday": "That day is a holiday for us.",
    "outside_hours": "That's outside our hours.",
    "too_soon": "That's too soon for us to set up.",
    "too_far": "That's further ahead than I can book.",
    "any_time": "",
}


@tool(cls="reversible", deadline_ms=5_000, emits=(LeadCallScheduled,), data=(SCHEDULING,))
async def schedule_call(
    ctx: ToolContext,
    preferred_day: Annotated[
        str,
        Field(
            description="Day the caller would like for the call, as a date such as 2026-03-14, a weekday, today or tomorrow",
            min_length=2,
            max_length=40,
        ),
    ],
    preferred_time: Annotated[
        str | None,
        Field(
            description="Time of day the caller would like, such as 15:30, or morning or afternoon",
            max_length=40,
        ),
    ] = None,
    time_zone: Annotated[
        str | None,
        Field(
            description="The caller's time zone if they name one, such as America/Chicago or Eastern",
            max_length=64,
        ),
    ] = None,
    lead_id: Annotated[
        str | None, Field(description="The lead_id that save_lead returned in this session", max_length=64)
    ] = None,
) -> Output:
    """Schedule a phone call between the caller and one of our people, or find out which times are free. Books the
    time when it is free, else offers up to three others; call it again with the one the caller chooses. The
    caller's details must have been saved with save_lead.
    """
    calendar = _calendar(ctx)
    zone = _zone(ctx, time_zone)
    day = read_day(preferred_day, ctx.now.astimezone(zone).date())
    if day is None:
        raise ToolRefused("Which day would you like? A weekday or a date is fine.", code="day_not_understood")
    wish = make_wish(day, read_time(preferred_time), zone)
    lead = await leads.of_session(ctx.db, _where(ctx), lead_id or None)
    if lead is not None and (again := await _booked_before(ctx, lead, wish)):
        return _booked_output(again, zone)
    taken = await bookings.taken_after(ctx.db, ctx.business.name, ctx.now)
    planned = plan(calendar, taken, wish, ctx.now, zone)
    if planned.slot is None:
        return _offers_output(planned, zone)
    if lead is None:
        raise ToolRefused(
            "That time is free. To book it I need your name, and an e-mail address or phone number.",
            code="contact_needed",
        )
    booked = await bookings.take(ctx.db, _where(ctx), lead.lead_id, planned.slot, zone.key)
    if booked is None:
        taken = await bookings.taken_after(ctx.db, ctx.business.name, ctx.now)
        return _offers_output(plan(calendar, taken, wish, ctx.now, zone), zone)
    await _tell_booked(ctx, lead, booked, zone)
    return _booked_output(booked, zone)


def _where(ctx: ToolContext) -> Where:
    return Where(ctx.business.name, ctx.session_id, ctx.call_id, ctx.now)


def _calendar(ctx: ToolContext) -> Calendar:
    data = ctx.data(SCHEDULING)
    return Calendar(
        hours=ctx.business.config.hours,
        zone=ctx.business.zone,
        slot=timedelta(minutes=data.slot_min),
        buffer=timedelta(minutes=data.buffer_min),
        min_notice=timedelta(minutes=data.min_notice_min),
        days_ahead=data.days_ahead,
        holidays={each.date: each.name for each in data.holidays},
        resources=data.resources,
    )


def _zone(ctx: ToolContext, said: str | None) -> ZoneInfo:
    """The zone the caller names, else the one their client tells, else the business's."""
    return zone_named(said) or zone_named(ctx.caller.time_zone) or ctx.business.zone


async def _booked_before(ctx: ToolContext, lead: Lead, wish: Wish) -> Booked | None:
    """A caller who asks again for what they already have gets that, not a second call."""
    if wish.exact is None:
        return None
    return await bookings.of_lead(ctx.db, ctx.business.name, lead.lead_id, wish.exact)


async def _tell_booked(ctx: ToolContext, lead: Lead, booked: Booked, zone: ZoneInfo) -> None:
    leads.remember(
        ctx.db,
        _where(ctx),
        lead.lead_id,
        "call_scheduled",
        {"starts_at": [None, booked.starts_at.isoformat()]},
    )
    await ctx.emit(
        LeadCallScheduled(
            lead_id=lead.lead_id,
            seq=await ctx.next_seq(lead.lead_id),
            business=lead.business,
            session_id=ctx.session_id,
            at=ctx.now,
            booking_id=booked.booking_id,
            starts_at=booked.starts_at,
            ends_at=booked.ends_at,
            time_zone=zone.key,
            with_whom=booked.resource,
            person=leads.person_of(lead),
        )
    )


def _booked_output(booked: Booked, zone: ZoneInfo) -> Output:
    label = f"{spoken_moment(booked.starts_at, zone)} {spoken_zone(zone)}"
    return {
        "booked": True,
        "booking_id": booked.booking_id,
        "starts_at": _local(booked.starts_at, zone),
        "ends_at": _local(booked.ends_at, zone),
        "time_zone": zone.key,
        "with_whom": booked.resource,
        "label": label,
        "say": f"You're booked for {label}. {booked.resource} will call you.",
    }


def _offers_output(planned: Plan, zone: ZoneInfo) -> Output:
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
        "label": label,
    }


def _local(moment: datetime, zone: ZoneInfo) -> str:
    return moment.astimezone(UTC).astimezone(zone).isoformat()
