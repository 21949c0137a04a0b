"""The scheduling kit: a call with a person, in a real slot of the business's hours."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from parley_common.contracts.leads import LeadCallScheduled
from parley_tools import leads
from parley_tools.bookings import Booked, Owner, Sought
from parley_tools.context import ToolContext
from parley_tools.refusals import Refused
from parley_tools.registry import Output, tool
from parley_tools.rules.schedule import SCHEDULING
from parley_tools.store import Lead


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
    sought = ctx.bookings.seek(preferred_day, preferred_time, time_zone=time_zone)
    lead = await leads.of_session(ctx.db, ctx.where, lead_id or None)
    if lead is not None and (again := await _booked_before(ctx, lead, sought)):
        return _booked_output(again)
    planned = await ctx.bookings.plan(sought)
    if planned.slot is None:
        return ctx.bookings.offer(planned, sought)
    if lead is None:
        raise Refused(
            "That time is free. To book it I need your name, and an e-mail address or phone number.",
            code="contact_needed",
            next_tool="save_lead",
        )
    booked = await ctx.bookings.take(sought, planned.slot, Owner(lead_id=lead.lead_id))
    if booked is None:
        return ctx.bookings.offer(await ctx.bookings.plan(sought), sought)
    await _tell(ctx, lead, booked, "booked")
    return _booked_output(booked)


@tool(cls="reversible", deadline_ms=5_000, emits=(LeadCallScheduled,), data=(SCHEDULING,))
async def reschedule_call(
    ctx: ToolContext,
    preferred_day: Annotated[
        str,
        Field(
            description="New day for the call, as a date such as 2026-03-14, a weekday, today or tomorrow",
            min_length=2,
            max_length=40,
        ),
    ],
    preferred_time: Annotated[
        str | None,
        Field(description="New time of day, such as 15:30, or morning or afternoon", max_length=40),
    ] = None,
    time_zone: Annotated[
        str | None,
        Field(
            description="The caller's time zone if they name one, such as America/Chicago or Eastern",
            max_length=64,
        ),
    ] = None,
) -> Output:
    """Move a phone call that the caller booked earlier in this conversation to another day or time. Moves it when the
    new time is free, else offers up to three others and leaves the call where it is.
    """
    lead, booked = await _held(ctx)
    sought = ctx.bookings.seek(preferred_day, preferred_time, time_zone=time_zone)
    if booked.starts_at == sought.wish.exact:
        return _booked_output(booked)
    planned = await ctx.bookings.plan(sought)
    moved = await ctx.bookings.move(booked, sought, planned.slot) if planned.slot else None
    if moved is None:
        return ctx.bookings.offer(planned, sought)
    await _tell(ctx, lead, moved, "moved", booked)
    return {
        "booked": True,
        **moved.details(),
        "say": f"I moved your call to {moved.label}. {moved.resource} will call you.",
    }


@tool(cls="reversible", deadline_ms=5_000, emits=(LeadCallScheduled,), data=(SCHEDULING,))
async def cancel_call(ctx: ToolContext) -> Output:
    """Cancel a phone call that the caller booked earlier in this conversation. Ask whether they would rather move it
    first.
    """
    lead, booked = await _held(ctx)
    await ctx.bookings.cancel(booked)
    await _tell(ctx, lead, booked, "cancelled", booked)
    return {"cancelled": True, **booked.details(), "say": f"I cancelled your call on {booked.label}."}


async def _held(ctx: ToolContext) -> tuple[Lead, Booked]:
    """Return this session's lead and the call it has booked. Raises Refused when there is none."""
    lead = await leads.of_session(ctx.db, ctx.where, None)
    held = await ctx.bookings.of(Owner(lead_id=lead.lead_id)) if lead else []
    if lead is None or not held:
        raise Refused(
            "I don't see a call booked in this conversation. Shall I book one?",
            code="no_call_booked",
            next_tool="schedule_call",
        )
    return lead, held[0]


async def _booked_before(ctx: ToolContext, lead: Lead, sought: Sought) -> Booked | None:
    """A caller who asks again for what they already have gets that, not a second call."""
    held = await ctx.bookings.of(Owner(lead_id=lead.lead_id))
    again = next((each for each in held if each.starts_at == sought.wish.exact), None)
    return again and replace(again, time_zone=sought.zone.key)


async def _tell(
    ctx: ToolContext,
    lead: Lead,
    booked: Booked,
    status: Literal["booked", "moved", "cancelled"],
    before: Booked | None = None,
) -> None:
    """Write what happened to a call into the lead's history, and tell it."""
    was = before.starts_at.isoformat() if before else None
    now = None if status == "cancelled" else booked.starts_at.isoformat()
    what = "call_scheduled" if status == "booked" else f"call_{status}"
    leads.remember(ctx.db, ctx.where, lead.lead_id, what, {"starts_at": [was, now]})
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
            time_zone=booked.time_zone,
            with_whom=booked.resource,
            person=leads.person_of(lead),
            status=status,
        )
    )


def _booked_output(booked: Booked) -> Output:
    return {
        "booked": True,
        **booked.details(),
        "say": f"You're booked for {booked.label}. {booked.resource} will call you.",
    }
