"""The bank kit's fraud desk: what our watch flagged, what a customer does not recognise, and freezing a card."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Literal

from parley_tools.kit import (
    Annotated,
    Case,
    CaseOpened,
    CaseUpdated,
    DataPart,
    Field,
    JsonValue,
    Kept,
    NewCase,
    Output,
    RecordKind,
    Refused,
    ToolContext,
    tool,
)
from parley_tools.kits.bank._customers import (
    CARDS,
    CUSTOMER,
    CUSTOMERS,
    Card,
    CardKind,
    Customer,
    cards_of,
    usd,
    verified_customer,
)
from parley_tools.rules.bank_statement import is_merchant

FRAUD = "fraud"
FREEZE = "card_freeze"
MONEY_MAX = 100_000_000


class Alert(DataPart):
    """One payment our watch flagged."""

    id: str
    customer: str
    card: str
    merchant: str
    amount_usd: Decimal
    days_ago: int = Field(ge=0)
    status: Literal["open", "reported"] = "open"

    def day(self, today: date) -> date:
        return today - timedelta(days=self.days_ago)


ALERTS = RecordKind("fraud_alert", Alert, seed="alerts.yaml")


@tool(cls="read", needs=(CUSTOMER,), data=(CUSTOMERS,), records=(ALERTS,))
async def check_fraud_alerts(ctx: ToolContext) -> Output:
    """Check whether our watch flagged strange or suspicious payments on the verified customer's cards: security and
    fraud alerts.
    """
    today = ctx.now.astimezone(ctx.business.zone).date()
    alerts = [each.data for each in await _open_alerts(ctx, verified_customer(ctx))]
    listed: list[JsonValue] = [
        {"merchant": a.merchant, "amount_usd": float(a.amount_usd), "day": a.day(today).isoformat()}
        for a in alerts
    ]
    if not alerts:
        return {"alerts_count": 0, "say": "There are no open alerts on your cards."}
    told = "; ".join(
        f"{usd(a.amount_usd)} at {a.merchant} on {a.day(today):%B} {a.day(today).day}" for a in alerts
    )
    return {
        "alerts_count": len(alerts),
        "flagged": listed,
        "say": f"Our watch flagged {told}. Do you recognize that? If not, I can report it as fraud.",
    }


@tool(
    cls="reversible",
    needs=(CUSTOMER,),
    emits=(CaseOpened, CaseUpdated),
    data=(CUSTOMERS,),
    records=(ALERTS,),
    personal=("details",),
)
async def report_fraud(
    ctx: ToolContext,
    details: Annotated[
        str,
        Field(description="What happened, in the caller's own words", min_length=2, max_length=800),
    ],
    merchant: Annotated[
        str | None, Field(description="Name of the shop or company that was paid", max_length=80)
    ] = None,
    amount_usd: Annotated[
        float | None, Field(description="Amount of the payment, in dollars", ge=0, le=MONEY_MAX)
    ] = None,
) -> Output:
    """Report fraud: a payment, purchase or charge that somebody else made with the verified customer's card, or that
    they do not know or recognize. Opens a case with the fraud desk.
    """
    customer = verified_customer(ctx)
    flagged = [each for each in await _open_alerts(ctx, customer) if _is_about(each.data, details, merchant)]
    for each in flagged:
        await ctx.records.change(
            ALERTS, each.record_id, lambda a: a.model_copy(update={"status": "reported"})
        )
    told: dict[str, JsonValue] = {
        "told": details,
        "merchant": flagged[0].data.merchant if flagged and not merchant else merchant,
        "amount_usd": amount_usd
        if amount_usd is not None or not flagged
        else float(flagged[0].data.amount_usd),
        "alerts": [each.record_id for each in flagged],
    }
    case, is_new = await _fraud_case(ctx, customer, {k: v for k, v in told.items() if v is not None})
    opened = "I've opened a case with our fraud desk" if is_new else "I've added that to your case"
    return {
        "reference": case.reference,
        "is_new": is_new,
        "alerts_matched_count": len(flagged),
        "next": "Offer freeze_card for the card that was used.",
        "say": f"{opened}; they will call you today. Your reference is {' '.join(case.reference)}.",
    }


@tool(
    cls="reversible",
    needs=(CUSTOMER,),
    emits=(CaseOpened,),
    data=(CUSTOMERS,),
    records=(CARDS,),
    personal=("last4",),
)
async def freeze_card(
    ctx: ToolContext,
    reason: Annotated[
        Literal["lost", "stolen", "suspicious"],
        Field(description="Why it is to be frozen: lost, stolen or suspicious"),
    ],
    card: Annotated[
        CardKind | None, Field(description="Which card, when the customer has both: debit or credit")
    ] = None,
    last4: Annotated[
        str | None, Field(description="Last four digits of the card, if the caller knows them", max_length=12)
    ] = None,
) -> Output:
    """Freeze a card of the verified customer at once, so that nobody can pay with it: lost, stolen or misused. A new
    one is sent. Freezing cannot be undone by phone.
    """
    customer = verified_customer(ctx)
    wanted = await _wanted_card(ctx, customer, card, last4)
    before = await ctx.records.lock(CARDS, wanted.record_id)
    held = (before or wanted).data
    name = f"{held.kind} card ending in {' '.join(held.last4)}"
    if held.status == "frozen":
        return {
            "frozen": True,
            "is_new": False,
            "reference": held.case_reference,
            "say": f"Your {name} is already frozen. A new one is on its way.",
        }
    new = NewCase(
        kind=FREEZE,
        summary=f"Card ending in {held.last4} frozen: {reason}",
        person=customer.person,
        subject=customer.number,
        priority="high" if reason == "lost" else "urgent",
        queue="cards",
    )
    case = await ctx.cases.open(new, {"card": held.id, "reason": reason, "replacement": "sent by mail"})
    update = {"status": "frozen", "frozen_for": reason, "case_reference": case.reference}
    await ctx.records.put(CARDS, held.id, held.model_copy(update=update))
    return {
        "frozen": True,
        "is_new": True,
        "card_ends_with": held.last4,
        "reference": case.reference,
        "say": f"Your {name} is frozen now, and a new one will come by mail within five working days. "
        f"Your reference is {' '.join(case.reference)}.",
    }


async def _open_alerts(ctx: ToolContext, customer: Customer) -> list[Kept[Alert]]:
    alerts = [each for each in await ctx.records.all(ALERTS) if each.data.customer == customer.number]
    return [each for each in alerts if each.data.status == "open"]


def _is_about(alert: Alert, details: str, merchant: str | None) -> bool:
    """Tell whether a report means an alert: its merchant is named, or its name stands in the caller's words."""
    return is_merchant(merchant, alert.merchant) if merchant else is_merchant(alert.merchant, details)


async def _fraud_case(
    ctx: ToolContext, customer: Customer, details: dict[str, JsonValue]
) -> tuple[Case, bool]:
    """Return the session's fraud case, opened or added to, and whether it is new."""
    before = await ctx.cases.list(kind=FRAUD, subject=customer.number, of_session=True, is_open=True)
    if before:
        await ctx.cases.update(before[0], details=details)
        return before[0], False
    new = NewCase(
        kind=FRAUD,
        summary="A customer does not recognize a payment",
        person=customer.person,
        subject=customer.number,
        priority="urgent",
        queue="fraud",
    )
    return await ctx.cases.open(new, details), True


async def _wanted_card(
    ctx: ToolContext, customer: Customer, kind: CardKind | None, last4: str | None
) -> Kept[Card]:
    """Return the card a caller means. Raises Refused that names what there is."""
    cards = await cards_of(ctx, customer)
    digits = "".join(c for c in last4 or "" if c.isdigit())[-4:]
    fitting = [
        each
        for each in cards
        if (kind is None or each.data.kind == kind) and (not digits or each.data.last4 == digits)
    ]
    if len(fitting) == 1:
        return fitting[0]
    names = " and ".join(f"a {e.data.kind} card ending in {' '.join(e.data.last4)}" for e in fitting or cards)
    if not fitting:
        raise Refused(f"I don't see that card. You have {names or 'no card with us'}.", code="card_not_found")
    raise Refused(f"Which card is it? You have {names}.", code="which_card", missing=["card"])
