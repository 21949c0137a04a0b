"""The figures of a rental-property deal, to the cent.

NOI counts what the rent leaves after vacancy and running costs, before debt. DSCR is NOI over the year's debt
service, which is twelve times the payment rounded to the cent, as a lender bills it.

Law: amounts are Decimal and rounded half up to the cent where they are paid; ratios are rounded last.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Literal

import numpy_financial

from parley_common.errors import ToolRefused

CENT = Decimal("0.01")
MONTHS = 12
AGREE_WITHIN_PCT = Decimal(1)
"""A down payment said both ways may differ by this much: people round."""

Verdict = Literal["strong", "workable", "short", "cash"]


@dataclass(frozen=True, slots=True)
class Deal:
    """One purchase; percentages as people say them (25 for a quarter)."""

    price: Decimal
    down_payment: Decimal
    rate_pct: Decimal
    term_years: int
    monthly_rent: Decimal
    annual_taxes: Decimal
    annual_insurance: Decimal
    vacancy_pct: Decimal
    maintenance_pct: Decimal
    """Of the rent."""
    monthly_fees: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Figures:
    """What a deal comes to. ``dscr`` and ``cash_on_cash_pct`` are null when there is no loan, or no cash in it."""

    loan: Decimal
    payment: Decimal
    noi: Decimal
    dscr: Decimal | None
    cap_rate_pct: Decimal
    annual_cash_flow: Decimal
    cash_on_cash_pct: Decimal | None
    loan_to_value_pct: Decimal

    @property
    def monthly_cash_flow(self) -> Decimal:
        return cents(self.annual_cash_flow / MONTHS)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From which DSCR a deal counts as what."""

    strong_dscr: Decimal
    minimum_dscr: Decimal


def cents(amount: Decimal) -> Decimal:
    """Round half up to the cent."""
    return amount.quantize(CENT, ROUND_HALF_UP)


def monthly_payment(loan: Decimal, rate_pct: Decimal, term_years: int) -> Decimal:
    """Return the level payment of a fully amortising loan."""
    if loan == 0:
        return Decimal(0)
    monthly_rate = rate_pct / 100 / MONTHS
    return cents(-Decimal(str(numpy_financial.pmt(monthly_rate, term_years * MONTHS, loan))))


def interest_only_payment(loan: Decimal, rate_pct: Decimal) -> Decimal:
    """Return the monthly payment of a loan whose principal is due at its end."""
    return cents(loan * rate_pct / 100 / MONTHS)


def balance_after(loan: Decimal, rate_pct: Decimal, term_years: int, months: int) -> Decimal:
    """Return what is still owed of a fully amortising loan after so many payments, each month rounded as it is billed.

    The last payment is whatever is left, so that the balance ends at zero.
    """
    payment, balance = monthly_payment(loan, rate_pct, term_years), loan
    for month in range(1, months + 1):
        interest = cents(balance * rate_pct / 100 / MONTHS)
        is_last = month >= term_years * MONTHS
        balance = Decimal(0) if is_last else max(Decimal(0), balance + interest - payment)
    return balance


def figures(deal: Deal) -> Figures:
    """Return the deal's figures. Raises ToolRefused with a sentence when the deal cannot be."""
    _check(deal)
    loan = cents(deal.price - deal.down_payment)
    payment = monthly_payment(loan, deal.rate_pct, deal.term_years)
    debt_service = payment * MONTHS
    noi = _net_operating_income(deal)
    cash_flow = cents(noi - debt_service)
    return Figures(
        loan=loan,
        payment=payment,
        noi=noi,
        dscr=_ratio(noi, debt_service) if debt_service else None,
        cap_rate_pct=_ratio(noi * 100, deal.price),
        annual_cash_flow=cash_flow,
        cash_on_cash_pct=_ratio(cash_flow * 100, deal.down_payment) if deal.down_payment else None,
        loan_to_value_pct=_ratio(loan * 100, deal.price),
    )


def _net_operating_income(deal: Deal) -> Decimal:
    rent = deal.monthly_rent * MONTHS
    lost = rent * (deal.vacancy_pct + deal.maintenance_pct) / 100
    return cents(rent - lost - deal.annual_taxes - deal.annual_insurance - deal.monthly_fees * MONTHS)


def _check(deal: Deal) -> None:
    if deal.down_payment > deal.price:
        raise ToolRefused(
            "The down payment is more than the price of the property. Which of the two should I change?",
            code="down_payment_above_price",
        )
    if deal.vacancy_pct + deal.maintenance_pct >= 100:
        raise ToolRefused(
            "Vacancy and maintenance together would take all of the rent. What should I use instead?",
            code="costs_above_rent",
        )


def _ratio(part: Decimal, whole: Decimal) -> Decimal:
    return (part / whole).quantize(CENT, ROUND_HALF_UP)


def down_payment(
    price: Decimal, *, usd: Decimal | None, pct: Decimal | None, default_pct: Decimal
) -> Decimal:
    """Return the down payment in dollars, said as an amount, as a percentage, both or neither.

    Raises:
        ToolRefused: both were said and they disagree.
    """
    if usd is None:
        return cents(price * (default_pct if pct is None else pct) / 100)
    if pct is not None and abs(usd / price * 100 - pct) > AGREE_WITHIN_PCT:
        raise ToolRefused(
            "I heard a down payment in dollars and another one in percent, and they do not agree. "
            "Which one should I use?",
            code="down_payment_unclear",
        )
    return cents(usd)


def verdict(result: Figures, thresholds: Thresholds) -> Verdict:
    """Return what the deal counts as, by its DSCR."""
    if result.dscr is None:
        return "cash"
    if result.dscr >= thresholds.strong_dscr:
        return "strong"
    return "workable" if result.dscr >= thresholds.minimum_dscr else "short"
