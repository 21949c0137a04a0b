"""The clinic kit's insurance desk: which plans are taken, and what a verified patient's own plan pays for."""

from __future__ import annotations

from datetime import date

from parley_tools.kit import (
    SCHEDULING,
    Annotated,
    DataFile,
    Field,
    JsonValue,
    Output,
    Refused,
    ToolContext,
    read_day,
    tool,
)
from parley_tools.kits.clinic._patients import PATIENT, PATIENTS, verified_patient
from parley_tools.rules.clinic_insurance import Eligibility, Plan, Plans, eligibility

INSURANCE = DataFile("insurance.yaml", Plans)
DEFAULT_SERVICE = "check-up"
NAMED_MAX = 4


@tool(cls="read", data=(INSURANCE,))
async def find_insurance_plan(
    ctx: ToolContext,
    plan_name: Annotated[
        str, Field(description="The insurance plan the caller has", min_length=2, max_length=80)
    ],
) -> Output:
    """Find out whether we accept an insurance plan and are in its network, for anyone who asks by the plan's name."""
    plans = ctx.data(INSURANCE)
    plan = plans.named(plan_name)
    if plan is None:
        known: list[JsonValue] = [each.name for each in plans.plans if each.in_network]
        raise Refused(
            f"I don't know that plan. We take {', '.join(str(name) for name in known[:NAMED_MAX])}.",
            code="plan_not_found",
            known_plans=known,
        )
    say = (
        f"Yes, we take {plan.name}."
        if plan.in_network
        else f"{plan.name} is not in our network, so a visit would be about {_usd(plans.self_pay_usd)}."
    )
    return {
        "plan": plan.name,
        "in_network": plan.in_network,
        "covers": [each.service for each in plan.covers],
        "note": plan.note,
        "say": f"{say} {plan.note or ''}".strip(),
    }


@tool(cls="read", needs=(PATIENT,), data=(INSURANCE, PATIENTS, SCHEDULING))
async def verify_insurance(
    ctx: ToolContext,
    service: Annotated[
        str | None, Field(description="The visit it is about; left out, a check-up", max_length=80)
    ] = None,
    day: Annotated[
        str | None,
        Field(description="Day of the visit, as a date such as 2026-03-14; left out, today", max_length=40),
    ] = None,
) -> Output:
    """Verify the verified patient's own insurance coverage on file: whether it is active, whether it covers a
    service, the copay, and whether a referral is needed.
    """
    patient, plans = verified_patient(ctx), ctx.data(INSURANCE)
    if patient.coverage is None:
        raise Refused(
            f"There is no insurance on your file. Paying yourself, a visit is {_usd(plans.self_pay_usd)}.",
            code="no_plan_on_file",
        )
    plan = plans.named(patient.coverage.plan)
    if plan is None:
        raise Refused(
            "The plan on your file is not one I know. Our billing desk can check it.", code="plan_not_found"
        )
    wanted = ctx.data(SCHEDULING).service(service or DEFAULT_SERVICE)
    if wanted is None:
        names = ", ".join(each.name for each in ctx.data(SCHEDULING).services)
        raise Refused(f"Which kind of visit? There is {names}.", code="service_not_understood")
    found = eligibility(plan, patient.coverage, wanted.name, _day(ctx, day))
    return {
        "eligible": found.is_eligible,
        "standing": found.standing,
        "plan": plan.name,
        "service": wanted.name,
        "copay_usd": found.copay_usd,
        "member_id_ends_with": patient.coverage.member_id[-4:],
        "from_day": found.from_day.isoformat() if found.from_day else None,
        "say": _say(found, plan, wanted.name, plans.self_pay_usd),
    }


def _day(ctx: ToolContext, said: str | None) -> date:
    today = ctx.now.astimezone(ctx.business.zone).date()
    on = read_day(said, today) if said else today
    if on is None:
        raise Refused(
            "Which day is the visit? A weekday or a date is fine.", code="bad_date", missing=["day"]
        )
    return on


def _say(found: Eligibility, plan: Plan, service: str, self_pay_usd: float) -> str:
    own = f"Paying yourself it would be {_usd(self_pay_usd)}."
    from_day = f"{found.from_day:%B} {found.from_day.day}" if found.from_day else ""
    return {
        "covered": f"Your {plan.name} plan is active and covers a {service}, "
        f"with a copay of {_usd(found.copay_usd or 0)}.",
        "referral_needed": f"Your {plan.name} plan covers a {service} with a copay of "
        f"{_usd(found.copay_usd or 0)}, but it asks for a referral from your doctor first.",
        "not_covered": f"Your {plan.name} plan doesn't cover a {service}. {own}",
        "out_of_network": f"Your {plan.name} plan is not in our network. {own}",
        "not_started": f"Your {plan.name} plan only begins on {from_day}. {own}",
        "ended": f"Your {plan.name} plan has ended on our file. Do you have a new one? {own}",
        "waiting": f"Your {plan.name} plan pays for a {service} only from {from_day}. {own}",
    }[found.standing]


def _usd(amount: float) -> str:
    return f"${amount:,.0f}" if amount == round(amount) else f"${amount:,.2f}"
