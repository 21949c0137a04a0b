"""The bank kit's loan desk: a first look by rules, permission for the credit check, the application, its status."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from parley_tools.kit import (
    Annotated,
    Case,
    CaseOpened,
    CaseUpdated,
    DataFile,
    DataPart,
    Field,
    JsonValue,
    NewCase,
    Output,
    RecordKind,
    Refused,
    ToolContext,
    tool,
)
from parley_tools.kits._consent import keep_answer
from parley_tools.kits.bank._customers import CUSTOMER, CUSTOMERS, usd, verified_customer
from parley_tools.rules.bank_loans import Loans, Look, Purpose, Reason, Request, look

LOANS = DataFile("loans.yaml", Loans)
KIND = "loan_application"
CREDIT_CHECK = "consent:credit_check"
MONEY_MAX = 10_000_000
FIGURES = (
    *("purpose", "amount_usd", "term_years", "annual_income_usd", "monthly_debts_usd", "credit_score"),
    *("standing", "payment_usd", "rate_pct"),
)
"""What an application carries of its first look."""
WHY: dict[Reason, str] = {
    "amount_too_small": "the amount is below what we lend for that",
    "amount_too_large": "the amount is above what we lend for that",
    "term_too_long": "the term is longer than we offer",
    "income_too_low": "the income is below our minimum",
    "score_too_low": "the credit score is below our minimum",
    "debts_too_high": "your debts would take too much of your income",
    "score_near": "the credit score needs a closer look",
    "debts_near": "your debts would take a large part of your income",
}


class CreditConsent(DataPart):
    """What a customer answered about a credit check."""

    given: bool
    at: str


CONSENTS = RecordKind("credit_consent", CreditConsent)


@tool(cls="read", data=(LOANS,), personal=("annual_income_usd", "monthly_debts_usd", "credit_score"))
async def prequalify_loan(
    ctx: ToolContext,
    purpose: Annotated[
        Purpose, Field(description="What the money is for: personal, car or home improvement")
    ],
    amount_usd: Annotated[float, Field(description="Amount to borrow, in dollars", gt=0, le=MONEY_MAX)],
    annual_income_usd: Annotated[
        float, Field(description="The caller's income for a year, in dollars", ge=0, le=MONEY_MAX)
    ],
    monthly_debts_usd: Annotated[
        float,
        Field(
            description="What the caller pays each month on rent and other debts, in dollars",
            ge=0,
            le=MONEY_MAX,
        ),
    ],
    credit_score: Annotated[int, Field(description="The caller's credit score", ge=300, le=850)],
    term_years: Annotated[
        int | None, Field(description="Over how many years to pay it back", ge=1, le=30)
    ] = None,
) -> Output:
    """Prequalify the caller for a loan when they want to borrow or need money, personally, for a car or for home
    improvement: a first look by our rules, with the likely rate and monthly payment. It is no approval and touches no
    credit file.
    """
    loans = ctx.data(LOANS)
    loan = loans.of(purpose)
    if loan is None:
        raise Refused("We don't make that kind of loan.", code="loan_not_offered")
    request = Request(
        _money(amount_usd), _money(annual_income_usd), _money(monthly_debts_usd), credit_score, term_years
    )
    found = look(loan, request)
    reasons: list[JsonValue] = [WHY[each] for each in found.reasons]
    return {
        "prequalified": found.standing != "unlikely",
        "standing": found.standing,
        "reasons": reasons,
        "loan": loan.name,
        "purpose": purpose,
        "amount_usd": amount_usd,
        "annual_income_usd": annual_income_usd,
        "monthly_debts_usd": monthly_debts_usd,
        "credit_score": credit_score,
        "term_years": found.term_years,
        "rate_pct": float(found.rate_pct),
        "payment_usd": float(found.payment_usd),
        "debts_pct": float(found.debts_pct),
        "affordable_usd": float(found.affordable_usd),
        "is_approval": False,
        "note": loans.note,
        "say": _say(found, loan.name, request.amount_usd),
    }


@tool(cls="reversible", needs=(CUSTOMER,), grants=(CREDIT_CHECK,), data=(CUSTOMERS,), records=(CONSENTS,))
async def agree_credit_check(
    ctx: ToolContext,
    consent: Annotated[
        bool, Field(description="Whether the caller agrees that we look at their credit file for this loan")
    ],
) -> Output:
    """Record the customer's permission for a credit check, which a loan application needs. Ask first, and pass on
    their own yes or no.
    """
    answer = CreditConsent(given=consent, at=ctx.now.isoformat())
    await keep_answer(
        ctx,
        CONSENTS,
        verified_customer(ctx).number,
        answer,
        grant=CREDIT_CHECK if consent else None,
        refusal="That's fine, I won't look. Without it I can't send an application.",
    )
    return {"consent": True, "say": "Thank you. Shall I send the application now?"}


@tool(
    cls="reversible",
    deadline_ms=6_000,
    needs=(CUSTOMER, CREDIT_CHECK),
    emits=(CaseOpened, CaseUpdated),
    data=(CUSTOMERS,),
)
async def submit_loan_application(ctx: ToolContext) -> Output:
    """Submit the loan application with the figures that were prequalified in this conversation. A loan officer
    decides on it.
    """
    figures = await ctx.earlier("prequalify_loan")
    if figures is None:
        raise Refused(
            "Let's go through the figures of the loan first. How much would you like to borrow, and what for?",
            code="not_prequalified",
            next_tool="prequalify_loan",
        )
    if not figures.get("prequalified"):
        raise Refused(
            "By our rules that one would not be granted, so I won't send it. We can try a smaller amount.",
            code="not_eligible",
            affordable_usd=figures.get("affordable_usd"),
        )
    case, is_new = await _application(ctx, {name: figures[name] for name in FIGURES})
    sent = "Your application is in" if is_new else "I've updated your application"
    return {
        "reference": case.reference,
        "is_new": is_new,
        "say": f"{sent}. A loan officer will call you within two working days. "
        f"Your reference is {' '.join(case.reference)}.",
    }


@tool(cls="read", needs=(CUSTOMER,), data=(CUSTOMERS,))
async def check_application_status(ctx: ToolContext) -> Output:
    """Check the status of the verified customer's loan application: whether it was approved or has gone through."""
    cases = await ctx.cases.list(kind=KIND, subject=verified_customer(ctx).number)
    if not cases:
        raise Refused("I find no loan application of yours.", code="application_not_found")
    newest = cases[0]
    state = f"closed: {newest.resolution}" if newest.status == "closed" else "with our loan officers"
    amount = usd(Decimal(str(newest.details.get("amount_usd", 0))))
    return {
        "status": newest.status,
        "resolution": newest.resolution,
        "reference": newest.reference,
        "applications_count": len(cases),
        "say": f"Your application for {amount} is {state}. Its reference is {' '.join(newest.reference)}.",
    }


async def _application(ctx: ToolContext, figures: dict[str, JsonValue]) -> tuple[Case, bool]:
    """Return the open application for this purpose, opened or brought up to these figures, and whether it is new."""
    customer = verified_customer(ctx)
    waiting = [
        case
        for case in await ctx.cases.list(kind=KIND, subject=customer.number, is_open=True)
        if case.details.get("purpose") == figures["purpose"]
    ]
    if waiting:
        await ctx.cases.update(waiting[0], details=figures)
        return waiting[0], False
    amount: Any = figures["amount_usd"]
    new = NewCase(
        kind=KIND,
        summary=f"Application for a {str(figures['purpose']).replace('_', ' ')} loan of {usd(_money(amount))}",
        person=customer.person,
        subject=customer.number,
        queue="lending",
    )
    return await ctx.cases.open(new, figures), True


def _money(amount: float) -> Decimal:
    return Decimal(str(amount))


def _say(found: Look, name: str, amount: Decimal) -> str:
    cost = f"about {usd(found.payment_usd.quantize(Decimal(1)))} a month at {found.rate_pct:f} percent"
    why = " and ".join(WHY[each] for each in found.reasons[:2])
    if found.standing == "likely":
        return f"By our first look a {name} of {usd(amount)} is likely, {cost}. It's no approval yet."
    if found.standing == "review":
        return f"A loan officer would have to look at it, because {why}. It would be {cost}."
    fits = found.affordable_usd
    helps = (
        f" Up to {usd(fits)} may fit." if 0 < fits < amount and "score_too_low" not in found.reasons else ""
    )
    return f"By our rules that is unlikely, because {why}.{helps}"
