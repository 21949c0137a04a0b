"""Whether a loan is likely, by a bank's declared rules: score, income, and what all debts take of the income.

A first look only; people decide. Money is Decimal, payments are level and rounded to the cent.

Law: the same figures and rules give the same answer, and every answer that is not "likely" says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from typing import Literal, Self

from pydantic import Field, model_validator

from parley_tools.files import DataPart
from parley_tools.rules.finance import monthly_payment

Purpose = Literal["personal", "car", "home_improvement"]
Standing = Literal["likely", "review", "unlikely"]
Reason = Literal[
    "amount_too_small",
    "amount_too_large",
    "term_too_long",
    "income_too_low",
    "score_too_low",
    "debts_too_high",
    "score_near",
    "debts_near",
]
HARD: frozenset[Reason] = frozenset(
    {
        *("amount_too_small", "amount_too_large", "term_too_long"),
        *("income_too_low", "score_too_low", "debts_too_high"),
    }
)


class RateBand(DataPart):
    """The yearly rate from a credit score on."""

    min_score: int = Field(ge=300, le=850)
    rate_pct: Decimal = Field(ge=0, le=40)


class Loan(DataPart):
    """One kind of loan."""

    purpose: Purpose
    name: str
    min_usd: Decimal = Field(gt=0)
    max_usd: Decimal = Field(gt=0)
    terms_max_years: int = Field(ge=1, le=30)
    default_term_years: int = Field(ge=1, le=30)
    min_income_usd: Decimal = Field(ge=0)
    review_score: int
    """From this score on a person looks at it."""
    likely_score: int
    likely_debts_pct: Decimal = Field(gt=0, le=100)
    review_debts_pct: Decimal = Field(gt=0, le=100)
    """All debts, this loan included, as a share of the monthly income."""
    rates: tuple[RateBand, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _bands_make_sense(self) -> Self:
        floors = [each.min_score for each in self.rates]
        if floors != sorted(set(floors), reverse=True) or floors[-1] > self.review_score:
            raise ValueError(
                "rates must fall from the highest score to one that every reviewed score reaches"
            )
        if self.review_score > self.likely_score or self.likely_debts_pct > self.review_debts_pct:
            raise ValueError("what is likely must be stricter than what is reviewed")
        return self

    def rate_pct(self, score: int) -> Decimal:
        """Return the rate of a score; of one below every band, the last band's."""
        return next((b.rate_pct for b in self.rates if score >= b.min_score), self.rates[-1].rate_pct)


class Loans(DataPart):
    """data/loans.yaml."""

    version: str
    note: str
    loans: tuple[Loan, ...] = Field(min_length=1)

    def of(self, purpose: Purpose) -> Loan | None:
        return next((each for each in self.loans if each.purpose == purpose), None)


@dataclass(frozen=True, slots=True)
class Request:
    """What someone asks for and has; the term null: the usual one."""

    amount_usd: Decimal
    annual_income_usd: Decimal
    monthly_debts_usd: Decimal
    score: int
    term_years: int | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """What the rules say."""

    standing: Standing
    reasons: tuple[Reason, ...]
    rate_pct: Decimal
    term_years: int
    payment_usd: Decimal
    debts_pct: Decimal
    """100 or more also when there is no income."""
    affordable_usd: Decimal
    """The most that the likely share of debts would carry; 0 when nothing."""


def look(loan: Loan, request: Request) -> Look:
    """Return whether a request is likely, is for a person to review, or is unlikely."""
    term = request.term_years or loan.default_term_years
    rate = loan.rate_pct(request.score)
    payment = monthly_payment(request.amount_usd, rate, term).quantize(Decimal("0.01"), ROUND_HALF_UP)
    income = request.annual_income_usd / 12
    debts_pct = _share(request.monthly_debts_usd + payment, income)
    reasons = tuple(_reasons(loan, request, term, debts_pct))
    if HARD & set(reasons):
        standing: Standing = "unlikely"
    else:
        standing = "review" if reasons else "likely"
    affordable = _affordable(loan, request, rate, term, income)
    return Look(standing, reasons, rate, term, payment, debts_pct, affordable)


def _reasons(loan: Loan, request: Request, term: int, debts_pct: Decimal) -> list[Reason]:
    checks: list[tuple[bool, Reason]] = [
        (request.amount_usd < loan.min_usd, "amount_too_small"),
        (request.amount_usd > loan.max_usd, "amount_too_large"),
        (term > loan.terms_max_years, "term_too_long"),
        (request.annual_income_usd < loan.min_income_usd, "income_too_low"),
        (request.score < loan.review_score, "score_too_low"),
        (debts_pct > loan.review_debts_pct, "debts_too_high"),
        (loan.review_score <= request.score < loan.likely_score, "score_near"),
        (loan.likely_debts_pct < debts_pct <= loan.review_debts_pct, "debts_near"),
    ]
    return [reason for holds, reason in checks if holds]


def _share(debts: Decimal, income: Decimal) -> Decimal:
    if income <= 0:
        return Decimal(100)
    return (debts * 100 / income).quantize(Decimal("0.1"), ROUND_HALF_UP)


def _affordable(loan: Loan, request: Request, rate: Decimal, term: int, income: Decimal) -> Decimal:
    """Return the amount, in whole hundreds and within the loan's bounds, whose payment fits the likely share."""
    room = income * loan.likely_debts_pct / 100 - request.monthly_debts_usd
    per_dollar = monthly_payment(Decimal(100_000), rate, term) / 100_000
    if room <= 0 or per_dollar <= 0:
        return Decimal(0)
    amount = (room / per_dollar / 100).quantize(Decimal(1), ROUND_DOWN) * 100
    return Decimal(0) if amount < loan.min_usd else min(amount, loan.max_usd)
