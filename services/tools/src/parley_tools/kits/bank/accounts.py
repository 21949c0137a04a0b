"""The bank kit's account desk: what is on an account, and what happened on it."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from parley_tools.kit import Annotated, Field, JsonValue, Output, Refused, ToolContext, tool
from parley_tools.kits.bank._customers import (
    CUSTOMER,
    CUSTOMERS,
    TRANSACTIONS,
    Account,
    AccountKind,
    accounts_of,
    usd,
    verified_customer,
)
from parley_tools.rules.bank_statement import Direction, Sought, Transaction, matching, read_range

LISTED_MAX = 20
SAID_MAX = 3
MONEY_MAX = 100_000_000


@tool(cls="read", needs=(CUSTOMER,), data=(CUSTOMERS,))
async def check_account_balance(
    ctx: ToolContext,
    account: Annotated[
        AccountKind | None, Field(description="Which account it is about; left out, all of them")
    ] = None,
) -> Output:
    """Check the balance of the verified customer's accounts: how much money is in checking or savings, what is owed
    on a credit card or a loan.
    """
    wanted = accounts_of(ctx, verified_customer(ctx), account)
    listed: list[JsonValue] = [
        {
            "account": each.name,
            "kind": each.kind,
            "ends_with": each.number[-4:],
            "balance_usd": float(each.balance_usd),
            "available_usd": float(each.balance_usd if each.available_usd is None else each.available_usd),
        }
        for each in wanted
    ]
    return {"accounts": listed, "say": " ".join(_say_balance(each) for each in wanted[:SAID_MAX])}


def _say_balance(account: Account) -> str:
    if account.balance_usd < 0:
        return f"You owe {usd(account.balance_usd)} on your {account.name}."
    held = account.available_usd is not None and account.available_usd != account.balance_usd
    more = f", of which {usd(account.available_usd or Decimal(0))} is available" if held else ""
    return f"Your {account.name} has {usd(account.balance_usd)}{more}."


@tool(
    cls="read",
    needs=(CUSTOMER,),
    data=(CUSTOMERS, TRANSACTIONS),
    filler="Let me look through your transactions.",
)
async def list_transactions(
    ctx: ToolContext,
    account: Annotated[
        AccountKind | None, Field(description="Which account it is about; left out, all of them")
    ] = None,
    merchant: Annotated[
        str | None, Field(description="Name of the shop or company the money went to", max_length=80)
    ] = None,
    from_day: Annotated[
        str | None,
        Field(
            description="First day of the transactions wanted, as a date such as 2026-03-01", max_length=40
        ),
    ] = None,
    to_day: Annotated[
        str | None,
        Field(description="Last day of the transactions wanted, as a date such as 2026-03-31", max_length=40),
    ] = None,
    min_amount_usd: Annotated[
        float | None, Field(description="Smallest amount wanted, in dollars", ge=0, le=MONEY_MAX)
    ] = None,
    max_amount_usd: Annotated[
        float | None, Field(description="Largest amount wanted, in dollars", ge=0, le=MONEY_MAX)
    ] = None,
    direction: Annotated[
        Direction | None, Field(description="Only money coming in, or only money going out")
    ] = None,
) -> Output:
    """List the verified customer's transactions: what they spent or paid where, and whether a salary or other payment
    came in, by dates, amount or merchant. Purchases, charges and deposits; without dates, the last thirty days.
    """
    today = ctx.now.astimezone(ctx.business.zone).date()
    if min_amount_usd is not None and max_amount_usd is not None and min_amount_usd > max_amount_usd:
        raise Refused(
            "The smallest amount is above the largest. Which amounts do you mean?", code="amounts_reversed"
        )
    first, last = read_range(from_day, to_day, today)
    sought = Sought(first, last, merchant, _money(min_amount_usd), _money(max_amount_usd), direction)
    mine = {each.number for each in accounts_of(ctx, verified_customer(ctx), account)}
    found = matching(
        (each for each in ctx.data(TRANSACTIONS).transactions if each.account in mine), sought, today
    )
    return {
        "found_count": len(found),
        "first_day": first.isoformat(),
        "last_day": last.isoformat(),
        "total_usd": float(sum((each.amount_usd for each in found), Decimal(0))),
        "transactions": [_listed(each, today) for each in found[:LISTED_MAX]],
        "say": _say_found(found, sought, today),
    }


def _money(amount: float | None) -> Decimal | None:
    return None if amount is None else Decimal(str(amount))


def _listed(each: Transaction, today: date) -> JsonValue:
    return {
        "day": each.day(today).isoformat(),
        "merchant": each.merchant,
        "amount_usd": float(each.amount_usd),
        "category": each.category,
    }


def _say_found(found: list[Transaction], sought: Sought, today: date) -> str:
    days = f"between {_day(sought.first)} and {_day(sought.last)}"
    if not found:
        whom = f" for {sought.merchant}" if sought.merchant else ""
        return f"I find no transactions{whom} {days}."
    told = [_say_one(each, today) for each in found[:SAID_MAX]]
    if len(found) == 1:
        return f"I find one {days}: {told[0]}."
    newest = "" if len(found) <= SAID_MAX else "The newest are "
    return f"I find {len(found)} {days}. {newest}{'; '.join(told)}."


def _say_one(each: Transaction, today: date) -> str:
    way = "from" if each.amount_usd > 0 else "to"
    return f"{usd(each.amount_usd)} {way} {each.merchant} on {_day(each.day(today))}"


def _day(day: date) -> str:
    return f"{day:%B} {day.day}"
