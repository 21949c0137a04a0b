"""The clinic kit's appointments: booked, found again, moved and cancelled.

A booking belongs to a case of kind ``appointment``, whose id the call gives it. Who booked it in this session, or can
name its reference and the phone number it was booked with, or is its verified patient, may move or cancel it.
"""

from __future__ import annotations

from datetime import timedelta

from parley_tools.kit import (
    SCHEDULING,
    Annotated,
    Booked,
    Case,
    CaseClosed,
    CaseOpened,
    CaseUpdated,
    Field,
    JsonValue,
    NewCase,
    Output,
    Owner,
    Person,
    Refused,
    Sought,
    ToolContext,
    tool,
    valid_email,
    valid_phone,
)
from parley_tools.kits import _identity
from parley_tools.kits.clinic._patients import PATIENTS

KIND = "appointment"
MINE = "verified:appointment"
DEFAULT_REGION = "US"
LATE_NOTICE_H = 24


@tool(
    cls="reversible",
    deadline_ms=5_000,
    grants=(MINE,),
    emits=(CaseOpened,),
    data=(SCHEDULING, PATIENTS),
    personal=("reason", "name", "phone", "email"),
)
async def book_appointment(
    ctx: ToolContext,
    reason: Annotated[
        str,
        Field(
            description="The reason for the visit, in the caller's own words, such as check-up or blood test",
            min_length=2,
            max_length=300,
        ),
    ],
    preferred_day: Annotated[
        str,
        Field(
            description="Day the caller would like to come, as a date such as 2026-03-14, a weekday, today or tomorrow",
            min_length=2,
            max_length=40,
        ),
    ],
    preferred_time: Annotated[
        str | None,
        Field(description="Time of day the caller would like, such as 15:30, or morning", max_length=40),
    ] = None,
    doctor: Annotated[
        str | None, Field(description="The doctor the caller wants to see, if they name one", max_length=80)
    ] = None,
    name: Annotated[str | None, Field(description="The patient's full name", max_length=200)] = None,
    phone: Annotated[
        str | None, Field(description="The caller's phone number with area code", max_length=40)
    ] = None,
    email: Annotated[str | None, Field(description="The caller's e-mail address", max_length=320)] = None,
) -> Output:
    """Book an appointment to see a doctor or nurse, such as a check-up, a sick visit, a flu shot or other vaccination,
    or a blood test, or find out which times are free. Books the time when it is free, else offers up to three; call it
    again with the one the caller chooses. A new patient needs a name and a phone number.
    """
    sought = _seek(ctx, reason, preferred_day, preferred_time, doctor)
    if again := await _booked_before(ctx, sought):
        return _booked_output(*again)
    planned = await ctx.bookings.plan(sought)
    if planned.slot is None:
        return ctx.bookings.offer(planned, sought)
    person, patient_id = _person(ctx, name, phone, email)
    case_id = ctx.idempotency_key
    booked = await ctx.bookings.take(sought, planned.slot, Owner(case_id=case_id))
    if booked is None:
        return ctx.bookings.offer(await ctx.bookings.plan(sought), sought)
    new = NewCase(
        kind=KIND,
        summary=f"{booked.service} with {booked.resource}, {booked.label}",
        person=person,
        subject=patient_id,
        status="booked",
        case_id=case_id,
    )
    case = await ctx.cases.open(new, booked.details())
    ctx.grant(f"{MINE}-{case.case_id}")
    return _booked_output(case, booked)


@tool(
    cls="reversible",
    grants=(MINE,),
    data=(PATIENTS,),
    records=(_identity.ATTEMPTS,),
    personal=("phone", "reference"),
)
async def find_appointment(
    ctx: ToolContext,
    reference: Annotated[
        str | None, Field(description="The six digit reference of the appointment", max_length=20)
    ] = None,
    phone: Annotated[
        str | None, Field(description="The phone number the appointment was booked with", max_length=40)
    ] = None,
) -> Output:
    """Find an appointment that was booked earlier, by its reference number and the phone number it was booked with.
    Needed before one from an earlier conversation is moved or cancelled. A verified patient needs neither.
    """
    patient_id = ctx.verified("patient")
    if patient_id and not phone:
        return await _found(ctx, await ctx.cases.list(kind=KIND, subject=patient_id, is_open=True))
    if not reference or not phone:
        raise Refused(
            "I need the six digit reference and the phone number it was booked with.",
            code="reference_needed",
            missing=[n for n, v in (("reference", reference), ("phone", phone)) if not v],
        )
    number = valid_phone(phone, _region(ctx))
    attempt = await _identity.begin(ctx, f"appointment {reference}")
    case = await ctx.cases.find(reference, kind=KIND)
    if case is None or case.phone != number:
        raise _identity.no_match(attempt)
    await _identity.forgive(ctx, attempt)
    return await _found(ctx, [case])


@tool(
    cls="reversible",
    deadline_ms=5_000,
    needs=(MINE,),
    emits=(CaseUpdated,),
    data=(SCHEDULING,),
    personal=("reference",),
)
async def reschedule_appointment(
    ctx: ToolContext,
    preferred_day: Annotated[
        str,
        Field(
            description="New day the caller would like, as a date such as 2026-03-14, a weekday, today or tomorrow",
            min_length=2,
            max_length=40,
        ),
    ],
    preferred_time: Annotated[
        str | None,
        Field(description="New time of day the caller would like, such as 15:30, or morning", max_length=40),
    ] = None,
    doctor: Annotated[
        str | None, Field(description="Another doctor, only if the caller wants to change", max_length=80)
    ] = None,
    reference: Annotated[
        str | None,
        Field(description="Reference of the appointment, when the caller has several", max_length=20),
    ] = None,
) -> Output:
    """Reschedule or change an appointment: move the visit that was booked to another day or time, earlier or later.
    Moves it when that time is free, else offers up to three others and leaves it where it is.
    """
    case, before = await _mine(ctx, reference)
    service, whom = str(case.details["service"]), doctor or before.resource
    sought = _seek(ctx, service, preferred_day, preferred_time, whom)
    if sought.wish.exact == before.starts_at and doctor is None:
        return _booked_output(case, before)
    planned = await ctx.bookings.plan(sought)
    if planned.slot is None:
        return ctx.bookings.offer(planned, sought)
    moved = await ctx.bookings.move(before, sought, planned.slot)
    if moved is None:
        return ctx.bookings.offer(await ctx.bookings.plan(sought), sought)
    summary = f"{moved.service} with {moved.resource}, {moved.label}"
    await ctx.cases.update(case, details=moved.details(), status="moved", summary=summary)
    return {
        **_booked_output(case, moved),
        "moved_from": before.label,
        "say": f"Done. Your visit is now {moved.label} with {moved.resource}.",
    }


@tool(cls="reversible", needs=(MINE,), emits=(CaseClosed,), personal=("reference",))
async def cancel_appointment(
    ctx: ToolContext,
    reference: Annotated[
        str | None,
        Field(description="Reference of the appointment, when the caller has several", max_length=20),
    ] = None,
) -> Output:
    """Cancel an appointment that was booked: the caller can't make it or can't come, and wants no other time."""
    case, booked = await _mine(ctx, reference)
    await ctx.bookings.cancel(booked)
    await ctx.cases.close(case, "cancelled by the caller")
    is_late = booked.starts_at - ctx.now < timedelta(hours=int(ctx.setting("late_notice_h", LATE_NOTICE_H)))
    late = " As it's so soon, a late cancellation fee may apply." if is_late else ""
    return {
        "cancelled": True,
        "is_late": is_late,
        **booked.details(),
        "say": f"Your visit on {booked.label} is cancelled.{late}",
    }


def _seek(ctx: ToolContext, reason: str, day: str, time: str | None, doctor: str | None) -> Sought:
    """Read the wish; what was not understood is named, so that only that is asked again."""
    unclear = {
        "service_not_understood": ["reason"],
        "day_not_understood": ["preferred_day"],
        "resource_not_understood": ["doctor"],
        "wrong_resource": ["doctor"],
    }
    try:
        return ctx.bookings.seek(day, time, service=reason, resource=doctor)
    except Refused as refused:
        refused.more.setdefault("missing", [*unclear.get(refused.stable_code, [])])
        raise


async def _booked_before(ctx: ToolContext, sought: Sought) -> tuple[Case, Booked] | None:
    """A caller who asks again for the visit they just booked gets that one, not a second."""
    for case in await ctx.cases.list(kind=KIND, of_session=True, is_open=True):
        for booked in await ctx.bookings.of(Owner(case_id=case.case_id)):
            same = sought.service is not None and booked.service == sought.service.name
            if same and booked.starts_at == sought.wish.exact:
                return case, booked
    return None


def _person(
    ctx: ToolContext, name: str | None, phone: str | None, email: str | None
) -> tuple[Person, str | None]:
    """Return whom the visit is for, and their record's id when they are verified.

    Raises:
        Refused: ``contact_needed``, or what is wrong with the phone number or e-mail address.
    """
    patient = ctx.data(PATIENTS).get(ctx.verified("patient"))
    if patient is not None:
        return patient.person, patient.id
    if not name or not phone:
        raise Refused(
            "That time is free. To book it I need your full name and a phone number.", code="contact_needed"
        )
    mail = valid_email(email) if email else None
    return Person(name=" ".join(name.split()), phone=valid_phone(phone, _region(ctx)), email=mail), None


async def _mine(ctx: ToolContext, reference: str | None) -> tuple[Case, Booked]:
    """Return the appointment that is meant, and its booking.

    Raises:
        Refused: it is not this caller's, is cancelled or over, or there are several and none was named.
    """
    mine = [grant.removeprefix(f"{MINE}-") for grant in ctx.caller.grants if grant.startswith(f"{MINE}-")]
    if reference:
        named = await ctx.cases.find(reference, kind=KIND)
        if named is None or named.case_id not in mine:
            raise Refused(
                "I need the phone number of that appointment first.",
                code="not_verified",
                next_tool="find_appointment",
            )
        mine = [named.case_id]
    cases = [case for case_id in mine if (case := await ctx.cases.find(case_id, kind=KIND)) is not None]
    held = await _held(ctx, [case for case in cases if case.status != "closed"])
    if len(held) > 1:
        labels = " or ".join(f"{booked.label} with {booked.resource}" for _, booked in held)
        references: list[JsonValue] = [case.reference for case, _ in held]
        raise Refused(
            f"You have several visits: {labels}. Which one?", code="which_appointment", references=references
        )
    if held:
        return held[0]
    if all(case.status == "closed" for case in cases):
        raise Refused("That appointment is already cancelled.", code="already_cancelled")
    raise Refused("That appointment is already over.", code="already_over")


async def _held(ctx: ToolContext, cases: list[Case]) -> list[tuple[Case, Booked]]:
    """Return what of these cases is still to come, the soonest first."""
    held = [(case, booked) for case in cases for booked in await ctx.bookings.of(Owner(case_id=case.case_id))]
    return sorted(held, key=lambda each: each[1].starts_at)


async def _found(ctx: ToolContext, cases: list[Case]) -> Output:
    held = await _held(ctx, cases)
    if not held:
        raise Refused("I find no appointment that is still to come.", code="appointment_not_found")
    for case, _ in held:
        ctx.grant(f"{MINE}-{case.case_id}")
    case, booked = held[0]
    listed: list[JsonValue] = [
        {"reference": case.reference, "label": booked.label, "with_whom": booked.resource}
        for case, booked in held
    ]
    more = f" You have {len(held)} visits in all." if len(held) > 1 else ""
    return {
        **_booked_output(case, booked),
        "appointments_count": len(held),
        "appointments": listed,
        "say": f"I found your visit on {booked.label} with {booked.resource}.{more}",
    }


def _booked_output(case: Case, booked: Booked) -> Output:
    spelled = " ".join(case.reference)
    return {
        "booked": True,
        "reference": case.reference,
        **booked.details(),
        "say": f"You're booked for {booked.label} with {booked.resource}. Your reference is {spelled}.",
    }


def _region(ctx: ToolContext) -> str:
    return str(ctx.setting("phone_region", DEFAULT_REGION))
