"""The shop kit's shelves: what fits a wish, what is in stock where, putting aside, and telling when it is back."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from parley_tools.kit import (
    Annotated,
    CaseOpened,
    Field,
    JsonValue,
    NewCase,
    Output,
    Person,
    Refused,
    ToolContext,
    spoken_moment,
    tool,
    valid_phone,
)
from parley_tools.kits.shop._shelf import (
    CATALOGUE,
    RANKING,
    SHELVES,
    SIZE_SAYS,
    STORES,
    Kind,
    Shelf,
    Size,
    meant_product,
    meant_size,
    meant_store,
    said_list,
    shelf_of,
    usd,
    with_size,
)
from parley_tools.rules.shop_ranking import Product, Ranked, Wish, rank

RECOMMENDED_MAX = 3
FEW = 3
"""So few that the caller should hear it."""


@tool(cls="read", deadline_ms=4_000, data=(CATALOGUE, RANKING), records=(SHELVES,))
async def recommend_products(
    ctx: ToolContext,
    query: Annotated[
        str,
        Field(
            description="What the caller is looking for and what it is for, in their own words",
            min_length=2,
            max_length=300,
        ),
    ],
    kind: Annotated[Kind | None, Field(description="The kind of product, when the caller says one")] = None,
    max_price_usd: Annotated[
        float | None, Field(description="The most the caller wants to spend, in dollars", gt=0, le=100_000)
    ] = None,
    color: Annotated[str | None, Field(description="The color the caller likes", max_length=40)] = None,
    size: Annotated[Size | None, Field(description=SIZE_SAYS)] = None,
) -> Output:
    """Recommend products to a caller who is looking for something to wear or to take along, by what it is for,
    budget, color and size. Says which fits best and why.
    """
    price = None if max_price_usd is None else Decimal(str(max_price_usd))
    found = rank(ctx.data(CATALOGUE).products, ctx.data(RANKING), Wish(query, kind, price, color, size))
    in_stock = await _in_stock(ctx, found, size)
    best = (in_stock or found)[:RECOMMENDED_MAX]
    if not best:
        return _nothing_fits(ctx, Wish(query, kind, size=size), price)
    products: list[JsonValue] = [
        {
            "product": each.product.name,
            "price_usd": float(each.product.price_usd),
            "color": each.product.color,
            "why": list(each.reasons),
            "summary": each.product.summary,
            "in_stock": each in in_stock,
        }
        for each in best
    ]
    return {"found": True, "products": products, "say": _recommended(best, is_in_stock=bool(in_stock))}


@tool(cls="read", deadline_ms=4_000, data=(CATALOGUE, STORES), records=(SHELVES,))
async def look_up_stock(
    ctx: ToolContext,
    product: Annotated[str, Field(description="The product the caller asks about", max_length=120)],
    size: Annotated[Size | None, Field(description=SIZE_SAYS)] = None,
    store_town: Annotated[
        str | None, Field(description="The town of the store, such as Alder Bay", max_length=60)
    ] = None,
) -> Output:
    """Look up whether a product is in stock: is it available, in which size, online or in a store."""
    item = meant_product(ctx.data(CATALOGUE).products, product)
    store = meant_store(ctx.data(STORES), store_town) if store_town else None
    if size is None and item.sizes:
        return await _every_size(ctx, item, store.town if store else None)
    shelf = await _shelf(ctx, item, meant_size(item, size))
    where: dict[str, JsonValue] = {"online": shelf.online, **shelf.in_stores}
    label = with_size(item, shelf.size)
    if store is not None:
        count = shelf.in_stores.get(store.town, 0)
        return {
            "product": item.name,
            "in_stock": count > 0,
            "count": count,
            "counts": where,
            "say": _said_in_store(label, store.town, count, shelf),
        }
    any_there = shelf.online > 0 or any(shelf.in_stores.values())
    if any_there:
        return {"product": item.name, "in_stock": True, "counts": where, "say": _said_anywhere(label, shelf)}
    say = f"The {label} is sold out everywhere. {await _alternatives(ctx, item, shelf.size)}".strip()
    return {"product": item.name, "in_stock": False, "counts": where, "say": say}


@tool(
    cls="reversible",
    emits=(CaseOpened,),
    data=(CATALOGUE, STORES),
    records=(SHELVES,),
    personal=("name", "phone"),
)
async def reserve_in_store(
    ctx: ToolContext,
    product: Annotated[str, Field(description="The product to put aside", max_length=120)],
    store_town: Annotated[
        str, Field(description="The town of the store where the caller will pick it up", max_length=60)
    ],
    name: Annotated[str, Field(description="The caller's full name", min_length=1, max_length=200)],
    size: Annotated[Size | None, Field(description=SIZE_SAYS)] = None,
    phone: Annotated[
        str | None, Field(description="The caller's phone number with area code", max_length=40)
    ] = None,
) -> Output:
    """Reserve a product in a store: put it aside for pickup, under the caller's name."""
    item = meant_product(ctx.data(CATALOGUE).products, product)
    store = meant_store(ctx.data(STORES), store_town)
    chosen = meant_size(item, size)
    label = with_size(item, chosen)
    person = Person(name=" ".join(name.split()), phone=_phone(ctx, phone))
    for earlier in await ctx.cases.list(kind="reservation", of_session=True, is_open=True):
        if (earlier.details.get("product"), earlier.details.get("size"), earlier.details.get("town")) == (
            item.id,
            chosen,
            store.town,
        ):
            return _reserved(earlier.reference, label, store.town, str(earlier.details["held_until"]))
    shelf = await shelf_of(ctx, item, chosen)
    if shelf.in_stores.get(store.town, 0) < 1:
        raise Refused(_said_in_store(label, store.town, 0, shelf), code="sold_out")
    await ctx.records.put(SHELVES, shelf.id, shelf.without(1, store.town))
    until = ctx.now + timedelta(hours=float(ctx.setting("reservation_hours", 48)))
    held_until = spoken_moment(until, ctx.business.zone)
    case = await ctx.cases.open(
        NewCase(
            kind="reservation",
            summary=f"Put aside {label} in {store.town} until {held_until}",
            person=person,
            subject=item.id,
            queue=store.town,
        ),
        details={"product": item.id, "size": chosen, "town": store.town, "held_until": held_until},
    )
    return _reserved(case.reference, label, store.town, held_until)


@tool(
    cls="reversible",
    needs=("consent:contact",),
    emits=(CaseOpened,),
    data=(CATALOGUE,),
    records=(SHELVES,),
)
async def back_in_stock_alert(
    ctx: ToolContext,
    product: Annotated[str, Field(description="The product that is sold out", max_length=120)],
    size: Annotated[Size | None, Field(description=SIZE_SAYS)] = None,
) -> Output:
    """Alert the caller when a sold-out product is back: notify them by e-mail. Their details must have been saved with
    save_lead, with their permission.
    """
    item = meant_product(ctx.data(CATALOGUE).products, product)
    chosen = meant_size(item, size)
    shelf = await _shelf(ctx, item, chosen)
    label = with_size(item, chosen)
    if shelf.online > 0:
        return {"in_stock": True, "say": f"Good news: the {label} is in stock online right now."}
    subject = shelf.id
    for earlier in await ctx.cases.list(kind="back_in_stock", subject=subject, is_open=True):
        if earlier.session_id == ctx.session_id:
            return {"reference": earlier.reference, "say": f"You are already on the list for the {label}."}
    saved = await ctx.earlier("save_lead") or {}
    case = await ctx.cases.open(
        NewCase(kind="back_in_stock", summary=f"Tell a customer when {label} is back", subject=subject),
        details={"product": item.id, "size": chosen, "lead_id": saved.get("lead_id")},
    )
    return {
        "reference": case.reference,
        "say": f"You are on the list. We will e-mail you as soon as the {label} is back.",
    }


def _phone(ctx: ToolContext, said: str | None) -> str | None:
    return valid_phone(said, str(ctx.setting("phone_region", "US"))) if said else None


def _reserved(reference: str, label: str, town: str, held_until: str) -> Output:
    return {
        "reserved": True,
        "reference": reference,
        "held_until": held_until,
        "say": f"The {label} is put aside for you in {town} until {held_until}. "
        f"Your reference is {' '.join(reference)}.",
    }


def _recommended(best: list[Ranked], *, is_in_stock: bool) -> str:
    first = best[0]
    reasons = said_list(first.reasons[:3])
    say = f"I'd take the {first.product.name} at {usd(first.product.price_usd)}: {reasons}."
    if len(best) > 1:
        second = best[1]
        say += f" The next best is the {second.product.name} at {usd(second.product.price_usd)}."
    return say if is_in_stock else f"{say} It is sold out at the moment, though."


def _nothing_fits(ctx: ToolContext, wish: Wish, price: Decimal | None) -> Output:
    """Say what there would be without the price and the color, rather than just no."""
    cheapest = min(
        rank(ctx.data(CATALOGUE).products, ctx.data(RANKING), wish),
        key=lambda ranked: ranked.product.price_usd,
        default=None,
    )
    if cheapest is None:
        say = "I have nothing like that. What would you use it for?"
    elif price is not None and cheapest.product.price_usd > price:
        dear = f"the {cheapest.product.name} at {usd(cheapest.product.price_usd)}"
        say = f"I have nothing like that for {usd(price)}. The closest is {dear}."
    else:
        say = f"I have nothing exactly like that. The closest is the {cheapest.product.name}."
    return {"found": False, "products": [], "say": say}


async def _in_stock(ctx: ToolContext, found: list[Ranked], size: str | None) -> list[Ranked]:
    shelves = [kept.data for kept in await ctx.records.all(SHELVES)]
    there = {
        shelf.product
        for shelf in shelves
        if (shelf.online or any(shelf.in_stores.values())) and size in (None, shelf.size)
    }
    sizeless = {each.product.id for each in found if not each.product.sizes}
    stocked = {shelf.product for shelf in shelves if shelf.online or any(shelf.in_stores.values())}
    return [each for each in found if each.product.id in there | (sizeless & stocked)]


async def _shelf(ctx: ToolContext, product: Product, size: str) -> Shelf:
    """Read a shelf without locking it."""
    shelf_id = f"{product.id}/{size}"
    kept = await ctx.records.find(SHELVES, shelf_id)
    return kept.data if kept else Shelf(id=shelf_id, product=product.id, size=size, online=0, in_stores={})


async def _every_size(ctx: ToolContext, product: Product, town: str | None) -> Output:
    counts: dict[str, JsonValue] = {}
    for size in product.sizes:
        shelf = await _shelf(ctx, product, size)
        there = shelf.in_stores.get(town, 0) if town else shelf.online + sum(shelf.in_stores.values())
        counts[size] = there
    sizes = [size for size, count in counts.items() if count]
    where = f" in {town}" if town else ""
    if not sizes:
        say = f"The {product.name} is sold out{where} in every size."
    else:
        say = f"We have the {product.name}{where} in {said_list(sizes)}. Which size do you need?"
    return {"product": product.name, "in_stock": bool(sizes), "sizes": counts, "say": say}


def _said_in_store(label: str, town: str, count: int, shelf: Shelf) -> str:
    if count:
        left = f"only {count} left" if count <= FEW else f"{count} in stock"
        return f"Yes, {town} has the {label}, {left}."
    elsewhere = [other for other, there in shelf.in_stores.items() if there and other != town]
    places = [*elsewhere, *(["our online shop"] if shelf.online else [])]
    if not places:
        return f"The {label} is sold out in {town}, and everywhere else too."
    return f"The {label} is sold out in {town}, but there are some in {said_list(places)}."


def _said_anywhere(label: str, shelf: Shelf) -> str:
    stores = [town for town, count in shelf.in_stores.items() if count]
    parts = [*(["online"] if shelf.online else []), *([f"in {said_list(stores)}"] if stores else [])]
    return f"Yes, we have the {label} {said_list(parts)}."


async def _alternatives(ctx: ToolContext, product: Product, size: str) -> str:
    sizes = [
        other
        for other in product.sizes
        if other != size
        and ((shelf := await _shelf(ctx, product, other)).online or any(shelf.in_stores.values()))
    ]
    return f"I still have it in {said_list(sizes)}." if sizes else ""
