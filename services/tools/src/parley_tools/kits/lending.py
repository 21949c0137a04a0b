"""The lending kit: what a rental-property deal comes to. Defaults and thresholds are the business's."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from parley_tools.context import ToolContext
from parley_tools.files import DataFile
from parley_tools.registry import Output, tool
from parley_tools.rules.finance import (
    Deal,
    Figures,
    Thresholds,
    Verdict,
    cents,
    down_payment,
    figures,
    verdict,
)

MONEY_MAX = 1_000_000_000


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DealDefaults(_Part):
    """What a deal is worked out with when the caller does not say."""

    down_payment_pct: Decimal = Field(ge=0, le=100)
    rate_pct: Decimal = Field(ge=0, le=30)
    taxes_pct_of_price: Decimal = Field(ge=0, le=10)
    insurance_pct_of_price: Decimal = Field(ge=0, le=10)
    vacancy_pct: Decimal = Field(ge=0, lt=100)
    maintenance_pct_of_rent: Decimal = Field(ge=0, lt=100)


class Product(_Part):
    """One loan the business makes."""

    name: str
    summary: str
    max_loan_to_value_pct: Decimal
    min_dscr: Decimal | None = None
    min_credit_score: int | None = None
    rate_from_pct: Decimal
    term_years: int = Field(default=30, ge=1, le=40)
    is_interest_only: bool = False
    good_for: str = ""
    """When it is the one to take, as the end of a sentence."""


class Products(_Part):
    """data/products.yaml."""

    note: str
    defaults: DealDefaults
    strong_dscr: Decimal
    minimum_dscr: Decimal
    products: tuple[Product, ...]


PRODUCTS = DataFile("products.yaml", Products)


@tool(cls="read", deadline_ms=4_000, data=(PRODUCTS,))
async def analyze_deal(
    ctx: ToolContext,
    price_usd: Annotated[
        float, Field(description="Purchase price of the property, in dollars", gt=0, le=MONEY_MAX)
    ],
    monthly_rent_usd: Annotated[
        float, Field(description="Monthly rent the property brings in, in dollars", ge=0, le=10_000_000)
    ],
    down_payment_pct: Annotated[
        float | None, Field(description="Down payment as a percentage of the price, such as 25", ge=0, le=100)
    ] = None,
    down_payment_usd: Annotated[
        float | None,
        Field(
            description="Down payment in dollars, only when the caller says an amount of money",
            ge=0,
            le=MONEY_MAX,
        ),
    ] = None,
    rate_pct: Annotated[
        float | None,
        Field(description="Yearly interest rate of the loan in percent, such as 7.25", ge=0, le=30),
    ] = None,
    term_years: Annotated[int, Field(description="Term of the loan in years", ge=1, le=40)] = 30,
    annual_taxes_usd: Annotated[
        float | None, Field(description="Property taxes for a year, in dollars", ge=0, le=MONEY_MAX)
    ] = None,
    annual_insurance_usd: Annotated[
        float | None, Field(description="Property insurance for a year, in dollars", ge=0, le=MONEY_MAX)
    ] = None,
    vacancy_pct: Annotated[
        float | None,
        Field(description="Share of the year the property stands empty, in percent", ge=0, le=90),
    ] = None,
    maintenance_pct: Annotated[
        float | None, Field(description="Repairs and management as a percentage of the rent", ge=0, le=90)
    ] = None,
    monthly_fees_usd: Annotated[
        float, Field(description="Association (HOA) fees for a month, in dollars", ge=0, le=1_000_000)
    ] = 0.0,
) -> Output:
    """Analyze the numbers of an investment property deal: buying a rental property with a loan, from its purchase
    price, down payment and monthly rent. Works out the loan, the monthly payment, cash flow, DSCR, cap rate and
    cash-on-cash return, and says in plain words whether the deal works.
    """
    data = ctx.data(PRODUCTS)
    price, defaults = _decimal(price_usd), data.defaults
    down = down_payment(
        price,
        usd=_maybe(down_payment_usd),
        pct=_maybe(down_payment_pct),
        default_pct=defaults.down_payment_pct,
    )
    deal = Deal(
        price=price,
        down_payment=down,
        rate_pct=_or(rate_pct, defaults.rate_pct),
        term_years=term_years,
        monthly_rent=_decimal(monthly_rent_usd),
        annual_taxes=_or(annual_taxes_usd, cents(price * defaults.taxes_pct_of_price / 100)),
        annual_insurance=_or(annual_insurance_usd, cents(price * defaults.insurance_pct_of_price / 100)),
        vacancy_pct=_or(vacancy_pct, defaults.vacancy_pct),
        maintenance_pct=_or(maintenance_pct, defaults.maintenance_pct_of_rent),
        monthly_fees=_decimal(monthly_fees_usd),
    )
    said = {
        "down_payment": (down_payment_pct, down_payment_usd),
        "rate_pct": (rate_pct,),
        "annual_taxes_usd": (annual_taxes_usd,),
        "annual_insurance_usd": (annual_insurance_usd,),
        "vacancy_pct": (vacancy_pct,),
        "maintenance_pct": (maintenance_pct,),
    }
    assumed = [name for name, values in said.items() if all(value is None for value in values)]
    result = figures(deal)
    judged = verdict(result, Thresholds(data.strong_dscr, data.minimum_dscr))
    return {
        **_output(deal, result),
        "assumed": list(assumed),
        "verdict": judged,
        "say": _say(deal, result, judged),
        "note": data.note,
    }


def _decimal(value: float) -> Decimal:
    """A float as people wrote it: 0.1 is one tenth."""
    return Decimal(str(value))


def _maybe(value: float | None) -> Decimal | None:
    return None if value is None else _decimal(value)


def _or(value: float | None, default: Decimal) -> Decimal:
    return default if value is None else _decimal(value)


def _output(deal: Deal, result: Figures) -> Output:
    return {
        "price_usd": float(deal.price),
        "down_payment_usd": float(deal.down_payment),
        "down_payment_pct": float(cents(deal.down_payment * 100 / deal.price)),
        "rate_pct": float(deal.rate_pct),
        "term_years": deal.term_years,
        "monthly_rent_usd": float(deal.monthly_rent),
        "loan_usd": float(result.loan),
        "loan_to_value_pct": float(result.loan_to_value_pct),
        "monthly_payment_usd": float(result.payment),
        "annual_noi_usd": float(result.noi),
        "dscr": None if result.dscr is None else float(result.dscr),
        "cap_rate_pct": float(result.cap_rate_pct),
        "monthly_cash_flow_usd": float(result.monthly_cash_flow),
        "annual_cash_flow_usd": float(result.annual_cash_flow),
        "cash_on_cash_pct": None if result.cash_on_cash_pct is None else float(result.cash_on_cash_pct),
    }


def _say(deal: Deal, result: Figures, judged: Verdict) -> str:
    """Return the verdict as one to three spoken sentences."""
    flow = result.monthly_cash_flow
    left = f"about {_usd(flow)} a month left over" if flow >= 0 else f"about {_usd(-flow)} a month short"
    if judged == "cash":
        return f"Paying all cash, the property returns about {result.cap_rate_pct}% a year, with {left}."
    opening = (
        f"On {_usd(deal.price)} with {_usd(deal.down_payment)} down, "
        f"the payment is about {_usd(result.payment)} a month."
    )
    covers = f"After expenses the rent covers it {result.dscr} times, {left}."
    closing = {
        "strong": "That's a strong deal.",
        "workable": "That works, though the cushion is thin.",
        "short": "As it stands, the rent doesn't carry the loan; a larger down payment would help.",
    }[judged]
    return f"{opening} {covers} {closing}"


def _usd(amount: Decimal) -> str:
    return f"${amount.quantize(Decimal(1)):,}"
