"""The bank's rules as tables: which transactions, which risk profile, which loans are likely."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy_financial as npf
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from parley_common.business import load
from parley_tools.kits.bank.investing import INVESTING
from parley_tools.kits.bank.loans import LOANS
from parley_tools.refusals import Refused
from parley_tools.rules.bank_investing import Investing, Profile, outlook
from parley_tools.rules.bank_loans import Loan, Request, look
from parley_tools.rules.bank_statement import (
    Sought,
    Transaction,
    is_merchant,
    matching,
    read_past_day,
    read_range,
)

BANK = load(Path(__file__).parents[3] / "businesses" / "bank")
MONDAY = date(2026, 1, 5)


# -- transactions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "day"),
    [
        ("2026-01-02", date(2026, 1, 2)),
        ("today", MONDAY),
        ("yesterday", date(2026, 1, 4)),
        ("the day before yesterday", date(2026, 1, 3)),
        ("Friday", date(2026, 1, 2)),
        ("last Monday", date(2025, 12, 29)),
        ("two weeks ago", date(2025, 12, 22)),
        ("10 days ago", date(2025, 12, 26)),
        ("last month", date(2025, 12, 6)),
        ("2026-02-30", None),
        ("the day of days", None),
        ("whenever", None),
    ],
)
def test_a_past_day_is_read_as_it_is_said(said: str, day: date | None) -> None:
    assert read_past_day(said, MONDAY) == day


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (None, None, (MONDAY - timedelta(30), MONDAY)),
        ("2025-12-01", None, (date(2025, 12, 1), MONDAY)),
        (None, "2025-12-31", (date(2025, 12, 1), date(2025, 12, 31))),
        ("yesterday", "today", (MONDAY - timedelta(1), MONDAY)),
        ("today", "today", (MONDAY, MONDAY)),
        ("2025-01-04", None, (date(2025, 1, 4), MONDAY)),
        ("2025-01-03", None, "too_far_back"),
        ("2026-01-06", None, "date_ahead"),
        ("today", "yesterday", "dates_reversed"),
        ("soon", None, "bad_date"),
        (None, "soon", "bad_date"),
    ],
)
def test_a_range_of_days_is_read_or_refused(
    first: str | None, last: str | None, expected: tuple[date, date] | str
) -> None:
    if isinstance(expected, str):
        with pytest.raises(Refused) as refused:
            read_range(first, last, MONDAY)
        assert refused.value.stable_code == expected
    else:
        assert read_range(first, last, MONDAY) == expected


@given(
    amounts=st.lists(st.decimals(-500, 500, places=2).filter(bool), max_size=12),
    low=st.decimals(0, 300, places=2),
    span=st.decimals(0, 300, places=2),
    back=st.integers(0, 20),
)
def test_nothing_outside_what_was_asked_is_told_and_nothing_inside_left_out(
    amounts: list[Decimal], low: Decimal, span: Decimal, back: int
) -> None:
    all_of_them = [
        Transaction(id=f"t{n}", account="a", merchant="Shop", amount_usd=amount, days_ago=2 * n)
        for n, amount in enumerate(amounts)
    ]
    sought = Sought(MONDAY - timedelta(back), MONDAY, min_usd=low, max_usd=low + span, direction="out")
    found = matching(all_of_them, sought, MONDAY)
    inside = [t for t in all_of_them if t.days_ago <= back and low <= -t.amount_usd <= low + span]
    assert found == inside


@pytest.mark.parametrize(
    ("said", "merchant", "same"),
    [
        ("blue fern", "Blue Fern Market", True),
        ("the Blue Fern shop", "Blue Fern Market", True),
        ("fernando", "Blue Fern Market", False),
        ("the shop", "Blue Fern Market", False),
        ("", "Blue Fern Market", False),
    ],
)
def test_a_merchant_is_meant_when_every_telling_word_is_in_its_name(
    said: str, merchant: str, *, same: bool
) -> None:
    assert is_merchant(said, merchant) is same


# -- investing ----------------------------------------------------------------------------------------------------

INVEST = INVESTING.read(BANK)


@pytest.mark.parametrize(
    ("years", "reaction", "reserve", "profile", "points", "capped_by"),
    [
        (0, "sell", 0, "cautious", 0, None),
        (2, "buy_more", 12, "cautious", 6, "horizon"),
        (3, "sell", 6, "balanced", 3, None),
        (3, "hold", None, "balanced", 3, None),
        (12, "buy_more", 2, "balanced", 7, "reserve"),
        (12, "buy_more", 3, "growth-minded", 8, None),
        (7, "hold", 6, "growth-minded", 6, None),
        (7, "hold", 5, "balanced", 5, None),
        (12, "sell", None, "balanced", 3, None),
    ],
)
def test_a_profile_follows_horizon_reserve_and_reaction(
    years: int, reaction: Any, reserve: int | None, profile: str, points: int, capped_by: str | None
) -> None:
    found = outlook(INVEST, years, reaction, reserve)
    assert (found.profile.name, found.points, found.capped_by) == (profile, points, capped_by)


def test_a_mix_that_is_not_whole_and_profiles_that_do_not_begin_at_nothing_are_mistakes() -> None:
    with pytest.raises(ValidationError, match="is 90 percent, not 100"):
        Profile(name="odd", min_points=0, says="", mix_pct={"cash": 40, "bonds": 50})
    raw = INVEST.model_dump()
    with pytest.raises(ValidationError, match="begin at 0 points"):
        Investing.model_validate(raw | {"profiles": raw["profiles"][1:]})


# -- loans --------------------------------------------------------------------------------------------------------

LOAN = Loan.model_validate(
    {
        "purpose": "personal",
        "name": "sample loan",
        "min_usd": 1_000,
        "max_usd": 20_000,
        "terms_max_years": 5,
        "default_term_years": 3,
        "min_income_usd": 24_000,
        "review_score": 600,
        "likely_score": 680,
        "likely_debts_pct": 36,
        "review_debts_pct": 43,
        "rates": [{"min_score": 740, "rate_pct": 6}, {"min_score": 600, "rate_pct": 12}],
    }
)


def request(**more: Any) -> Request:
    given: dict[str, Any] = {
        "amount_usd": Decimal(10_000),
        "annual_income_usd": Decimal(60_000),
        "monthly_debts_usd": Decimal(500),
        "score": 740,
    }
    return Request(**(given | more))


@pytest.mark.parametrize(
    ("more", "standing", "reasons"),
    [
        ({}, "likely", ()),
        ({"score": 680}, "likely", ()),
        ({"score": 679}, "review", ("score_near",)),
        ({"score": 600}, "review", ("score_near",)),
        ({"score": 599}, "unlikely", ("score_too_low",)),
        ({"amount_usd": Decimal(20_000)}, "likely", ()),
        ({"amount_usd": Decimal("20000.01")}, "unlikely", ("amount_too_large",)),
        ({"amount_usd": Decimal(1_000)}, "likely", ()),
        ({"amount_usd": Decimal(999)}, "unlikely", ("amount_too_small",)),
        ({"term_years": 5}, "likely", ()),
        ({"term_years": 6}, "unlikely", ("term_too_long",)),
        ({"annual_income_usd": Decimal(24_000), "monthly_debts_usd": Decimal(0)}, "likely", ()),
        (
            {"annual_income_usd": Decimal(23_999), "monthly_debts_usd": Decimal(0)},
            "unlikely",
            ("income_too_low",),
        ),
        # 10,000 at 6 percent over 3 years is 304.22 a month; of 5,000 that leaves 1,495.78 up to 36 percent.
        ({"monthly_debts_usd": Decimal("1495.78")}, "likely", ()),
        ({"monthly_debts_usd": Decimal(1_503)}, "review", ("debts_near",)),
        ({"monthly_debts_usd": Decimal(1_845)}, "review", ("debts_near",)),
        ({"monthly_debts_usd": Decimal(1_853)}, "unlikely", ("debts_too_high",)),
        ({"annual_income_usd": Decimal(0)}, "unlikely", ("income_too_low", "debts_too_high")),
        ({"score": 650, "monthly_debts_usd": Decimal(1_500)}, "review", ("score_near", "debts_near")),
    ],
)
def test_a_loan_is_likely_reviewed_or_unlikely_with_its_reasons(
    more: dict[str, Any], standing: str, reasons: tuple[str, ...]
) -> None:
    found = look(LOAN, request(**more))
    assert (found.standing, found.reasons) == (standing, reasons)


@pytest.mark.parametrize(
    ("amount", "score", "term", "payment"),
    [(10_000, 740, 3, "304.22"), (10_000, 700, 3, "332.14"), (18_000, 740, 5, "347.99")],
)
def test_the_payment_is_right_to_the_cent(amount: int, score: int, term: int, payment: str) -> None:
    found = look(LOAN, request(amount_usd=Decimal(amount), score=score, term_years=term))
    assert found.payment_usd == Decimal(payment)
    expected = -npf.pmt(float(found.rate_pct) / 1200, term * 12, amount)
    assert float(found.payment_usd) == pytest.approx(expected, abs=0.005)


@given(income=st.integers(24_000, 200_000), debts=st.integers(0, 4_000), score=st.integers(680, 850))
def test_what_is_called_affordable_is_likely_and_a_lot_more_is_not(
    income: int, debts: int, score: int
) -> None:
    asked = request(annual_income_usd=Decimal(income), monthly_debts_usd=Decimal(debts), score=score)
    found = look(LOAN, asked)
    if not found.affordable_usd:
        return
    again = Request(found.affordable_usd, asked.annual_income_usd, asked.monthly_debts_usd, score)
    assert look(LOAN, again).standing == "likely"
    if found.affordable_usd < LOAN.max_usd:
        more = Request(found.affordable_usd + 500, asked.annual_income_usd, asked.monthly_debts_usd, score)
        assert look(LOAN, more).debts_pct >= LOAN.likely_debts_pct


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"rates": [{"min_score": 700, "rate_pct": 6}]}, "rates must fall"),
        (
            {"rates": [{"min_score": 600, "rate_pct": 6}, {"min_score": 740, "rate_pct": 5}]},
            "rates must fall",
        ),
        ({"review_score": 700}, "stricter"),
        ({"review_debts_pct": 30}, "stricter"),
    ],
)
def test_bands_that_make_no_sense_are_mistakes(more: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Loan.model_validate(LOAN.model_dump() | more)


def test_every_purpose_a_caller_may_name_has_a_loan() -> None:
    loans = LOANS.read(BANK)
    assert all(loans.of(purpose) for purpose in ("personal", "car", "home_improvement"))
