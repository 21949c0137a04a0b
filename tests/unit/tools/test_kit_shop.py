"""The shop's tools through the executor, on both databases: what they say, refuse, and leave behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from parley_common.contracts.cases import CaseOpened, CaseUpdated
from parley_common.contracts.leads import LeadCaptured
from parley_common.contracts.tool_calls import CallerContext
from unit.tools.speaking_caller import SpeakingCaller
from unit.tools.world import World, world

SHOP = Path(__file__).parents[3] / "businesses" / "shop"
MAYA = {"email": "maya.torres@example.com"}
NINA = {"name": "Nina Park", "email": "nina.park@example.com", "consent": True}
DAY_MS = 24 * 3_600_000


@pytest.fixture
async def place(database_url: str) -> AsyncIterator[World]:
    async with world(database_url, SHOP) as made:
        yield made


@pytest.fixture
def caller(place: World) -> SpeakingCaller:
    return SpeakingCaller(place, "shop")


async def opened(place: World) -> list[CaseOpened]:
    return [fact for fact in await place.facts() if isinstance(fact, CaseOpened)]


async def shelf(place: World, shelf_id: str) -> str:
    rows = await place.rows(f"SELECT data FROM records WHERE kind = 'shelf' AND record_id = '{shelf_id}'")
    return str(rows[0][0]).replace("'", '"')


async def test_what_fits_best_comes_first_with_its_reasons_and_nothing_dearer(caller: SpeakingCaller) -> None:
    found = await caller.output(
        "recommend_products", query="a jacket for hiking in the rain", max_price_usd=150
    )
    best = found["products"][0]
    assert (best["product"], best["price_usd"]) == ("Ridge rain jacket", 129.0)
    assert "waterproof" in best["why"]
    assert "within your budget" in best["why"]
    assert all(each["price_usd"] <= 150 for each in found["products"])
    assert found["say"].startswith("I'd take the Ridge rain jacket at $129: made for hiking, waterproof")


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        (
            {"query": "boots for hiking", "max_price_usd": 50},
            "nothing like that for $50. The closest is the Cairn",
        ),
        ({"query": "a violin"}, "nothing like that. What would you use it for?"),
        ({"query": "gloves", "size": "12"}, "nothing like that. What would you use it for?"),
    ],
)
async def test_when_nothing_fits_the_caller_hears_what_comes_closest(
    caller: SpeakingCaller, wish: dict[str, Any], says: str
) -> None:
    found = await caller.output("recommend_products", **wish)
    assert (found["found"], found["products"]) == (False, [])
    assert says in found["say"]


async def test_a_size_that_is_sold_out_is_not_recommended_before_one_that_is_there(
    caller: SpeakingCaller,
) -> None:
    found = await caller.output(
        "recommend_products", query="something waterproof", kind="jacket", size="large"
    )
    names = [each["product"] for each in found["products"]]
    assert names[0] == "Town parka"
    assert "Ridge rain jacket" not in names


@pytest.mark.parametrize(
    ("asked", "in_stock", "says"),
    [
        (
            {"size": "medium", "store_town": "Alder Bay"},
            True,
            "Alder Bay has the Ridge rain jacket in medium, only 3",
        ),
        (
            {"size": "medium", "store_town": "Northgate store"},
            False,
            "some in Alder Bay, Millbrook and our online shop",
        ),
        ({"size": "small"}, True, "online and in Alder Bay and Millbrook"),
        ({"size": "large"}, False, "sold out everywhere. I still have it in small, medium and extra large"),
        ({}, True, "in small, medium and extra large. Which size do you need?"),
        ({"store_town": "Northgate"}, True, "in Northgate in extra large"),
    ],
)
async def test_stock_is_told_by_size_and_store(
    caller: SpeakingCaller, asked: dict[str, Any], in_stock: bool, says: str
) -> None:
    told = await caller.output("look_up_stock", product="the ridge rain jacket", **asked)
    assert told["in_stock"] is in_stock
    assert says in told["say"]


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"product": "a violin"}, "product_not_found"),
        ({"product": "the jacket"}, "which_product"),
        ({"product": "rain jacket", "size": "9"}, "no_such_size"),
        ({"product": "rain jacket", "store_town": "Gotham"}, "store_not_found"),
    ],
)
async def test_what_the_shop_does_not_know_is_asked_back(
    caller: SpeakingCaller, asked: dict[str, Any], code: str
) -> None:
    assert (await caller.refusal("look_up_stock", **asked))[0] == code


async def test_a_reservation_takes_one_off_the_shelf_once_however_often_it_is_asked(
    caller: SpeakingCaller,
) -> None:
    wish = {
        "product": "tarn backpack",
        "store_town": "Alder Bay",
        "name": "Nora Blake",
        "phone": "303-555-0142",
    }
    first = await caller.output("reserve_in_store", **wish)
    again = await caller.output("reserve_in_store", **wish)
    assert first["reference"] == again["reference"]
    assert "until Wednesday, January 7 at 10 AM" in first["say"]
    (case,) = await opened(caller.place)
    assert (case.kind, case.queue, case.details["town"]) == ("reservation", "Alder Bay", "Alder Bay")
    assert case.person is not None
    assert (case.person.name, case.person.phone) == ("Nora Blake", "+13035550142")
    assert '"Alder Bay": 1' in await shelf(caller.place, "tarn-backpack/one size")


async def test_of_many_who_want_the_last_one_in_a_store_only_one_gets_it(place: World) -> None:
    worker = place.worker()
    wish = {"product": "ridge rain jacket", "size": "medium", "store_town": "Millbrook", "name": "Nora Blake"}
    async with asyncio.TaskGroup() as group:
        for number in range(6):
            arrived = place.arrived("reserve_in_store", wish, session_id=f"session-{number}", business="shop")
            group.create_task(worker.executor.handle(arrived))
    codes = [result.code for result in place.published.results()]
    assert sorted(codes, key=str) == [None, *["sold_out"] * 5]
    assert len(await opened(place)) == 1


async def test_one_call_ten_times_reserves_once(caller: SpeakingCaller) -> None:
    wish = {"product": "tarn backpack", "store_town": "Northgate", "name": "Nora Blake"}
    answers = [(await caller.ask("reserve_in_store", call_id="the-same", **wish)).output for _ in range(10)]
    assert len({str(answer) for answer in answers}) == 1
    assert '"Northgate": 3' in await shelf(caller.place, "tarn-backpack/one size")
    assert len(await opened(caller.place)) == 1


async def test_who_wants_to_be_told_must_have_agreed_to_it(caller: SpeakingCaller) -> None:
    wish = {"product": "ridge rain jacket", "size": "large"}
    code, say = await caller.refusal("back_in_stock_alert", **wish)
    assert (code, say) == ("needs_consent:contact", "Before I do that I need your permission.")
    assert (await caller.refusal("save_lead", **{**NINA, "consent": False}))[0] == "consent_required"
    lead = await caller.output("save_lead", **NINA)
    listed = await caller.output("back_in_stock_alert", **wish)
    again = await caller.output("back_in_stock_alert", **wish)
    assert listed["reference"] == again["reference"]
    assert "already on the list" in again["say"]
    captured, alert = await caller.place.facts()
    assert isinstance(captured, LeadCaptured)
    assert isinstance(alert, CaseOpened)
    assert (alert.kind, alert.details["lead_id"]) == ("back_in_stock", lead["lead_id"])
    there = await caller.output("back_in_stock_alert", product="ridge rain jacket", size="medium")
    assert there["in_stock"] is True


async def test_a_cart_is_worked_out_to_the_cent_and_a_correction_replaces_what_was_there(
    caller: SpeakingCaller,
) -> None:
    one = await caller.output("add_to_cart", product="fern fleece", size="medium", quantity=1)
    assert (one["goods_usd"], one["shipping_usd"], one["tax_usd"], one["total_usd"]) == (
        64.5,
        6.95,
        4.68,
        76.13,
    )
    two = await caller.output("add_to_cart", product="fern fleece", size="medium", quantity=2)
    assert (two["goods_usd"], two["shipping_usd"], two["total_usd"]) == (129.0, 0.0, 138.35)
    large = await caller.output("add_to_cart", product="fern fleece", size="large", quantity=2)
    assert large["cart"] == ["2 Fern fleece in large, $64.50 each"]
    both = await caller.output(
        "add_to_cart", product="fern fleece", size="small", quantity=1, keep_other_size=True
    )
    assert len(both["cart"]) == 2
    shown = await caller.output("show_cart")
    assert "2 Fern fleece in large and 1 Fern fleece in small" in shown["say"]
    assert (await caller.another("session-2").output("show_cart"))["say"] == "Your cart is empty."


async def test_two_things_put_in_at_once_are_both_there(caller: SpeakingCaller) -> None:
    async with asyncio.TaskGroup() as group:
        for number, product in enumerate(("wool hat", "umbrella", "tarn backpack")):
            arrived = caller.place.arrived(
                "add_to_cart",
                {"product": product, "quantity": 1},
                call_id=f"at-once-{number}",
                business="shop",
            )
            group.create_task(caller.worker.executor.handle(arrived))
    assert {result.status for result in caller.place.published.results()} == {"ok"}
    assert len((await caller.output("show_cart"))["cart"]) == 3


async def test_a_promo_code_is_taken_off_and_drops_when_the_cart_does_not_carry_it_any_more(
    caller: SpeakingCaller,
) -> None:
    await caller.output("add_to_cart", product="fern fleece", size="medium", quantity=2)
    cut = await caller.output("apply_promo_code", promo_code="trail 15")
    assert (cut["discount_usd"], cut["tax_usd"], cut["total_usd"]) == (19.35, 7.95, 117.6)
    less = await caller.output("add_to_cart", product="fern fleece", size="medium", quantity=1)
    assert (less["discount_usd"], less["promo_code"], less["total_usd"]) == (0.0, None, 76.13)
    assert "needs a larger cart" in less["say"]
    more = await caller.output("add_to_cart", product="fern fleece", size="medium", quantity=2)
    assert more["total_usd"] == 117.6


@pytest.mark.parametrize(
    ("code", "refusal", "says"),
    [
        ("FALL24", "promo_expired", "has expired"),
        ("LATER9", "promo_not_yet", "not valid yet"),
        ("TRAIL15", "promo_below_minimum", "It starts at $80"),
        ("NOPE", "promo_unknown", "don't know that code"),
    ],
)
async def test_a_code_that_does_not_hold_says_why(
    caller: SpeakingCaller, code: str, refusal: str, says: str
) -> None:
    assert (await caller.refusal("apply_promo_code", promo_code=code))[0] == "cart_empty"
    await caller.output("add_to_cart", product="heron umbrella", quantity=1)
    told = await caller.refusal("apply_promo_code", promo_code=code)
    assert told[0] == refusal
    assert says in told[1]


@pytest.mark.parametrize(
    ("wish", "code"),
    [
        ({"product": "ridge rain jacket", "size": "large", "quantity": 1}, "sold_out"),
        ({"product": "summit down jacket", "size": "medium", "quantity": 2}, "not_enough"),
        ({"product": "ridge rain jacket", "quantity": 1}, "size_needed"),
        ({"product": "tarn backpack", "quantity": 0}, "invalid_arguments"),
    ],
)
async def test_what_cannot_be_bought_does_not_go_into_the_cart(
    caller: SpeakingCaller, wish: dict[str, Any], code: str
) -> None:
    assert (await caller.refusal("add_to_cart", **wish))[0] == code
    assert (await caller.output("show_cart"))["cart"] == []


async def test_what_is_taken_out_is_gone_and_what_is_not_there_cannot_be(caller: SpeakingCaller) -> None:
    assert (await caller.refusal("remove_from_cart", product="hat"))[0] == "cart_empty"
    await caller.output("add_to_cart", product="wool hat", quantity=2)
    await caller.output("add_to_cart", product="umbrella", quantity=1)
    assert (await caller.refusal("remove_from_cart", product="boots"))[0] == "not_in_cart"
    out = await caller.output("remove_from_cart", product="the umbrella")
    assert (out["cart"], out["total_usd"]) == (["2 Hollow wool hat, $24 each"], 58.43)


async def test_checking_out_opens_one_case_that_follows_the_cart(caller: SpeakingCaller) -> None:
    assert (await caller.refusal("check_out_and_pay", email="nina.park@example.com"))[0] == "cart_empty"
    await caller.output("add_to_cart", product="wool hat", quantity=1)
    assert (await caller.refusal("check_out_and_pay", email="nina at example"))[0] == "invalid_email"
    first = await caller.output("check_out_and_pay", email="nina.park@example.com")
    await caller.output("add_to_cart", product="wool hat", quantity=2)
    second = await caller.output("check_out_and_pay", email="nina.park@example.com")
    assert first["reference"] == second["reference"]
    opening, update = await caller.place.facts()
    assert isinstance(opening, CaseOpened)
    assert isinstance(update, CaseUpdated)
    assert (opening.details["total_usd"], update.details["total_usd"]) == (32.69, 58.43)


@pytest.mark.parametrize(
    ("said", "state", "says"),
    [
        (
            {"order_number": "LM-10482"},
            "shipped",
            "shipped by Finch Parcel and should arrive on Wednesday, January 7",
        ),
        ({"order_number": "one oh 10455"}, "delivered", "was delivered on Wednesday, December 24"),
        ({"postcode": "80301"}, "shipped", "I also see LM-10455"),
    ],
)
async def test_an_order_is_told_to_whom_it_belongs(
    caller: SpeakingCaller, said: dict[str, Any], state: str, says: str
) -> None:
    told = await caller.output("order_status", email="Maya.Torres@example.com", **said)
    assert told["order_state"] == state
    assert says in told["say"]


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({"email": "somebody@example.com", "order_number": "LM-10482"}, "no_match"),
        ({**MAYA, "order_number": "LM-10391"}, "no_match"),
        ({**MAYA, "order_number": "LM-10482", "postcode": "97201"}, "no_match"),
        ({**MAYA, "order_number": "LM"}, "no_match"),
        (MAYA, "proof_needed"),
    ],
)
async def test_an_order_is_told_to_nobody_else(
    caller: SpeakingCaller, said: dict[str, Any], code: str
) -> None:
    refused, say = await caller.refusal("order_status", **said)
    assert refused == code
    assert "LM-" not in say
    assert caller.grants == ()


async def test_guessing_is_locked_across_sessions_and_forgotten_after_a_day(caller: SpeakingCaller) -> None:
    codes = []
    for number in range(6):
        guesser = caller.another(f"guesser-{number}")
        codes.append((await guesser.refusal("order_status", **MAYA, order_number=f"LM-2000{number}"))[0])
    assert codes == [*["no_match"] * 5, "locked"]
    assert (await caller.refusal("order_status", **MAYA, order_number="LM-10482"))[0] == "locked"
    await caller.place.clock.advance(DAY_MS + 1_000)
    assert (await caller.output("order_status", **MAYA, order_number="LM-10482"))["order_state"] == "shipped"


async def test_nothing_is_sent_back_or_cancelled_before_the_order_is_verified(caller: SpeakingCaller) -> None:
    wish = {"product": "cairn hiking boots", "reason": "too small", "wanted": "refund"}
    for tool, arguments in (("start_return", wish), ("cancel_order", {})):
        result = await caller.ask(tool, **arguments)
        assert (result.status, result.code) == ("refused", "needs_verified:order")
        assert isinstance(result.output, dict)
        assert result.output["error"]["next"] == {"tool": "order_status"}  # type: ignore[index, call-overload]
    forged = caller.another("session-2")
    forged.grants = ("verified:order",)
    assert (await forged.refusal("start_return", **wish))[0] == "not_in_order"


async def test_boots_come_back_once_for_what_was_paid_less_the_label(caller: SpeakingCaller) -> None:
    await caller.output("order_status", **MAYA, order_number="LM-10455")
    wish = {"product": "hiking boots", "reason": "too small", "wanted": "refund"}
    first = await caller.output("start_return", **wish)
    assert (first["amount_usd"], first["label_fee_usd"]) == (133.45, 5.95)
    again = await caller.output("start_return", **wish)
    assert again["reference"] == first["reference"]
    assert "already under way" in again["say"]
    (case,) = await opened(caller.place)
    assert (case.kind, case.queue, case.priority) == ("return", "returns", "normal")
    assert case.summary == "1 Cairn hiking boots in 9 of LM-10455 comes back: too small"
    assert case.person is not None
    assert case.person.name == "Maya Torres"


@pytest.mark.parametrize(
    ("order", "wish", "code"),
    [
        ("LM-10482", {"product": "rain jacket", "reason": "too small", "wanted": "refund"}, "not_delivered"),
        ("LM-10455", {"product": "briefs", "reason": "changed mind", "wanted": "refund"}, "not_returnable"),
        (
            "LM-10455",
            {"product": "umbrella", "reason": "changed mind", "wanted": "store credit"},
            "final_sale",
        ),
        ("LM-10455", {"product": "fleece", "reason": "too small", "wanted": "refund"}, "not_in_order"),
        (
            "LM-10455",
            {"product": "boots", "reason": "too small", "wanted": "refund", "quantity": 2},
            "too_many",
        ),
    ],
)
async def test_what_the_policy_does_not_take_back_leaves_nothing_behind(
    caller: SpeakingCaller, order: str, wish: dict[str, Any], code: str
) -> None:
    await caller.output("order_status", **MAYA, order_number=order)
    assert (await caller.refusal("start_return", **wish))[0] == code
    assert await caller.place.facts() == []


async def test_late_returns_get_store_credit_only_and_later_ones_nothing(caller: SpeakingCaller) -> None:
    jonas = {"email": "jonas.weber@example.com"}
    await caller.output("order_status", **jonas, order_number="LM-10391")
    fleece = {"product": "fleece", "reason": "changed mind"}
    code, say = await caller.refusal("start_return", **fleece, wanted="refund")
    assert code == "store_credit_only"
    assert say.endswith("Would you like that?")
    credit = await caller.output("start_return", **fleece, wanted="store credit")
    assert credit["amount_usd"] == 64.5
    await caller.output("order_status", **jonas, order_number="LM-10204")
    shoes = {"product": "trail shoes", "wanted": "refund"}
    assert (await caller.refusal("start_return", **shoes, reason="too small"))[0] == "outside_window"
    broken = await caller.output("start_return", **shoes, reason="damaged")
    assert (broken["amount_usd"], broken["label_fee_usd"]) == (112.0, 0.0)
    assert (await opened(caller.place))[-1].priority == "high"


async def test_an_exchange_takes_the_other_size_off_the_shelf_or_says_that_it_is_gone(
    caller: SpeakingCaller,
) -> None:
    await caller.output("order_status", email="leo.park@example.com", postcode="04101")
    wish = {"product": "scree trousers", "reason": "too large", "wanted": "exchange"}
    assert (await caller.refusal("start_return", **wish))[0] == "size_needed"
    before = await shelf(caller.place, "scree-trousers/small")
    swapped = await caller.output("start_return", **wish, exchange_size="small")
    assert (swapped["kind"], swapped["exchange_size"], swapped["amount_usd"]) == ("exchange", "small", 0.0)
    assert await shelf(caller.place, "scree-trousers/small") != before


async def test_an_order_is_cancelled_once_and_only_before_it_is_shipped(caller: SpeakingCaller) -> None:
    await caller.output("order_status", email="priya.nair@example.com", order_number="LM-10497")
    assert (await caller.refusal("cancel_order", order_number="LM-10482"))[0] == "order_not_verified"
    done = await caller.output("cancel_order")
    again = await caller.output("cancel_order")
    assert done["amount_usd"] == 146.0
    assert "cancelled already" in again["say"]
    assert len(await opened(caller.place)) == 1
    assert '"online": 12' in await shelf(caller.place, "tarn-backpack/one size")
    late = caller.another("session-2")
    await late.output("order_status", **MAYA, order_number="LM-10482")
    assert (await late.refusal("cancel_order"))[0] == "already_shipped"


async def test_no_call_of_a_caller_is_logged_with_what_they_said(place: World) -> None:
    call = place.arrived(
        "order_status",
        {**MAYA, "order_number": "LM-10482"},
        business="shop",
        context=CallerContext(),
    )
    await place.worker().executor.handle(call)
    kept = await place.rows("SELECT record_id FROM records WHERE kind = 'order_attempts'")
    assert kept == []
    assert "maya" not in str(await place.rows("SELECT * FROM outbox"))
