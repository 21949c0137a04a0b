"""The shop kit's orders: their status for whom they belong to, cancelling, and returns by the policy."""

from __future__ import annotations

import hashlib
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Literal

from parley_tools.kit import (
    Annotated,
    Case,
    CaseOpened,
    DataFile,
    DataPart,
    Field,
    JsonValue,
    Kept,
    NewCase,
    Output,
    Person,
    RecordKind,
    Refused,
    ToolContext,
    tool,
)
from parley_tools.kits.shop._shelf import (
    CATALOGUE,
    SHELVES,
    Size,
    meant_product,
    meant_size,
    said_list,
    shelf_of,
    spoken_day,
    today_of,
    usd,
    with_size,
)
from parley_tools.rules.shop_ranking import Product
from parley_tools.rules.shop_returns import Asked, Decision, Reason, ReturnPolicy, Rule, Wanted, decide
from parley_tools.rules.shop_totals import cents

GRANT = "verified:order"
WRONG_MAX = 5
FORGOTTEN_AFTER = timedelta(hours=24)
SAY_NO_MATCH = (
    "I don't find an order with those details. Could you check the e-mail address and the order number?"
)
NOT_TAKEN: dict[Rule, str] = {
    "not_delivered": "That has not been delivered yet, so it cannot come back yet.",
    "final_sale": "That was on final sale, so I cannot take it back.",
    "not_returnable": "For hygiene reasons I cannot take that back.",
    "outside_window": "That is outside our return window, so I cannot take it back.",
    "store_credit_only": "It is too late for that, but I can still give you store credit. Would you like that?",
}


class OrderItem(DataPart):
    """So many of one product in an order, and what was paid for all of them."""

    product: str
    size: str = "one size"
    quantity: int = Field(ge=1)
    paid_usd: Decimal = Field(ge=0)
    returned_count: int = 0


class Order(DataPart):
    """One order. Ages count in days back from today."""

    number: str
    email: str
    name: str
    postcode: str
    status: Literal["placed", "packing", "shipped", "delivered", "cancelled"]
    placed_days_ago: int = Field(ge=0)
    delivered_days_ago: int | None = None
    arrives_in_days: int | None = None
    carrier: str | None = None
    items: tuple[OrderItem, ...]


class OrderAttempts(DataPart):
    """Wrong answers about one e-mail address."""

    wrong_count: int = 0
    last_at: datetime | None = None


ORDERS = RecordKind("order", Order, seed="orders.yaml", key="number")
ATTEMPTS = RecordKind("order_attempts", OrderAttempts)
POLICY = DataFile("returns.yaml", ReturnPolicy)


@tool(
    cls="reversible",
    grants=(GRANT,),
    data=(CATALOGUE,),
    records=(ORDERS, ATTEMPTS),
    personal=("email", "postcode"),
)
async def order_status(
    ctx: ToolContext,
    email: Annotated[str, Field(description="The e-mail address the order was placed with", max_length=320)],
    order_number: Annotated[
        str | None, Field(description="The order number, such as LM-10482", max_length=20)
    ] = None,
    postcode: Annotated[
        str | None,
        Field(description="The postcode the order goes to, when the number is not at hand", max_length=12),
    ] = None,
) -> Output:
    """Check the status of an order: where the package is and when the delivery arrives. It also verifies whose order it
    is, by e-mail and order number or postcode, which comes before sending back or cancelling.
    """
    attempts_id = hashlib.sha256(email.strip().lower().encode()).hexdigest()[:32]
    kept = await ctx.records.lock(ATTEMPTS, attempts_id)
    wrong_count = _recent(kept, ctx.now)
    if wrong_count >= WRONG_MAX:
        raise Refused(
            "That did not match too often. Please write to us, and a colleague will look into it.",
            code="locked",
        )
    if not order_number and not postcode:
        raise Refused("What is the order number, or the postcode it goes to?", code="proof_needed")
    mine = [
        each.data
        for each in await ctx.records.all(ORDERS)
        if each.data.email == email.strip().lower() and _proves(each.data, order_number, postcode)
    ]
    if not mine:
        counted = OrderAttempts(wrong_count=wrong_count + 1, last_at=ctx.now)
        await ctx.records.put(ATTEMPTS, attempts_id, counted)
        raise Refused(SAY_NO_MATCH, code="no_match", keeps_effects=True)
    mine.sort(key=lambda order: order.placed_days_ago)
    for order in reversed(mine):
        ctx.grant(f"{GRANT}-{order.number}")
    newest = mine[0]
    say = _status_said(newest, today_of(ctx))
    if others := [order.number for order in mine[1:]]:
        say += f" I also see {said_list(others)}."
    return {**_order_output(ctx, newest), "other_orders": list[JsonValue](others), "say": say}


@tool(
    cls="reversible",
    needs=(GRANT,),
    emits=(CaseOpened,),
    data=(CATALOGUE, POLICY),
    records=(ORDERS, SHELVES),
)
async def start_return(
    ctx: ToolContext,
    product: Annotated[str, Field(description="The product to send back", max_length=120)],
    reason: Annotated[Reason, Field(description="The reason why it goes back")],
    wanted: Annotated[Wanted, Field(description="What the caller wants for it")],
    exchange_size: Annotated[
        Size | None, Field(description="The size wanted instead, for an exchange")
    ] = None,
    quantity: Annotated[int, Field(description="Number of pieces to send back", ge=1, le=100)] = 1,
) -> Output:
    """Return something from an order that is damaged, wrong or not wanted: send it back for a refund, an exchange or
    store credit. Decides by our policy and sends a label. The order must have been found with order_status first.
    """
    order, item, bought = await _bought(ctx, product)
    left = item.quantity - item.returned_count
    if left == 0 and (again := await _return_before(ctx, order, bought)):
        return {
            "approved": True,
            **_case_output(again),
            "say": f"That return is already under way. {_reference(again)}",
        }
    if quantity > left:
        raise Refused(f"That order has {left} of it left to return.", code="too_many")
    asked = Asked(
        category=bought.category,
        paid=cents(item.paid_usd * quantity / item.quantity),
        days_since_delivery=order.delivered_days_ago,
        reason=reason,
        wanted=wanted,
        is_final_sale=bought.is_final_sale,
    )
    decision = decide(ctx.data(POLICY), asked)
    if not decision.is_approved:
        raise Refused(NOT_TAKEN[decision.rule], code=decision.rule)
    size = await _taken_in_exchange(ctx, bought, exchange_size, quantity) if wanted == "exchange" else None
    returned = item.model_copy(update={"returned_count": item.returned_count + quantity})
    items = tuple(returned if each is item else each for each in order.items)
    await ctx.records.put(ORDERS, order.number, order.model_copy(update={"items": items}))
    case = await ctx.cases.open(
        NewCase(
            kind="exchange" if wanted == "exchange" else "return",
            summary=f"{quantity} {with_size(bought, item.size)} of {order.number} comes back: {reason}",
            person=Person(name=order.name, email=order.email),
            subject=order.number,
            priority="high" if reason in ctx.data(POLICY).our_fault_reasons else "normal",
            queue="returns",
        ),
        details={
            "order_number": order.number,
            "product": bought.id,
            "quantity": quantity,
            "reason": reason,
            "wanted": wanted,
            "amount_usd": float(decision.amount),
            "label_fee_usd": float(decision.label_fee),
            "exchange_size": size,
        },
    )
    return {
        "approved": True,
        **_case_output(case),
        "say": _approved_said(decision, wanted, bought, size, case),
    }


@tool(
    cls="reversible",
    needs=(GRANT,),
    emits=(CaseOpened,),
    data=(CATALOGUE,),
    records=(ORDERS, SHELVES),
)
async def cancel_order(
    ctx: ToolContext,
    order_number: Annotated[
        str | None, Field(description="The order number, when the caller has more than one", max_length=20)
    ] = None,
) -> Output:
    """Cancel an order that has not been shipped yet. It must have been found with order_status first."""
    order = await _verified_order(ctx, order_number)
    if order.status == "cancelled":
        return {"cancelled": True, "say": f"Order {order.number} is cancelled already."}
    if order.status in ("shipped", "delivered"):
        raise Refused(
            "That order has left our warehouse, so I cannot cancel it. You can send it back once it is there.",
            code="already_shipped",
            next_tool="start_return",
        )
    await ctx.records.put(ORDERS, order.number, order.model_copy(update={"status": "cancelled"}))
    catalogue = ctx.data(CATALOGUE)
    for item in order.items:
        shelf = await shelf_of(ctx, catalogue.product(item.product), item.size)
        await ctx.records.put(SHELVES, shelf.id, shelf.without(-item.quantity))
    amount = sum((item.paid_usd for item in order.items), Decimal(0))
    case = await ctx.cases.open(
        NewCase(
            kind="cancellation",
            summary=f"Cancelled {order.number}: refund {usd(amount)}",
            person=Person(name=order.name, email=order.email),
            subject=order.number,
            queue="orders",
        ),
        details={"order_number": order.number, "amount_usd": float(amount)},
    )
    return {
        "cancelled": True,
        **_case_output(case),
        "say": f"Order {order.number} is cancelled, and {usd(amount)} goes back to you. {_reference(case)}",
    }


def _recent(kept: Kept[OrderAttempts] | None, now: datetime) -> int:
    if kept is None or kept.data.last_at is None or now - kept.data.last_at > FORGOTTEN_AFTER:
        return 0
    return kept.data.wrong_count


def _proves(order: Order, number: str | None, postcode: str | None) -> bool:
    """Tell whether what was said beside the e-mail is this order's; all of it must be."""
    number_fits = not number or _digits(number) == _digits(order.number)
    return number_fits and (not postcode or _plain(postcode) == _plain(order.postcode))


def _digits(text: str) -> str:
    return "".join(each for each in text if each.isdigit())


def _plain(text: str) -> str:
    return "".join(each for each in text.lower() if each.isalnum())


async def _verified_orders(ctx: ToolContext) -> list[Order]:
    """Return the orders that this session has verified, the newest verification first, locked."""
    numbers = [grant.partition("-")[2] for grant in ctx.caller.grants if grant.startswith(f"{GRANT}-")]
    found = [await ctx.records.lock(ORDERS, number) for number in sorted(set(numbers))]
    by_number = {kept.record_id: kept.data for kept in found if kept}
    return [by_number[number] for number in dict.fromkeys(reversed(numbers)) if number in by_number]


async def _verified_order(ctx: ToolContext, said: str | None) -> Order:
    for order in await _verified_orders(ctx):
        if not said or _digits(said) == _digits(order.number):
            return order
    raise Refused(
        "I have not found that order yet. What is its number, and the e-mail address?",
        code="order_not_verified",
        next_tool="order_status",
    )


async def _bought(ctx: ToolContext, said: str) -> tuple[Order, OrderItem, Product]:
    """Return which thing of which verified order is meant."""
    catalogue = ctx.data(CATALOGUE)
    inside = [
        (order, item, catalogue.product(item.product))
        for order in await _verified_orders(ctx)
        for item in order.items
        if order.status != "cancelled"
    ]
    try:
        bought = meant_product([product for _, _, product in inside], said)
    except Refused as unknown:
        if unknown.stable_code != "product_not_found":
            raise
        names = said_list([product.name for _, _, product in inside])
        raise Refused(f"That is not in your order. I see {names}.", code="not_in_order") from unknown
    return next(each for each in inside if each[2] is bought)


async def _return_before(ctx: ToolContext, order: Order, bought: Product) -> Case | None:
    before = await ctx.cases.list(subject=order.number, is_open=True)
    return next((case for case in before if case.details.get("product") == bought.id), None)


async def _taken_in_exchange(ctx: ToolContext, product: Product, said: str | None, quantity: int) -> str:
    """Take the other size off the shelf; returns it."""
    size = meant_size(product, said)
    shelf = await shelf_of(ctx, product, size)
    if shelf.online < quantity:
        raise Refused(
            f"The {with_size(product, size)} is sold out. Would you rather have a refund?", code="sold_out"
        )
    await ctx.records.put(SHELVES, shelf.id, shelf.without(quantity))
    return size


def _case_output(case: Case) -> Output:
    return {"reference": case.reference, "kind": case.kind, **case.details}


def _reference(case: Case) -> str:
    return f"Your reference is {' '.join(case.reference)}."


def _approved_said(decision: Decision, wanted: Wanted, bought: Product, size: str | None, case: Case) -> str:
    if wanted == "exchange":
        told = f"We send you the {with_size(bought, size or '')} as soon as yours is on its way."
    elif wanted == "store credit":
        told = f"You get {usd(decision.amount)} in store credit."
    elif decision.label_fee:
        told = f"You get {usd(decision.amount)} back, which is less {usd(decision.label_fee)} for the label."
    else:
        told = f"You get {usd(decision.amount)} back, and the label is free."
    return f"Your return of the {bought.name} is set up. {told} {_reference(case)}"


def _order_output(ctx: ToolContext, order: Order) -> Output:
    today, catalogue = today_of(ctx), ctx.data(CATALOGUE)
    items: list[JsonValue] = [
        f"{item.quantity} {with_size(catalogue.product(item.product), item.size)}" for item in order.items
    ]
    arrives = None if order.arrives_in_days is None else today + timedelta(days=order.arrives_in_days)
    return {
        "order_number": order.number,
        "order_state": order.status,
        "carrier": order.carrier,
        "arrives_on": arrives.isoformat() if arrives else None,
        "contents": items,
    }


def _status_said(order: Order, today: date) -> str:
    head = f"Your order {order.number}"
    match order.status:
        case "delivered":
            on = spoken_day(today - timedelta(days=order.delivered_days_ago or 0))
            return f"{head} was delivered on {on}."
        case "shipped":
            by = f" by {order.carrier}" if order.carrier else ""
            return f"{head} was shipped{by} and should arrive on {_arrival(order, today)}."
        case "cancelled":
            return f"{head} was cancelled."
        case _:
            return f"{head} is being packed and should arrive on {_arrival(order, today)}."


def _arrival(order: Order, today: date) -> str:
    return spoken_day(today + timedelta(days=order.arrives_in_days or 0))
