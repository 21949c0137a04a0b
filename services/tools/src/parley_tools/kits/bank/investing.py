"""The bank kit's investing basics: a risk profile and the general mix it is an example of. No personal advice."""

from __future__ import annotations

from parley_tools.kit import Annotated, DataFile, Field, Output, Refused, ToolContext, tool
from parley_tools.rules.bank_investing import Investing, Outlook, Reaction, outlook

INVESTING = DataFile("investing.yaml", Investing)
WHY_CAPPED = {
    "horizon": " As you need the money soon, nothing bolder is shown.",
    "reserve": " Without a reserve for emergencies, nothing bolder is shown.",
}


@tool(cls="read", data=(INVESTING,))
async def describe_risk_profile(
    ctx: ToolContext,
    horizon_years: Annotated[
        int, Field(description="How many years the money can stay invested", ge=0, le=60)
    ],
    loss_reaction: Annotated[
        Reaction,
        Field(description="What the caller would do if the value fell by a fifth: sell, hold or buy more"),
    ],
    reserve_months: Annotated[
        int | None,
        Field(description="How many months of spending the caller has as a reserve", ge=0, le=240),
    ] = None,
    security: Annotated[
        str | None,
        Field(
            description="A particular stock, fund or coin, only if the caller asks whether to buy it",
            max_length=80,
        ),
    ] = None,
) -> Output:
    """Describe a risk profile for investing money in stocks, shares, bonds or funds, and the general mix that goes with
    it, as general information. It is no personal advice: it never says what to buy or sell.
    """
    rules = ctx.data(INVESTING)
    if security:
        raise Refused(
            "I can't say whether to buy a particular investment. I can explain how investing works in general, "
            "and a licensed adviser can talk about your situation.",
            code="no_personal_advice",
        )
    found = outlook(rules, horizon_years, loss_reaction, reserve_months)
    return {
        "profile": found.profile.name,
        "mix_pct": dict(found.profile.mix_pct),
        "capped_by": found.capped_by,
        "is_advice": False,
        "disclaimer": rules.disclaimer,
        "note": rules.note,
        "say": _say(found, rules.disclaimer),
    }


def _say(found: Outlook, disclaimer: str) -> str:
    parts = [f"{pct} percent {name}" for name, pct in found.profile.mix_pct.items()]
    mix = f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]
    capped = WHY_CAPPED.get(found.capped_by or "", "")
    profile = f"That points to a {found.profile.name} profile, which {found.profile.says}"
    return f"{profile}; an example is {mix}.{capped} {disclaimer}"
