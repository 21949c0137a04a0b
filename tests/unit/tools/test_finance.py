"""Loan, payment, NOI, DSCR, cap rate, cash flow and cash-on-cash, to the cent."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy_financial
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_common.errors import ToolRefused
from parley_tools.rules.finance import (
    Deal,
    Thresholds,
    cents,
    down_payment,
    figures,
    monthly_payment,
    verdict,
)

D = Decimal
DEAL = Deal(
    price=D(300_000),
    down_payment=D(75_000),
    rate_pct=D(7),
    term_years=30,
    monthly_rent=D(2_400),
    annual_taxes=D(3_300),
    annual_insurance=D(1_200),
    vacancy_pct=D(5),
    maintenance_pct=D(5),
)
THRESHOLDS = Thresholds(D("1.25"), D(1))


def test_a_deal_worked_by_hand_agrees_to_the_cent() -> None:
    # 225,000 at 7/12 % for 360 months: 225000 × 0.00583333… ÷ (1 − 1.00583333…^−360) = 1,496.9306 → 1,496.93.
    # Rent 28,800 less 10 % (2,880), taxes 3,300 and insurance 1,200 leaves 21,420. Debt 12 × 1,496.93 = 17,963.16.
    result = figures(DEAL)
    assert result.loan == D("225000.00")
    assert result.payment == D("1496.93")
    assert result.noi == D("21420.00")
    assert result.dscr == D("1.19")  # 21,420 ÷ 17,963.16 = 1.19244…
    assert result.cap_rate_pct == D("7.14")  # 21,420 ÷ 300,000
    assert result.annual_cash_flow == D("3456.84")
    assert result.monthly_cash_flow == D("288.07")
    assert result.cash_on_cash_pct == D("4.61")  # 3,456.84 ÷ 75,000 = 4.6091…
    assert result.loan_to_value_pct == D("75.00")


@pytest.mark.parametrize(
    ("loan", "rate_pct", "term_years", "payment"),
    [
        ("100000", "6", 30, "599.55"),
        ("200000", "4.5", 15, "1529.99"),
        ("350000", "7.25", 30, "2387.62"),
        ("120000", "0", 10, "1000.00"),
        ("100000", "12", 1, "8884.88"),
        ("0", "7", 30, "0"),
    ],
)
def test_published_payments_agree(loan: str, rate_pct: str, term_years: int, payment: str) -> None:
    assert monthly_payment(D(loan), D(rate_pct), term_years) == D(payment)


@given(
    loan=st.integers(1_000, 5_000_000),
    rate_bp=st.integers(1, 2_000),
    term_years=st.integers(1, 40),
)
def test_payments_agree_with_numpy_financial_in_floats(loan: int, rate_bp: int, term_years: int) -> None:
    exact = monthly_payment(D(loan), D(rate_bp) / 100, term_years)
    by_float = -float(numpy_financial.pmt(rate_bp / 10_000 / 12, term_years * 12, loan))
    assert abs(float(exact) - by_float) <= 0.0051


@given(
    price=st.integers(50_000, 5_000_000),
    down_pct=st.integers(0, 100),
    rate_bp=st.integers(0, 1_500),
    rent=st.integers(0, 50_000),
)
def test_cash_flow_is_always_income_less_debt_and_nothing_raises(
    price: int, down_pct: int, rate_bp: int, rent: int
) -> None:
    deal = replace(
        DEAL,
        price=D(price),
        down_payment=cents(D(price) * down_pct / 100),
        rate_pct=D(rate_bp) / 100,
        monthly_rent=D(rent),
    )
    result = figures(deal)
    assert result.annual_cash_flow == result.noi - 12 * result.payment
    assert result.loan + deal.down_payment == deal.price
    assert (result.dscr is None) == (result.payment == 0)


def test_half_a_cent_is_rounded_up() -> None:
    assert cents(D("10.005")) == D("10.01")
    assert cents(D("10.0049")) == D("10.00")


@pytest.mark.parametrize(
    ("usd", "pct", "expected"),
    [
        (None, None, "75000.00"),
        (None, "20", "60000.00"),
        ("50000", None, "50000.00"),
        ("75000", "25", "75000.00"),
    ],
)
def test_a_down_payment_may_be_said_either_way_or_not_at_all(
    usd: str | None, pct: str | None, expected: str
) -> None:
    said = down_payment(
        D(300_000), usd=D(usd) if usd else None, pct=D(pct) if pct else None, default_pct=D(25)
    )
    assert said == D(expected)


def test_two_down_payments_that_disagree_are_asked_about() -> None:
    with pytest.raises(ToolRefused, match="do not agree") as refused:
        down_payment(D(300_000), usd=D(30_000), pct=D(25), default_pct=D(25))
    assert refused.value.stable_code == "down_payment_unclear"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"down_payment": D(300_001)}, "down_payment_above_price"),
        ({"vacancy_pct": D(60), "maintenance_pct": D(40)}, "costs_above_rent"),
    ],
)
def test_a_deal_that_cannot_be_is_refused_with_a_sentence(changes: dict[str, Decimal], code: str) -> None:
    with pytest.raises(ToolRefused) as refused:
        figures(replace(DEAL, **changes))
    assert refused.value.stable_code == code
    assert refused.value.say.endswith("?")


@pytest.mark.parametrize(
    ("rent", "expected"),
    [(2_000, "short"), (2_400, "workable"), (2_600, "strong")],
)
def test_the_verdict_follows_the_dscr(rent: int, expected: str) -> None:
    assert verdict(figures(replace(DEAL, monthly_rent=D(rent))), THRESHOLDS) == expected


def test_without_a_loan_there_is_no_dscr_and_the_verdict_says_cash() -> None:
    result = figures(replace(DEAL, down_payment=D(300_000)))
    assert (result.loan, result.payment, result.dscr) == (D("0.00"), D(0), None)
    assert result.cash_on_cash_pct == result.cap_rate_pct
    assert verdict(result, THRESHOLDS) == "cash"


def test_with_nothing_down_there_is_no_return_on_cash() -> None:
    assert figures(replace(DEAL, down_payment=D(0))).cash_on_cash_pct is None
