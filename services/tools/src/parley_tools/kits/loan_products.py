"""The loan products kit: which of the business's loans fit a property, side by side, and what to send for one."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Literal

from parley_tools.kit import (
    DataFile,
    DataPart,
    Field,
    JsonValue,
    Output,
    Refused,
    ToolContext,
    tool,
)
from parley_tools.kits.lending import MONEY_MAX, PRODUCTS, Product, Products
from parley_tools.rules.finance import (
    MONTHS,
    balance_after,
    cents,
    down_payment,
    interest_only_payment,
    monthly_payment,
)

BALANCE_YEARS = 5
NAMED_MAX = 3
Circumstance = Literal["purchase", "refinance", "rented", "company", "bridge", "gift"]


class Document(DataPart):
    """Something to send, and when: every word of ``when`` must hold."""

    name: str
    when: tuple[Circumstance, ...] = ()


class Documents(DataPart):
    """data/documents.yaml."""

    note: str
    documents: tuple[Document, ...] = Field(min_length=1)
    not_needed: str = ""


DOCUMENTS = DataFile("documents.yaml", Documents)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the caller told of the property and of themselves; null: not said."""

    price: Decimal
    loan: Decimal
    noi: Decimal | None
    credit_score: int | None

    @property
    def loan_to_value_pct(self) -> Decimal:
        return cents(self.loan * 100 / self.price)


@dataclass(frozen=True, slots=True)
class Compared:
    """One product for what was asked: what it costs a month, and why it does not fit, if it does not."""

    product: Product
    payment: Decimal
    dscr: Decimal | None
    owed: Decimal
    """After five years, or at its end if that is sooner."""
    why_not: str | None


@tool(cls="read", deadline_ms=4_000, data=(PRODUCTS,))
async def compare_loan_products(
    ctx: ToolContext,
    price_usd: Annotated[
        float, Field(description="Purchase price of the property, in dollars", gt=0, le=MONEY_MAX)
    ],
    down_payment_pct: Annotated[
        float | None, Field(description="Down payment as a percentage of the price, such as 25", ge=0, le=100)
    ] = None,
    monthly_rent_usd: Annotated[
        float | None,
        Field(description="Monthly rent the property brings in, in dollars", ge=0, le=10_000_000),
    ] = None,
    credit_score: Annotated[
        int | None, Field(description="The caller's credit score", ge=300, le=850)
    ] = None,
) -> Output:
    """Compare our loan products side by side for a property: what each costs a month, which ones fit and why another does
    not, and which costs least. Use it when a caller asks which loan to take or how our loans differ.
    """
    data = ctx.data(PRODUCTS)
    asked = _asked(data, price_usd, down_payment_pct, monthly_rent_usd, credit_score)
    if asked.loan <= 0:
        raise Refused("With that down payment there is nothing left to borrow.", code="no_loan_needed")
    compared = [compare(each, asked) for each in data.products]
    rows: list[JsonValue] = [_row(each) for each in compared]
    return {
        "loan_usd": float(asked.loan),
        "loan_to_value_pct": float(asked.loan_to_value_pct),
        "products": rows,
        "fitting": [each.product.name for each in compared if each.why_not is None],
        "say": _say(compared),
        "note": data.note,
    }


def _asked(
    data: Products, price: float, down_pct: float | None, rent: float | None, credit_score: int | None
) -> Asked:
    price_usd, defaults = Decimal(str(price)), data.defaults
    said = None if down_pct is None else Decimal(str(down_pct))
    down = down_payment(price_usd, usd=None, pct=said, default_pct=defaults.down_payment_pct)
    noi = None
    if rent is not None:
        yearly = Decimal(str(rent)) * MONTHS
        lost = yearly * (defaults.vacancy_pct + defaults.maintenance_pct_of_rent) / 100
        costs = price_usd * (defaults.taxes_pct_of_price + defaults.insurance_pct_of_price) / 100
        noi = cents(yearly - lost - costs)
    return Asked(price_usd, cents(price_usd - down), noi, credit_score)


def compare(product: Product, asked: Asked) -> Compared:
    """Return what one product means for what was asked."""
    rate, years = product.rate_from_pct, product.term_years
    if product.is_interest_only:
        payment, owed = interest_only_payment(asked.loan, rate), asked.loan
    else:
        payment = monthly_payment(asked.loan, rate, years)
        owed = balance_after(asked.loan, rate, years, min(BALANCE_YEARS, years) * MONTHS)
    dscr = None if asked.noi is None else cents(asked.noi / (payment * MONTHS))
    return Compared(product, payment, dscr, owed, _why_not(product, asked, dscr))


def _why_not(product: Product, asked: Asked, dscr: Decimal | None) -> str | None:
    if asked.loan_to_value_pct > product.max_loan_to_value_pct:
        least = 100 - product.max_loan_to_value_pct
        return f"it needs at least {least:f} percent down"
    if product.min_credit_score and asked.credit_score and asked.credit_score < product.min_credit_score:
        return f"it needs a credit score of {product.min_credit_score}"
    if product.min_dscr is not None and dscr is not None and dscr < product.min_dscr:
        return f"the rent would have to cover the payment {product.min_dscr:f} times"
    return None


def _row(each: Compared) -> JsonValue:
    return {
        "name": each.product.name,
        "summary": each.product.summary,
        "fits": each.why_not is None,
        "why_not": each.why_not,
        "rate_from_pct": float(each.product.rate_from_pct),
        "monthly_payment_usd": float(each.payment),
        "is_interest_only": each.product.is_interest_only,
        "dscr": None if each.dscr is None else float(each.dscr),
        "owed_after_five_years_usd": float(each.owed),
        "good_for": each.product.good_for,
    }


def _say(compared: list[Compared]) -> str:
    fitting = [each for each in compared if each.why_not is None]
    if not fitting:
        first = compared[0]
        return f"None of our loans fits that as it stands. For {first.product.name}, {first.why_not}."
    parts = [_spoken(each) for each in fitting[:NAMED_MAX]]
    least = min(fitting, key=lambda each: each.payment)
    closing = f" {least.product.name} has the lowest payment." if len(fitting) > 1 else ""
    return f"{'; '.join(parts)}.{closing}"


def _spoken(each: Compared) -> str:
    interest = ", interest only" if each.product.is_interest_only else ""
    good_for = f", good {each.product.good_for}" if each.product.good_for else ""
    return f"{each.product.name} is about ${each.payment:,.0f} a month{interest}{good_for}"


@tool(cls="read", deadline_ms=3_000, data=(DOCUMENTS,))
async def list_loan_documents(
    ctx: ToolContext,
    purpose: Annotated[
        Literal["purchase", "refinance"], Field(description="What the loan is for, a purchase or a refinance")
    ] = "purchase",
    is_company: Annotated[bool, Field(description="Whether a company or LLC borrows")] = False,
    is_rented: Annotated[bool, Field(description="Whether the property is rented out now")] = False,
    is_renovation: Annotated[bool, Field(description="Whether the property is renovated first")] = False,
    has_gift: Annotated[bool, Field(description="Whether part of the money is a gift")] = False,
) -> Output:
    """List the documents a caller has to send for their loan: the checklist for a purchase or refinance, for a
    company, a rented property, a renovation or gift money.
    """
    data = ctx.data(DOCUMENTS)
    also = {"company": is_company, "rented": is_rented, "bridge": is_renovation, "gift": has_gift}
    holds = {purpose, *(name for name, is_so in also.items() if is_so)}
    needed = [each.name for each in data.documents if set(each.when) <= holds]
    listed = f"{', '.join(needed[:-1])} and {needed[-1]}" if len(needed) > 1 else "".join(needed)
    documents: list[JsonValue] = list(needed)
    return {
        "documents": documents,
        "not_needed": data.not_needed,
        "note": data.note,
        "say": f"Please send {listed}. {data.not_needed}".strip(),
    }
