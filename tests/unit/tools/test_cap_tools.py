"""Cap's loan comparison, documents checklist, and calls that are moved or called off."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy_financial
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_common.contracts.leads import LeadCallScheduled
from parley_tools.rules.finance import balance_after, interest_only_payment, monthly_payment
from unit.tools.test_kits import DETAILS, Caller
from unit.tools.world import World


@pytest.fixture
def caller(here: World) -> Caller:
    return Caller(here, here.worker())


PROPERTY = {"price_usd": 300_000, "down_payment_pct": 30, "monthly_rent_usd": 2_400, "credit_score": 740}


async def test_loans_that_fit_are_compared_by_their_payments(caller: Caller) -> None:
    output = await caller.output("compare_loan_products", PROPERTY)
    rows = {row["name"]: row for row in output["products"]}
    assert output["fitting"] == ["Rental 30", "Rental Flex", "Bridge 12"]
    # 210,000 dollars: at 6.875% and 6.5% over thirty years, and 9.75% interest only.
    assert [row["monthly_payment_usd"] for row in rows.values()] == [1_379.55, 1_327.34, 1_706.25]
    assert rows["Bridge 12"]["owed_after_five_years_usd"] == 210_000
    assert output["say"].endswith("Rental Flex has the lowest payment.")


@pytest.mark.parametrize(
    ("changes", "fitting", "says"),
    [
        ({"down_payment_pct": 25}, ["Rental 30", "Rental Flex"], "it needs at least 30 percent down"),
        ({"credit_score": 665}, ["Rental 30", "Bridge 12"], "it needs a credit score of 680"),
        ({"monthly_rent_usd": 1_800}, ["Bridge 12"], "cover the payment"),
        ({"down_payment_pct": 5}, [], "it needs at least 20 percent down"),
        ({"monthly_rent_usd": None, "credit_score": None}, ["Rental 30", "Rental Flex", "Bridge 12"], None),
    ],
)
async def test_a_loan_that_does_not_fit_says_why(
    caller: Caller, changes: dict[str, Any], fitting: list[str], says: str | None
) -> None:
    output = await caller.output("compare_loan_products", PROPERTY | changes)
    assert output["fitting"] == fitting
    whys = [row["why_not"] for row in output["products"] if row["why_not"]]
    assert says is None or any(says in why for why in whys)
    assert fitting or output["say"].startswith("None of our loans fits")


async def test_without_a_loan_there_is_nothing_to_compare(caller: Caller) -> None:
    result = await caller.ask("compare_loan_products", {**PROPERTY, "down_payment_pct": 100})
    assert (result.status, result.code) == ("refused", "no_loan_needed")


@pytest.mark.parametrize(
    ("said", "has", "has_not"),
    [
        ({}, {"a photo ID", "the purchase contract"}, {"the current lease", "its tax number"}),
        ({"purpose": "refinance"}, {"the payoff statement of the present loan"}, {"the purchase contract"}),
        ({"is_company": True}, {"its operating agreement"}, {"the renovation budget"}),
        ({"is_rented": True, "has_gift": True}, {"the current lease", "a signed gift letter"}, set()),
    ],
)
async def test_the_checklist_holds_what_this_loan_needs_and_no_more(
    caller: Caller, said: dict[str, Any], has: set[str], has_not: set[str]
) -> None:
    output = await caller.output("list_loan_documents", said)
    assert has <= set(output["documents"])
    assert not has_not & set(output["documents"])
    assert "tax returns" in output["say"]


def test_what_is_owed_after_payments_agrees_with_a_schedule_worked_by_hand() -> None:
    # 1,000 dollars at 12% for a year: 88.85 a month; 10.00 of interest first, then 9.21, 8.42, 7.61 ...
    loan, rate = Decimal(1_000), Decimal(12)
    assert monthly_payment(loan, rate, 1) == Decimal("88.85")
    owed = [balance_after(loan, rate, 1, months) for months in (0, 1, 2, 3, 12)]
    assert owed == [Decimal(text) for text in ("1000", "921.15", "841.51", "761.08", "0")]
    assert interest_only_payment(Decimal(210_000), Decimal("9.75")) == Decimal("1706.25")


@given(
    st.integers(10_000, 5_000_000),
    st.integers(100, 1_500),
    st.integers(5, 40),
    st.floats(0, 1, allow_nan=False),
)
def test_what_is_owed_agrees_with_numpy_financial_but_for_the_rounding_of_each_month(
    loan: int, rate_bp: int, years: int, part: float
) -> None:
    rate, months = Decimal(rate_bp) / 100, int(part * (years * 12 - 1))
    payment = float(monthly_payment(Decimal(loan), rate, years))
    expected = -numpy_financial.fv(float(rate) / 1200, months, -payment, loan)
    found = float(balance_after(Decimal(loan), rate, years, months))
    # Half a cent a month, grown at the loan's own rate.
    grown = 0.005 * months * (1 + float(rate) / 1200) ** months + 0.02
    assert abs(found - max(0.0, expected)) <= grown


async def test_a_call_is_moved_once_and_its_lead_is_told(caller: Caller) -> None:
    await caller.output("save_lead", DETAILS)
    wish = {"preferred_day": "tuesday", "preferred_time": "10:00"}
    booked = await caller.output("schedule_call", wish)
    moved = await caller.output("reschedule_call", {"preferred_day": "wednesday", "preferred_time": "14:00"})
    assert moved["starts_at"] == "2026-01-07T14:00:00-08:00"
    again = await caller.output("reschedule_call", {"preferred_day": "wednesday", "preferred_time": "14:00"})
    assert again["booking_id"] == moved["booking_id"] != booked["booking_id"]
    facts = [fact for fact in await caller.place.facts() if isinstance(fact, LeadCallScheduled)]
    assert [(fact.status, fact.seq) for fact in facts] == [("booked", 2), ("moved", 3)]
    assert (await caller.output("schedule_call", wish))["booked"] is True  # the old time is free again


async def test_a_call_that_cannot_be_moved_there_stays_where_it_is(caller: Caller) -> None:
    await caller.output("save_lead", DETAILS)
    await caller.output("schedule_call", {"preferred_day": "tuesday", "preferred_time": "10:00"})
    offered = await caller.output("reschedule_call", {"preferred_day": "sunday", "preferred_time": "10:00"})
    assert (offered["booked"], offered["reason"]) == (False, "closed")
    rows = await caller.place.rows("SELECT status FROM bookings")
    assert rows == [("booked",)]


async def test_a_cancelled_call_frees_its_time_and_is_told(caller: Caller) -> None:
    await caller.output("save_lead", DETAILS)
    await caller.output("schedule_call", {"preferred_day": "tuesday", "preferred_time": "10:00"})
    cancelled = await caller.output("cancel_call", {})
    assert cancelled["say"] == "I cancelled your call on Tuesday, January 6 at 10 AM Pacific time."
    fact = (await caller.place.facts())[-1]
    assert isinstance(fact, LeadCallScheduled)
    assert fact.status == "cancelled"
    assert await caller.place.rows("SELECT status FROM bookings") == [("cancelled",)]


@pytest.mark.parametrize(
    ("tool", "arguments"), [("cancel_call", {}), ("reschedule_call", {"preferred_day": "tuesday"})]
)
async def test_without_a_booked_call_there_is_nothing_to_change(
    caller: Caller, tool: str, arguments: dict[str, Any]
) -> None:
    for _ in range(2):
        result = await caller.ask(tool, arguments)
        assert (result.status, result.code) == ("refused", "no_call_booked")
        await caller.output("save_lead", DETAILS)
