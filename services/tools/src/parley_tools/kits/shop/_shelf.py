"""What the shop's modules share: the catalogue, the shelves, the stores, and how things are named and said.

Law: a product, a size or a store that a caller names is one that there is, or they are asked which they mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Literal

from parley_tools.kit import DataFile, DataPart, Field, JsonValue, RecordKind, Refused, ToolContext
from parley_tools.rules.shop_ranking import Product, RankingRules, named
from parley_tools.rules.shop_totals import Pricing, cents

Size = Literal["small", "medium", "large", "extra large", "7", "8", "9", "10", "11", "12", "one size"]
Kind = Literal[
    "jacket",
    "fleece",
    "shirt",
    "shorts",
    "trousers",
    "boots",
    "shoes",
    "backpack",
    "hat",
    "gloves",
    "underwear",
    "umbrella",
]
"""The categories of the catalogue, as callers ask for them."""
ONE_SIZE = "one size"
SIZE_SAYS = "The size, such as medium or 9, when the product comes in sizes"
QUANTITY_MAX = 20


class Catalogue(DataPart):
    """data/products.yaml."""

    products: tuple[Product, ...] = Field(min_length=1)

    def product(self, product_id: str) -> Product:
        """Return a product by its id; one that was taken off the catalogue is a refusal."""
        found = next((each for each in self.products if each.id == product_id), None)
        if found is None:
            raise Refused("We don't sell that any more.", code="product_gone")
        return found


class Store(DataPart):
    """One store."""

    town: str
    also: tuple[str, ...] = ()
    address: str
    phone: str
    open: str


class Stores(DataPart):
    """data/stores.yaml."""

    stores: tuple[Store, ...]


class Shelf(DataPart):
    """How many there are of one product in one size."""

    id: str
    product: str
    size: str
    online: int = Field(ge=0)
    in_stores: dict[str, int]

    def without(self, count: int, town: str | None = None) -> Shelf:
        """Return the shelf with ``count`` less, online or in a store. It is for whoever takes to look first."""
        if town is None:
            return self.model_copy(update={"online": self.online - count})
        return self.model_copy(update={"in_stores": {**self.in_stores, town: self.in_stores[town] - count}})


CATALOGUE = DataFile("products.yaml", Catalogue)
RANKING = DataFile("ranking.yaml", RankingRules)
STORES = DataFile("stores.yaml", Stores)
PRICING = DataFile("pricing.yaml", Pricing)
SHELVES = RecordKind("shelf", Shelf, seed="stock.yaml")


def meant_product(products: Sequence[Product], said: str) -> Product:
    """Return the one product that a caller means.

    Raises:
        Refused: product_not_found, or which_product with the names it may be.
    """
    found = named(products, said)
    if len(found) == 1:
        return found[0]
    if not found:
        raise Refused("I don't find that product. What should it be good for?", code="product_not_found")
    names: list[JsonValue] = [each.name for each in found[:3]]
    raise Refused(
        f"Which one do you mean: the {said_list([each.name for each in found[:3]], 'or the')}?",
        code="which_product",
        products=names,
    )


def meant_size(product: Product, said: str | None) -> str:
    """Return the size of ``product`` that is meant.

    Raises:
        Refused: size_needed or no_such_size, with the sizes there are.
    """
    if not product.sizes:
        return ONE_SIZE
    sizes: list[JsonValue] = list(product.sizes)
    listed = said_list(product.sizes, "or")
    if said is None or said == ONE_SIZE:
        raise Refused(f"Which size of the {product.name}: {listed}?", code="size_needed", sizes=sizes)
    if said not in product.sizes:
        raise Refused(f"The {product.name} comes in {listed}.", code="no_such_size", sizes=sizes)
    return said


def meant_store(stores: Stores, said: str) -> Store:
    """Return the store that a caller names. Raises Refused with the towns there are."""
    words = f" {said.lower().replace('store', ' ').strip()} "
    for store in stores.stores:
        if any(f" {name.lower()} " in words for name in (store.town, *store.also)):
            return store
    towns = [store.town for store in stores.stores]
    raise Refused(
        f"We have no store there. Our stores are in {said_list(towns)}.",
        code="store_not_found",
        stores=list[JsonValue](towns),
    )


async def shelf_of(ctx: ToolContext, product: Product, size: str) -> Shelf:
    """Return the shelf of a product in a size, locked until the call ends; an empty one when none was filled."""
    shelf_id = f"{product.id}/{size}"
    kept = await ctx.records.lock(SHELVES, shelf_id)
    return kept.data if kept else Shelf(id=shelf_id, product=product.id, size=size, online=0, in_stores={})


def with_size(product: Product, size: str) -> str:
    """Return how a product in a size is said."""
    return product.name if size == ONE_SIZE else f"{product.name} in {size}"


def said_list(parts: Sequence[str], word: str = "and") -> str:
    """Return "a", "a and b" or "a, b and c"."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} {word} {parts[-1]}"


def usd(amount: Decimal) -> str:
    """Return an amount as it is said: whole dollars without cents."""
    exact = cents(amount)
    return f"${exact:,.0f}" if exact == exact.to_integral_value() else f"${exact:,}"


def spoken_day(day: date) -> str:
    """Return a date as it is said: "Tuesday, January 6"."""
    return f"{day:%A, %B} {day.day}"


def today_of(ctx: ToolContext) -> date:
    """Return the business's own date."""
    return ctx.now.astimezone(ctx.business.zone).date()
