"""The shop's rules by table: totals to the cent, the return policy, and how products are ranked."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from parley_tools.rules.shop_ranking import Product, RankingRules, Wish, named, rank
from parley_tools.rules.shop_returns import Asked, ReturnPolicy, decide
from parley_tools.rules.shop_totals import Line, Pricing, Promo, totals

D = Decimal
DATA = Path(__file__).parents[3] / "businesses" / "shop" / "data"
TODAY = date(2026, 1, 5)
JACKET, HAT, SALE = (
    Line("jacket", D("129.00"), 1),
    Line("hat", D("24.00"), 2),
    Line("umbrella", D("19.00"), 1, True),
)
OFF15 = Promo(code="A15", percent_off=D(15))
OFF20 = Promo(code="B20", amount_off_usd=D(20), categories=("hat",))
FREE = Promo(code="C0", is_free_shipping=True)
PRICING = Pricing(shipping_usd=D("6.95"), free_shipping_from_usd=D(100), tax_pct=D("7.25"))
POLICY = ReturnPolicy(
    window_days=30,
    store_credit_window_days=60,
    our_fault_window_days=365,
    our_fault_reasons=("damaged", "wrong item"),
    label_fee_usd=D("5.95"),
    never_categories=("underwear",),
)


@pytest.mark.parametrize(
    ("lines", "promo", "expected"),
    [
        ((), None, ("0.00", "0", "0", "0.00", "0.00")),
        ((HAT,), None, ("48.00", "0", "6.95", "3.48", "58.43")),
        ((JACKET,), None, ("129.00", "0", "0", "9.35", "138.35")),
        ((JACKET, HAT), OFF15, ("177.00", "26.55", "0", "10.91", "161.36")),
        ((SALE, HAT), OFF15, ("67.00", "7.20", "6.95", "4.34", "71.09")),
        ((HAT,), OFF20, ("48.00", "20", "6.95", "2.03", "36.98")),
        ((Line("hat", D("12.00"), 1),), OFF20, ("12.00", "12.00", "6.95", "0.00", "6.95")),
        ((HAT,), FREE, ("48.00", "0", "0", "3.48", "51.48")),
        ((Line("hat", D("100.00"), 1),), OFF15, ("100.00", "15.00", "6.95", "6.16", "98.11")),
        ((Line("hat", D("0.10"), 3),), None, ("0.30", "0", "6.95", "0.02", "7.27")),
    ],
)
def test_a_cart_comes_to_what_it_comes_to_by_hand(
    lines: tuple[Line, ...], promo: Promo | None, expected: tuple[str, ...]
) -> None:
    sums = totals(lines, promo, PRICING, TODAY)
    assert (sums.goods, sums.discount, sums.shipping, sums.tax, sums.total) == tuple(map(D, expected))
    assert sums.promo_fault is None


@pytest.mark.parametrize(
    ("promo", "lines", "fault"),
    [
        (Promo(code="X", percent_off=D(5), last_day=date(2026, 1, 4)), (JACKET,), "expired"),
        (Promo(code="X", percent_off=D(5), last_day=TODAY), (JACKET,), None),
        (Promo(code="X", percent_off=D(5), first_day=date(2026, 1, 6)), (JACKET,), "not_yet"),
        (Promo(code="X", percent_off=D(5), first_day=TODAY), (JACKET,), None),
        (Promo(code="X", percent_off=D(5), min_goods_usd=D("129.01")), (JACKET,), "below_minimum"),
        (Promo(code="X", percent_off=D(5), min_goods_usd=D("129.00")), (JACKET,), None),
        (OFF20, (JACKET,), "nothing_eligible"),
        (OFF15, (SALE,), "nothing_eligible"),
    ],
)
def test_a_promo_holds_on_its_days_from_its_amount_and_for_its_categories(
    promo: Promo, lines: tuple[Line, ...], fault: str | None
) -> None:
    sums = totals(lines, promo, PRICING, TODAY)
    assert sums.promo_fault == fault
    assert (sums.discount > 0) is (fault is None)


@pytest.mark.parametrize("given", [{}, {"percent_off": 5, "amount_off_usd": 5}, {"percent_off": 0}])
def test_a_promo_that_gives_nothing_or_two_things_is_no_promo(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Promo(code="X", **given)


def test_a_code_is_known_as_people_say_it() -> None:
    pricing = Pricing.model_validate(yaml.safe_load((DATA / "pricing.yaml").read_text()))
    for said in ("TRAIL15", "trail15", " Trail 15 ", "trail-15"):
        assert (promo := pricing.promo(said)) is not None
        assert promo.code == "TRAIL15"
    assert pricing.promo("trail") is None


@pytest.mark.parametrize(
    ("days", "reason", "wanted", "more", "rule", "amount", "fee"),
    [
        (0, "too small", "refund", {}, "approved", "94.05", "5.95"),
        (30, "changed mind", "refund", {}, "approved", "94.05", "5.95"),
        (31, "changed mind", "refund", {}, "store_credit_only", "0", "0"),
        (31, "changed mind", "exchange", {}, "store_credit_only", "0", "0"),
        (31, "changed mind", "store credit", {}, "approved", "100.00", "0"),
        (60, "too large", "store credit", {}, "approved", "100.00", "0"),
        (61, "too large", "store credit", {}, "outside_window", "0", "0"),
        (10, "too large", "exchange", {}, "approved", "0", "0"),
        (10, "too large", "store credit", {}, "approved", "100.00", "0"),
        (365, "damaged", "refund", {}, "approved", "100.00", "0"),
        (366, "damaged", "refund", {}, "outside_window", "0", "0"),
        (90, "wrong item", "exchange", {}, "approved", "0", "0"),
        (5, "not as described", "refund", {}, "approved", "94.05", "5.95"),
        (None, "damaged", "refund", {}, "not_delivered", "0", "0"),
        (5, "changed mind", "refund", {"is_final_sale": True}, "final_sale", "0", "0"),
        (5, "damaged", "refund", {"is_final_sale": True}, "approved", "100.00", "0"),
        (5, "changed mind", "refund", {"category": "underwear"}, "not_returnable", "0", "0"),
        (5, "wrong item", "refund", {"category": "underwear"}, "approved", "100.00", "0"),
        (5, "too small", "refund", {"paid": D("4.00")}, "approved", "0.00", "4.00"),
    ],
)
def test_the_return_policy_decides_by_its_first_rule_that_applies(
    days: int | None, reason: Any, wanted: Any, more: dict[str, Any], rule: str, amount: str, fee: str
) -> None:
    fields: dict[str, Any] = {"category": "boots", "paid": D("100.00")}
    asked = Asked(days_since_delivery=days, reason=reason, wanted=wanted, **(fields | more))
    decision = decide(POLICY, asked)
    assert (decision.rule, decision.amount, decision.label_fee) == (rule, D(amount), D(fee))


def test_a_policy_whose_windows_narrow_is_refused() -> None:
    with pytest.raises(ValidationError, match="must not be shorter"):
        ReturnPolicy.model_validate({**POLICY.model_dump(), "store_credit_window_days": 10})


@pytest.fixture(scope="module")
def catalogue() -> tuple[Product, ...]:
    raw = yaml.safe_load((DATA / "products.yaml").read_text())["products"]
    return tuple(Product.model_validate(each) for each in raw)


@pytest.fixture(scope="module")
def rules() -> RankingRules:
    return RankingRules.model_validate(yaml.safe_load((DATA / "ranking.yaml").read_text()))


@pytest.mark.parametrize(
    ("wish", "first"),
    [
        (Wish("a coat for the rain"), "ridge-rain-jacket"),
        (Wish("a coat for snowy streets in the city"), "town-parka"),
        (Wish("a warm jacket", max_price=D(200)), "town-parka"),
        (Wish("shoes for jogging"), "swift-shoes"),
        (Wish("a bag for my trip"), "tarn-backpack"),
        (Wish("a bag", color="black"), "weekend-duffel"),
        (Wish("whatever", kind="gloves"), "grip-gloves"),
        (Wish("boots", size="13"), None),
        (Wish("boots", max_price=D("163.99")), None),
        (Wish("hello there"), None),
    ],
)
def test_products_are_ranked_by_what_is_asked_of_them(
    catalogue: tuple[Product, ...], rules: RankingRules, wish: Wish, first: str | None
) -> None:
    ranked = rank(catalogue, rules, wish)
    assert (ranked[0].product.id if ranked else None) == first
    assert ranked == rank(tuple(reversed(catalogue)), rules, wish)


@pytest.mark.parametrize(
    ("said", "ids"),
    [
        ("the Ridge rain jacket", ["ridge-rain-jacket"]),
        ("rain jackets", ["ridge-rain-jacket"]),
        ("a backpack", ["tarn-backpack"]),
        ("jacket", ["ridge-rain-jacket", "summit-down-jacket"]),
        ("piano", []),
    ],
)
def test_a_product_is_known_by_its_names(catalogue: tuple[Product, ...], said: str, ids: list[str]) -> None:
    assert [each.id for each in named(catalogue, said)] == ids
