"""The bank's tools through the executor, on both databases: what they say, refuse, and leave behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from parley_common.contracts.cases import CaseOpened, CaseUpdated
from parley_common.contracts.tool_calls import CallerContext
from parley_tools.kits._identity import LOCK_MIN
from unit.tools.kit_caller import KitCaller
from unit.tools.world import World, world

BANK = Path(__file__).parents[3] / "businesses" / "bank"
OLIVIA = {"customer_number": "400118", "date_of_birth": "1988-04-17", "security_word": "bluebird"}
MARCUS = {"customer_number": "400255", "date_of_birth": "1972-12-03", "security_word": "lantern"}
SOFIA = {"customer_number": "400334", "date_of_birth": "1995-08-29", "security_word": "marzipan"}
TOM = {"customer_number": "400477", "date_of_birth": "1963-01-11", "security_word": "harbor"}
CAR = {
    "purpose": "car",
    "amount_usd": 18_000,
    "annual_income_usd": 62_000,
    "monthly_debts_usd": 900,
    "credit_score": 710,
}
MINUTE_MS = 60_000


def caller_of(place: World, session_id: str = "session-1") -> KitCaller:
    """Today is Monday, January 5, 2026."""
    return KitCaller(place, "bank", session_id)


@pytest.fixture
async def place(database_url: str) -> AsyncIterator[World]:
    async with world(database_url, BANK) as made:
        yield made


@pytest.fixture
async def lite(sqlite_url: str) -> AsyncIterator[World]:
    """For what does not depend on the database."""
    async with world(sqlite_url, BANK) as made:
        yield made


async def verified(place: World, who: dict[str, str], session_id: str = "session-1") -> KitCaller:
    made = caller_of(place, session_id)
    await made.output("verify_customer", **who)
    return made


# -- identity -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"customer_number": "400119"},
        {"customer_number": "no idea"},
        {"date_of_birth": "1988-04-18"},
        {"security_word": "lantern"},
        {"security_word": "---"},
    ],
)
async def test_whichever_factor_is_wrong_the_answer_is_the_same(lite: World, wrong: dict[str, str]) -> None:
    result = await caller_of(lite).ask("verify_customer", **(OLIVIA | wrong))
    assert (result.status, result.code, result.grants) == ("refused", "no_match", ())
    assert isinstance(result.output, dict)
    assert result.output["say"] == "That doesn't match what I have on file. Shall we go through it once more?"


async def test_factors_are_read_as_callers_say_them(lite: World) -> None:
    said = {
        "customer_number": "4 0 0, 1 1 8",
        "date_of_birth": "April 17th, 1988",
        "security_word": "Blue Bird",
    }
    result = await caller_of(lite).ask("verify_customer", **said)
    assert (result.status, result.grants) == ("ok", ("verified:customer-400118",))


async def test_a_date_that_is_none_is_asked_again_and_not_counted(lite: World) -> None:
    caller = caller_of(lite)
    for _ in range(4):
        assert (
            await caller.refusal("verify_customer", **(OLIVIA | {"date_of_birth": "someday"})) == "bad_date"
        )
    assert (await caller.output("verify_customer", **OLIVIA))["verified"] is True


async def test_the_third_wrong_answer_locks_tells_the_fraud_desk_once_and_ends_with_time(
    place: World,
) -> None:
    thief, owner = caller_of(place, "thief"), caller_of(place, "owner")
    wrong = OLIVIA | {"security_word": "guess"}
    codes = [await thief.refusal("verify_customer", **wrong) for _ in range(5)]
    assert codes == ["no_match", "no_match", "locked", "locked", "locked"]
    assert await owner.refusal("verify_customer", **OLIVIA) == "locked"
    (fact,) = await place.facts()
    assert isinstance(fact, CaseOpened)
    assert (fact.kind, fact.queue, fact.priority, fact.person) == ("identity_lock", "fraud", "high", None)
    assert await place.rows("SELECT subject FROM cases") == [("400118",)]
    await place.clock.advance(LOCK_MIN * MINUTE_MS)
    assert (await owner.output("verify_customer", **OLIVIA))["verified"] is True


async def test_trying_many_numbers_locks_the_session_and_writes_no_number_down(place: World) -> None:
    thief = caller_of(place, "thief")
    numbers = ("400001", "400002", "400003", "400118")
    codes = [await thief.refusal("verify_customer", **(OLIVIA | {"customer_number": n})) for n in numbers]
    assert codes == ["no_match", "no_match", "locked", "locked"]
    assert await place.rows("SELECT subject FROM cases") == [(None,)]
    rows = await place.rows("SELECT record_id FROM records WHERE kind = 'identity_attempts'")
    assert not {row[0] for row in rows} & set(numbers)
    assert (await caller_of(place, "owner").output("verify_customer", **OLIVIA))["verified"] is True


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("check_account_balance", {}),
        ("list_transactions", {}),
        ("check_fraud_alerts", {}),
        ("report_fraud", {"details": "somebody used my card"}),
        ("freeze_card", {"reason": "lost"}),
        ("agree_credit_check", {"consent": True}),
        ("submit_loan_application", {}),
        ("check_application_status", {}),
    ],
)
async def test_what_is_a_customers_own_needs_their_identity(
    lite: World, tool: str, arguments: dict[str, Any]
) -> None:
    result = await caller_of(lite).ask(tool, **arguments)
    assert (result.status, result.code) == ("refused", "needs_verified:customer")
    assert isinstance(result.output, dict)
    assert result.output["error"]["next"] == {"tool": "verify_customer"}  # type: ignore[index, call-overload]


# -- accounts and transactions ------------------------------------------------------------------------------------


async def test_balances_are_the_customers_own(place: World) -> None:
    olivia = await verified(place, OLIVIA)
    everything = await olivia.output("check_account_balance")
    assert [each["ends_with"] for each in everything["accounts"]] == ["4210", "4228", "4236"]
    one = await olivia.output("check_account_balance", account="checking")
    assert one["say"] == "Your Everyday Checking has $2,431.18, of which $2,380.18 is available."
    owed = await olivia.output("check_account_balance", account="credit_card")
    assert owed["say"] == "You owe $612.47 on your Larkspur Credit Card."
    assert await olivia.refusal("check_account_balance", account="loan") == "account_not_found"


@pytest.mark.parametrize(
    ("asked", "ids"),
    [
        ({"account": "checking", "merchant": "blue fern"}, [-64.20, -81.05, -70.44]),
        ({"account": "checking", "from_day": "2026-01-03", "to_day": "yesterday"}, [-64.20, -5.75]),
        ({"account": "checking", "from_day": "2 weeks ago", "min_amount_usd": 500}, [2150.0, -1250.0]),
        ({"account": "checking", "min_amount_usd": 30, "max_amount_usd": 65}, [-64.20, -39.0, -62.0]),
        ({"direction": "in"}, [200.0, 2150.0]),
        ({"account": "credit_card", "from_day": "2025-11-01"}, [-489.0, -23.47, -310.0]),
        ({"merchant": "Moonbeam"}, []),
        ({"from_day": "monday", "account": "savings"}, [200.0]),
        ({"from_day": "last week", "to_day": "3 days ago", "account": "credit_card"}, [-23.47]),
    ],
)
async def test_transactions_are_found_by_days_amounts_and_merchant(
    lite: World, asked: dict[str, Any], ids: list[float]
) -> None:
    olivia = await verified(lite, OLIVIA)
    output = await olivia.output("list_transactions", **asked)
    assert [each["amount_usd"] for each in output["transactions"]] == ids
    assert output["found_count"] == len(ids)
    assert output["total_usd"] == pytest.approx(sum(ids))


async def test_nobody_sees_anothers_transactions(lite: World) -> None:
    marcus = await verified(lite, MARCUS)
    output = await marcus.output("list_transactions", from_day="2025-06-01")
    assert {each["merchant"] for each in output["transactions"]} == {
        *("Corner Bean Coffee", "Harbor Hardware", "Loan payment")
    }


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"from_day": "the day of days"}, "bad_date"),
        ({"to_day": "2025-02-30"}, "bad_date"),
        ({"from_day": "2026-01-04", "to_day": "2026-01-01"}, "dates_reversed"),
        ({"from_day": "2026-01-09"}, "date_ahead"),
        ({"from_day": "2020-01-01"}, "too_far_back"),
        ({"min_amount_usd": 100, "max_amount_usd": 50}, "amounts_reversed"),
        ({"account": "loan"}, "account_not_found"),
    ],
)
async def test_transactions_that_cannot_be_looked_for_are_refused(
    lite: World, asked: dict[str, Any], code: str
) -> None:
    assert await (await verified(lite, OLIVIA)).refusal("list_transactions", **asked) == code


# -- fraud --------------------------------------------------------------------------------------------------------


async def test_a_flagged_payment_is_told_reported_and_then_no_longer_open(place: World) -> None:
    sofia = await verified(place, SOFIA)
    assert (await sofia.output("check_fraud_alerts"))["flagged"] == [
        {"merchant": "Coral Bay Resort", "amount_usd": 1204.5, "day": "2026-01-03"}
    ]
    reported = await sofia.output("report_fraud", details="I never paid that Coral Bay Resort")
    assert (reported["alerts_matched_count"], reported["is_new"]) == (1, True)
    (fact,) = await place.facts()
    assert isinstance(fact, CaseOpened)
    assert (fact.kind, fact.priority, fact.queue) == ("fraud", "urgent", "fraud")
    assert (fact.details["merchant"], fact.details["amount_usd"]) == ("Coral Bay Resort", 1204.5)
    assert (await sofia.output("check_fraud_alerts"))["alerts_count"] == 0


async def test_a_second_report_in_one_conversation_adds_to_the_case(place: World) -> None:
    olivia = await verified(place, OLIVIA)
    first = await olivia.output("report_fraud", details="a charge I don't know", merchant="Harbor Hardware")
    second = await olivia.output("report_fraud", details="and another one", amount_usd=20)
    assert (second["is_new"], second["reference"]) == (False, first["reference"])
    opened, updated = await place.facts()
    assert isinstance(opened, CaseOpened)
    assert isinstance(updated, CaseUpdated)
    assert updated.details["merchant"] == "Harbor Hardware"
    assert (await olivia.output("check_fraud_alerts"))["alerts_count"] == 1


async def test_a_card_is_frozen_once_and_for_good(place: World) -> None:
    marcus = await verified(place, MARCUS)
    first = await marcus.output("freeze_card", reason="stolen")
    again = await marcus.output("freeze_card", reason="lost", last4="2250")
    assert (first["is_new"], first["card_ends_with"]) == (True, "2250")
    assert (again["is_new"], again["reference"]) == (False, first["reference"])
    (fact,) = await place.facts()
    assert isinstance(fact, CaseOpened)
    assert (fact.kind, fact.priority, fact.details["reason"]) == ("card_freeze", "urgent", "stolen")
    (row,) = await place.rows("SELECT data FROM records WHERE kind = 'card' AND record_id = 'card-2250'")
    assert "frozen" in str(row[0])


async def test_one_freezing_call_repeated_opens_one_case(place: World) -> None:
    marcus = await verified(place, MARCUS)
    more: dict[str, Any] = {"business": "bank", "context": CallerContext(grants=marcus.grants)}
    for _ in range(5):
        await place.ask(marcus.worker, "freeze_card", {"reason": "lost"}, call_id="the-same", **more)
    assert len(await place.facts()) == len(await place.rows("SELECT 1 FROM cases")) == 1


@pytest.mark.parametrize(
    ("who", "which", "code"),
    [
        (OLIVIA, {}, "which_card"),
        (OLIVIA, {"last4": "2250"}, "card_not_found"),
        (MARCUS, {"card": "credit"}, "card_not_found"),
        (TOM, {}, "card_not_found"),
    ],
)
async def test_a_card_that_is_not_clear_or_not_theirs_is_not_frozen(
    lite: World, who: dict[str, str], which: dict[str, str], code: str
) -> None:
    assert await (await verified(lite, who)).refusal("freeze_card", reason="lost", **which) == code
    assert await lite.facts() == []


# -- investing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "profile", "capped_by"),
    [
        ({"horizon_years": 15, "loss_reaction": "buy_more", "reserve_months": 6}, "growth-minded", None),
        ({"horizon_years": 15, "loss_reaction": "buy_more"}, "balanced", "reserve"),
        ({"horizon_years": 2, "loss_reaction": "buy_more", "reserve_months": 12}, "cautious", "horizon"),
        ({"horizon_years": 8, "loss_reaction": "sell", "reserve_months": 0}, "cautious", None),
    ],
)
async def test_a_profile_comes_with_its_disclaimer_and_is_no_advice(
    lite: World, asked: dict[str, Any], profile: str, capped_by: str | None
) -> None:
    output = await caller_of(lite).output("describe_risk_profile", **asked)
    assert (output["profile"], output["capped_by"], output["is_advice"]) == (profile, capped_by, False)
    assert sum(output["mix_pct"].values()) == 100
    assert output["say"].endswith("This is general information, not advice, and investments can lose value.")


async def test_whether_to_buy_something_is_not_answered(lite: World) -> None:
    asked = {"horizon_years": 10, "loss_reaction": "hold", "security": "Moonbeam shares"}
    assert await caller_of(lite).refusal("describe_risk_profile", **asked) == "no_personal_advice"


# -- loans --------------------------------------------------------------------------------------------------------


async def test_a_loan_is_prequalified_agreed_to_and_applied_for(place: World) -> None:
    caller = caller_of(place)
    first_look = await caller.output("prequalify_loan", **CAR)
    assert (first_look["standing"], first_look["rate_pct"], first_look["payment_usd"]) == (
        "likely",
        7.9,
        364.11,
    )
    assert first_look["is_approval"] is False
    await caller.output("verify_customer", **OLIVIA)
    assert await caller.refusal("submit_loan_application") == "needs_consent:credit_check"
    assert await caller.refusal("agree_credit_check", consent=False) == "consent_refused"
    assert await caller.refusal("submit_loan_application") == "needs_consent:credit_check"
    await caller.output("agree_credit_check", consent=True)
    submitted = await caller.output("submit_loan_application")
    again = await caller.output("submit_loan_application")
    assert (again["is_new"], again["reference"]) == (False, submitted["reference"])
    (fact,) = await place.facts()
    assert isinstance(fact, CaseOpened)
    assert (fact.kind, fact.queue) == ("loan_application", "lending")
    assert (fact.details["amount_usd"], fact.details["payment_usd"]) == (18_000, 364.11)
    status = await caller.output("check_application_status")
    assert (status["status"], status["reference"]) == ("open", submitted["reference"])


async def test_new_figures_change_the_application_that_is_open(place: World) -> None:
    caller = await verified(place, OLIVIA)
    await caller.output("agree_credit_check", consent=True)
    for amount in (18_000, 12_000):
        await caller.output("prequalify_loan", **(CAR | {"amount_usd": amount}))
        output = await caller.output("submit_loan_application")
        await place.clock.advance(MINUTE_MS)
    assert output["is_new"] is False
    opened, updated = await place.facts()
    assert isinstance(opened, CaseOpened)
    assert isinstance(updated, CaseUpdated)
    assert (opened.details["amount_usd"], updated.details["amount_usd"]) == (18_000, 12_000)


async def test_an_application_without_or_against_a_first_look_is_not_sent(place: World) -> None:
    caller = await verified(place, OLIVIA)
    await caller.output("agree_credit_check", consent=True)
    result = await caller.ask("submit_loan_application")
    assert (result.status, result.code) == ("refused", "not_prequalified")
    assert isinstance(result.output, dict)
    assert result.output["error"]["next"] == {"tool": "prequalify_loan"}  # type: ignore[index, call-overload]
    looked = await caller.output("prequalify_loan", **(CAR | {"credit_score": 480}))
    assert (looked["prequalified"], looked["reasons"]) == (False, ["the credit score is below our minimum"])
    assert await caller.refusal("submit_loan_application") == "not_eligible"
    assert await place.facts() == []


async def test_another_customers_application_is_not_told(place: World) -> None:
    olivia = await verified(place, OLIVIA, "hers")
    await olivia.output("agree_credit_check", consent=True)
    await olivia.output("prequalify_loan", **CAR)
    await olivia.output("submit_loan_application")
    tom = await verified(place, TOM, "his")
    assert await tom.refusal("check_application_status") == "application_not_found"


async def test_arguments_beyond_their_bounds_are_asked_for_again(lite: World) -> None:
    assert (
        await caller_of(lite).refusal("prequalify_loan", **(CAR | {"credit_score": 900}))
        == "invalid_arguments"
    )


# -- the sample ---------------------------------------------------------------------------------------------------


def test_every_account_card_alert_and_transaction_belongs_to_somebody(lite: World) -> None:
    business = lite.businesses["bank"]
    people = business.data("customers.yaml")
    numbers = {each["number"] for each in people["customers"]}
    accounts = {each["number"] for each in people["accounts"]}
    cards, alerts = business.data("cards.yaml"), business.data("alerts.yaml")
    assert {each["customer"] for each in [*people["accounts"], *cards, *alerts]} <= numbers
    assert {
        each["account"] for each in [*cards, *business.data("transactions.yaml")["transactions"]]
    } <= accounts
    assert {each["card"] for each in alerts} <= {each["id"] for each in cards}
