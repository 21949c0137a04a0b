"""What a cart comes to: goods, discount, shipping, tax and total, each to the cent.

A promo code is judged against the cart as it is now, every time: one that held when it was entered and holds no more
gives nothing, and says why. It keeps no cart and knows no catalogue.

Law: total = goods - discount + shipping + tax; each part is rounded half up once, where it arises.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from typing import Literal, Self

from pydantic import Field, model_validator

from parley_tools.files import DataPart

CENT = Decimal("0.01")
ZERO = Decimal(0)
PromoFault = Literal["not_yet", "expired", "below_minimum", "nothing_eligible"]


class Promo(DataPart):
    """One promo code; exactly one of percent_off, amount_off_usd and is_free_shipping."""

    code: str
    percent_off: Decimal | None = Field(default=None, gt=0, le=90)
    amount_off_usd: Decimal | None = Field(default=None, gt=0)
    is_free_shipping: bool = False
    min_goods_usd: Decimal = Field(default=ZERO, ge=0)
    categories: tuple[str, ...] = ()
    """Empty: any."""
    first_day: date | None = None
    last_day: date | None = None

    @model_validator(mode="after")
    def _gives_one_thing(self) -> Self:
        given = [self.percent_off is not None, self.amount_off_usd is not None, self.is_free_shipping]
        if given.count(True) != 1:
            raise ValueError("a promo gives exactly one of percent_off, amount_off_usd, is_free_shipping")
        return self


class Pricing(DataPart):
    """data/pricing.yaml: what is added to goods, and the codes that take off."""

    shipping_usd: Decimal = Field(ge=0)
    free_shipping_from_usd: Decimal = Field(ge=0)
    tax_pct: Decimal = Field(ge=0, le=30)
    promos: tuple[Promo, ...] = ()

    def promo(self, code: str) -> Promo | None:
        """Return the promo of a code as people type or say it ("trail 15"); null when there is none."""
        plain = "".join(each for each in code.upper() if each.isalnum())
        return next((each for each in self.promos if each.code == plain), None)


@dataclass(frozen=True, slots=True)
class Line:
    """So many of one product."""

    category: str
    unit_price: Decimal
    quantity: int
    is_final_sale: bool = False

    @property
    def amount(self) -> Decimal:
        return cents(self.unit_price * self.quantity)


@dataclass(frozen=True, slots=True)
class Totals:
    """What a cart comes to."""

    goods: Decimal
    discount: Decimal
    shipping: Decimal
    tax: Decimal
    total: Decimal
    promo_fault: PromoFault | None = None
    """Why the promo gives nothing; null when it gives something, or there is none."""


def cents(amount: Decimal) -> Decimal:
    """Return an amount rounded half up to the cent."""
    return amount.quantize(CENT, ROUND_HALF_UP)


def totals(lines: Sequence[Line], promo: Promo | None, pricing: Pricing, today: date) -> Totals:
    """Return what ``lines`` come to with ``promo``; an empty cart is not shipped and costs nothing."""
    goods = sum((line.amount for line in lines), ZERO)
    fault = promo_fault(promo, lines, today) if promo else None
    holds = promo if promo and fault is None else None
    discount = _discount(holds, lines) if holds else ZERO
    shipping = _shipping(goods - discount, holds, pricing) if lines else ZERO
    tax = cents((goods - discount) * pricing.tax_pct / 100)
    return Totals(cents(goods), discount, shipping, tax, goods - discount + shipping + tax, fault)


def promo_fault(promo: Promo, lines: Sequence[Line], today: date) -> PromoFault | None:
    """Return why ``promo`` gives nothing on ``lines`` today; null when it holds."""
    if promo.first_day and today < promo.first_day:
        return "not_yet"
    if promo.last_day and today > promo.last_day:
        return "expired"
    if sum((line.amount for line in lines), ZERO) < promo.min_goods_usd:
        return "below_minimum"
    if not promo.is_free_shipping and _eligible(promo, lines) == 0:
        return "nothing_eligible"
    return None


def _eligible(promo: Promo, lines: Sequence[Line]) -> Decimal:
    """Return the goods that a code takes from: of its categories, and never what is on final sale."""
    return sum(
        (
            line.amount
            for line in lines
            if not line.is_final_sale and (not promo.categories or line.category in promo.categories)
        ),
        ZERO,
    )


def _discount(promo: Promo, lines: Sequence[Line]) -> Decimal:
    eligible = _eligible(promo, lines)
    if promo.percent_off is not None:
        return cents(eligible * promo.percent_off / 100)
    return min(eligible, promo.amount_off_usd or ZERO)


def _shipping(paid_for_goods: Decimal, promo: Promo | None, pricing: Pricing) -> Decimal:
    is_free = promo is not None and promo.is_free_shipping
    return ZERO if is_free or paid_for_goods >= pricing.free_shipping_from_usd else pricing.shipping_usd
