"""The shop kit's cart: what this session wants to buy, what it comes to, and the link to pay it."""

from __future__ import annotations

from decimal import Decimal

from parley_tools.kit import (
    Annotated,
    CaseOpened,
    CaseUpdated,
    DataPart,
    Field,
    JsonValue,
    NewCase,
    Output,
    Person,
    RecordKind,
    Refused,
    ToolContext,
    tool,
    valid_email,
)
from parley_tools.kits.shop._shelf import (
    CATALOGUE,
    PRICING,
    QUANTITY_MAX,
    SHELVES,
    SIZE_SAYS,
    Size,
    meant_product,
    meant_size,
    said_list,
    shelf_of,
    today_of,
    usd,
    with_size,
)
from parley_tools.rules.shop_ranking import Product
from parley_tools.rules.shop_totals import Line, PromoFault, Totals, promo_fault, totals

LINES_MAX = 30
WHY_NOT: dict[PromoFault, str] = {
    "not_yet": "That code is not valid yet.",
    "expired": "That code has expired.",
    "below_minimum": "That code needs a larger cart.",
    "nothing_eligible": "That code does not apply to anything in your cart.",
}


class CartLine(DataPart):
    """So many of one product in one size."""

    product: str
    size: str
    quantity: int = Field(ge=1, le=QUANTITY_MAX)


class Cart(DataPart):
    """What a session has in its cart."""

    lines: tuple[CartLine, ...] = ()
    promo: str | None = None


CARTS = RecordKind("cart", Cart)


@tool(cls="reversible", data=(CATALOGUE, PRICING), records=(CARTS, SHELVES))
async def add_to_cart(
    ctx: ToolContext,
    product: Annotated[str, Field(description="The product the caller wants to buy", max_length=120)],
    quantity: Annotated[int, Field(description="Number of pieces", ge=1, le=QUANTITY_MAX)],
    size: Annotated[Size | None, Field(description=SIZE_SAYS)] = None,
    keep_other_size: Annotated[
        bool, Field(description="Whether the caller wants this besides another size of it in the cart")
    ] = False,
) -> Output:
    """Add a product to the cart, or change its quantity or size there. The quantity is the new total: for a correction
    call it again with the right number or size, and that takes the place of the one before.
    """
    item = meant_product(ctx.data(CATALOGUE).products, product)
    chosen = meant_size(item, size)
    shelf = await shelf_of(ctx, item, chosen)
    label = with_size(item, chosen)
    if shelf.online == 0:
        raise Refused(f"The {label} is sold out online.", code="sold_out", next_tool="look_up_stock")
    if shelf.online < quantity:
        left: JsonValue = shelf.online
        raise Refused(f"I only have {shelf.online} of the {label} online.", code="not_enough", left=left)
    cart, version = await _cart(ctx)
    kept = tuple(
        line for line in cart.lines if line.product != item.id or (keep_other_size and line.size != chosen)
    )
    if len(kept) >= LINES_MAX:
        raise Refused("Your cart is full. Shall I send you the link to pay for it?", code="cart_full")
    cart = cart.model_copy(
        update={"lines": (*kept, CartLine(product=item.id, size=chosen, quantity=quantity))}
    )
    await ctx.records.put(CARTS, ctx.session_id, cart, version=version)
    output = _output(ctx, cart)
    pieces = "it is" if quantity == 1 else f"{quantity} of it are"
    return {**output, "say": f"The {label}: {pieces} in your cart. {output['say']}"}


@tool(cls="reversible", data=(CATALOGUE, PRICING), records=(CARTS,))
async def remove_from_cart(
    ctx: ToolContext,
    product: Annotated[str, Field(description="The product to take out of the cart", max_length=120)],
) -> Output:
    """Remove a product from the cart or basket: take it out again."""
    cart, version = await _cart(ctx)
    catalogue = ctx.data(CATALOGUE)
    inside = {line.product: catalogue.product(line.product) for line in cart.lines}
    if not inside:
        raise Refused("Your cart is empty already.", code="cart_empty")
    try:
        item = meant_product(tuple(inside.values()), product)
    except Refused as unknown:
        if unknown.stable_code != "product_not_found":
            raise
        names = said_list([each.name for each in inside.values()])
        raise Refused(f"That is not in your cart. You have {names}.", code="not_in_cart") from unknown
    cart = cart.model_copy(update={"lines": tuple(line for line in cart.lines if line.product != item.id)})
    await ctx.records.put(CARTS, ctx.session_id, cart, version=version)
    output = _output(ctx, cart)
    return {**output, "say": f"I took the {item.name} out. {output['say']}"}


@tool(cls="read", data=(CATALOGUE, PRICING), records=(CARTS,))
async def show_cart(ctx: ToolContext) -> Output:
    """Show the cart: what is in it, and the total with discount, shipping and tax."""
    kept = await ctx.records.find(CARTS, ctx.session_id)
    cart = kept.data if kept else Cart()
    output = _output(ctx, cart)
    if not cart.lines:
        return output
    catalogue = ctx.data(CATALOGUE)
    names = [
        f"{line.quantity} {with_size(catalogue.product(line.product), line.size)}" for line in cart.lines
    ]
    return {**output, "say": f"You have {said_list(names)}. {output['say']}"}


@tool(cls="reversible", data=(CATALOGUE, PRICING), records=(CARTS,))
async def apply_promo_code(
    ctx: ToolContext,
    promo_code: Annotated[
        str, Field(description="The promo code, such as TRAIL15", min_length=2, max_length=20)
    ],
) -> Output:
    """Apply a promo code, coupon, voucher or discount code."""
    cart, version = await _cart(ctx)
    if not cart.lines:
        raise Refused("Your cart is empty. Let's put something in first.", code="cart_empty")
    promo = ctx.data(PRICING).promo(promo_code)
    if promo is None:
        raise Refused("I don't know that code. Could you read it to me again?", code="promo_unknown")
    if fault := promo_fault(promo, _lines(ctx, cart), today_of(ctx)):
        least = f" It starts at {usd(promo.min_goods_usd)}." if fault == "below_minimum" else ""
        raise Refused(f"{WHY_NOT[fault]}{least}", code=f"promo_{fault}")
    cart = cart.model_copy(update={"promo": promo.code})
    await ctx.records.put(CARTS, ctx.session_id, cart, version=version)
    output = _output(ctx, cart)
    return {**output, "say": f"The code works. {output['say']}"}


@tool(
    cls="reversible",
    emits=(CaseOpened, CaseUpdated),
    data=(CATALOGUE, PRICING),
    records=(CARTS,),
    personal=("email", "name"),
)
async def check_out_and_pay(
    ctx: ToolContext,
    email: Annotated[str, Field(description="The e-mail address for the link", max_length=320)],
    name: Annotated[str | None, Field(description="The caller's full name", max_length=200)] = None,
) -> Output:
    """Check out: pay and finish the purchase. Sends a payment link by e-mail; nothing is charged before."""
    cart, _ = await _cart(ctx)
    if not cart.lines:
        raise Refused("Your cart is empty. Let's put something in first.", code="cart_empty")
    person = Person(name=name, email=valid_email(email))
    output = _output(ctx, cart)
    details: dict[str, JsonValue] = {
        "lines": [line.model_dump(mode="json") for line in cart.lines],
        "promo": cart.promo,
        "total_usd": output["total_usd"],
    }
    total = usd(Decimal(str(output["total_usd"])))
    summary = f"Send a payment link for {total}"
    for case in await ctx.cases.list(kind="checkout", of_session=True, is_open=True):
        await ctx.cases.update(case, details=details, summary=summary, person=person)
        break
    else:
        case = await ctx.cases.open(NewCase(kind="checkout", summary=summary, person=person), details=details)
    return {
        **output,
        "reference": case.reference,
        "say": f"Your link to pay {total} is on its way by e-mail. Nothing is charged before you confirm it.",
    }


async def _cart(ctx: ToolContext) -> tuple[Cart, int]:
    """Return this session's cart and its version, locked until the call ends; a new one when it has none.

    Callers put two things into a cart in one breath: then two calls of one session make its cart at once.
    """
    kept = await ctx.records.lock(CARTS, ctx.session_id)
    if kept is None:
        try:
            kept = await ctx.records.put(CARTS, ctx.session_id, Cart(), version=0)
        except Refused:
            kept = await ctx.records.lock(CARTS, ctx.session_id)
    return (kept.data, kept.version) if kept else (Cart(), 0)


def _lines(ctx: ToolContext, cart: Cart) -> list[Line]:
    catalogue = ctx.data(CATALOGUE)
    return [_line(catalogue.product(line.product), line.quantity) for line in cart.lines]


def _line(product: Product, quantity: int) -> Line:
    return Line(product.category, product.price_usd, quantity, product.is_final_sale)


def _output(ctx: ToolContext, cart: Cart) -> Output:
    """Return a cart with what it comes to, each amount to the cent."""
    pricing = ctx.data(PRICING)
    promo = pricing.promo(cart.promo) if cart.promo else None
    sums = totals(_lines(ctx, cart), promo, pricing, today_of(ctx))
    catalogue = ctx.data(CATALOGUE)
    lines: list[JsonValue] = [
        f"{line.quantity} {with_size(product, line.size)}, {usd(product.price_usd)} each"
        for line in cart.lines
        for product in [catalogue.product(line.product)]
    ]
    return {
        "cart": lines,
        "goods_usd": float(sums.goods),
        "discount_usd": float(sums.discount),
        "shipping_usd": float(sums.shipping),
        "tax_usd": float(sums.tax),
        "total_usd": float(sums.total),
        "promo_code": cart.promo if sums.promo_fault is None else None,
        "say": _said(sums),
    }


def _said(sums: Totals) -> str:
    if not sums.goods:
        return "Your cart is empty."
    off = f", {usd(sums.discount)} off" if sums.discount else ""
    shipping = f"{usd(sums.shipping)} shipping" if sums.shipping else "free shipping"
    lost = f" {WHY_NOT[sums.promo_fault]}" if sums.promo_fault else ""
    return f"With {shipping} and tax{off}, your total is ${sums.total:,}.{lost}"
