"""The callbacks kit: a caller leaves a number and somebody calls back. What a business offers when all lines are busy."""

from __future__ import annotations

from parley_tools.kit import (
    Annotated,
    CaseOpened,
    CaseUpdated,
    Field,
    JsonValue,
    NewCase,
    Output,
    Person,
    ToolContext,
    tool,
    valid_phone,
)


@tool(cls="reversible", emits=(CaseOpened, CaseUpdated), personal=("name", "phone", "about"))
async def request_callback(
    ctx: ToolContext,
    name: Annotated[str, Field(description="The caller's full name", min_length=2, max_length=200)],
    phone: Annotated[
        str, Field(description="The phone number to call, with area code", min_length=3, max_length=40)
    ],
    about: Annotated[
        str | None, Field(description="What the call is about, in the caller's words", max_length=1_000)
    ] = None,
) -> Output:
    """Have one of our people call the caller back: needs a name and a phone number. Asked again in the same session it
    corrects them.
    """
    person = Person(name=name, phone=valid_phone(phone, str(ctx.setting("phone_region", "US"))))
    details: dict[str, JsonValue] = {"about": about} if about else {}
    earlier = await ctx.cases.list(kind="callback", of_session=True, is_open=True)
    if earlier:
        case = earlier[0]
        await ctx.cases.update(case, details=details, person=person)
    else:
        new = NewCase(kind="callback", summary="Please call back", person=person)
        case = await ctx.cases.open(new, details=details)
    return {"reference": case.reference, "say": "Thank you. One of our people will call you back."}
