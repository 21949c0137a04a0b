"""The bank kit's check of who a customer is, before anything of theirs is told or changed.

Three things must agree: the customer number, the date of birth and the security word. The third wrong answer locks
the number for a while and opens a case, so that a person hears of it.
"""

from __future__ import annotations

from parley_tools.kit import Annotated, CaseOpened, Field, NewCase, Output, Refused, ToolContext, tool
from parley_tools.kits import _identity
from parley_tools.kits.bank._customers import CUSTOMER, CUSTOMERS
from parley_tools.rules.identity import digits_of, read_birthday, same_word


@tool(
    cls="reversible",
    grants=(CUSTOMER,),
    emits=(CaseOpened,),
    data=(CUSTOMERS,),
    records=(_identity.ATTEMPTS,),
    personal=("customer_number", "date_of_birth", "security_word"),
)
async def verify_customer(
    ctx: ToolContext,
    customer_number: Annotated[
        str, Field(description="The six digit customer number", min_length=4, max_length=40)
    ],
    date_of_birth: Annotated[
        str,
        Field(
            description="The caller's date of birth, as a date such as 1984-03-12",
            min_length=4,
            max_length=40,
        ),
    ],
    security_word: Annotated[
        str, Field(description="The security word the caller chose", min_length=2, max_length=60)
    ],
) -> Output:
    """Verify who a customer is by their customer number, when they were born and their security word. Needed before
    their accounts, transactions, cards or loans are talked about.
    """
    born = read_birthday(date_of_birth, ctx.now.astimezone(ctx.business.zone).date())
    if born is None:
        raise Refused(
            "I didn't get that as a date of birth. Could you say it with day, month and year?",
            code="bad_date",
            missing=["date_of_birth"],
        )
    number = digits_of(customer_number)
    attempt = await _identity.begin(ctx, f"customer {number}")
    customer = ctx.data(CUSTOMERS).get(number)
    if customer is None or customer.born != born or not same_word(security_word, customer.security_word):
        if attempt.is_last:
            await _report_lock(ctx, number if customer else None)
        raise _identity.no_match(attempt)
    await _identity.forgive(ctx, attempt)
    ctx.grant(f"{CUSTOMER}-{number}")
    return {
        "verified": True,
        "say": f"Thank you {customer.first_name}, that all matches. What can I do for you?",
    }


async def _report_lock(ctx: ToolContext, number: str | None) -> None:
    """Tell the fraud desk; a number that is not on file is somebody's typing error, and is not written down."""
    new = NewCase(
        kind="identity_lock",
        summary="Three wrong answers to the identity check",
        subject=number,
        priority="high",
        queue="fraud",
    )
    await ctx.cases.open(new, {"is_on_file": number is not None, "locked_min": _identity.LOCK_MIN})
