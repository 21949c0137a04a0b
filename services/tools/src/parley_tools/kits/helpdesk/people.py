"""The helpdesk kit's people: handing a caller over to those who can help, with a summary, and what callers think."""

from __future__ import annotations

from parley_tools.kit import (
    Annotated,
    Case,
    CaseOpened,
    CaseUpdated,
    Field,
    JsonValue,
    NewCase,
    Output,
    Person,
    Refused,
    ToolContext,
    tool,
    valid_phone,
)
from parley_tools.kits.helpdesk._desk import ROUTING, WALKS, digits, local_now, opening, walk_of
from parley_tools.rules.helpdesk_feedback import judge
from parley_tools.rules.helpdesk_routing import Priority, Routed, is_open, route

SUMMARY_CHARS_MAX = 160
NOTED = "noted"
"""The status of feedback that needs nobody."""


@tool(
    cls="reversible",
    emits=(CaseOpened, CaseUpdated),
    data=(ROUTING,),
    records=(WALKS,),
    personal=("problem", "name", "phone"),
)
async def escalate_to_person(
    ctx: ToolContext,
    problem: Annotated[
        str,
        Field(
            description="What the caller needs a person for, in their words", min_length=2, max_length=1_000
        ),
    ],
    name: Annotated[str | None, Field(description="The caller's full name", max_length=200)] = None,
    phone: Annotated[
        str | None, Field(description="The phone number to call back, with area code", max_length=40)
    ] = None,
    urgency: Annotated[
        Priority, Field(description="How urgent it is for the caller; normal when they do not say")
    ] = "normal",
) -> Output:
    """Escalate to a person: put the caller through to a human colleague who can help, with a summary. Outside their
    hours it arranges a call back instead, for which it needs a phone number.
    """
    routed = route(ctx.data(ROUTING), problem, said=urgency)
    person = Person(name=name, phone=_phone(ctx, phone)) if name or phone else None
    if is_open(routed.queue, ctx.data(ROUTING), local_now(ctx)):
        return await _handed_over(ctx, routed, problem, person)
    _, when = opening(ctx, routed.queue)
    if person is None or person.phone is None:
        raise Refused(
            f"Nobody of {routed.queue.title} is there now; they are back {when}. "
            "On which number shall they call you then?",
            code="outside_hours",
            missing=["phone"],
            opens=when,
        )
    case = await _case(ctx, "callback", routed, problem, person)
    return {
        "handed_over": False,
        "reference": case.reference,
        "queue": routed.queue.name,
        "say": f"{routed.queue.title.capitalize()} will call you back {when}. "
        f"Your reference is {digits(case.reference)}.",
    }


@tool(cls="reversible", emits=(CaseOpened, CaseUpdated), personal=("comment",))
async def record_feedback(
    ctx: ToolContext,
    rating: Annotated[
        int, Field(description="Rating from one to five of how satisfied the caller is", ge=1, le=5)
    ],
    recommend: Annotated[
        int | None,
        Field(description="Likelihood that the caller would recommend us, zero to ten", ge=0, le=10),
    ] = None,
    comment: Annotated[
        str | None, Field(description="What the caller says about it", max_length=1_000)
    ] = None,
) -> Output:
    """Record the caller's feedback: a rating of this conversation or our service in stars or points, and a comment.
    Called again it corrects the rating.
    """
    judged = judge(rating, recommend)
    details: dict[str, JsonValue] = {
        "rating": rating,
        "satisfied": judged.is_satisfied,
        **({"recommend": recommend, "recommender": judged.recommender} if recommend is not None else {}),
        **({"comment": comment} if comment else {}),
    }
    summary = f"Rated {rating} of 5"
    priority: Priority = "high" if judged.needs_care else "low"
    status = "open" if judged.needs_care else NOTED
    queue = "care" if judged.needs_care else "feedback"
    earlier = await ctx.cases.list(kind="feedback", of_session=True, is_open=True)
    if earlier:
        case = earlier[0]
        await ctx.cases.update(
            case, details=details, summary=summary, priority=priority, status=status, queue=queue
        )
    else:
        new = NewCase(kind="feedback", summary=summary, priority=priority, queue=queue, status=status)
        case = await ctx.cases.open(new, details=details)
    return {"reference": case.reference, **details, "say": _thanked(rating, needs_care=judged.needs_care)}


def _thanked(rating: int, *, needs_care: bool) -> str:
    stars = "one star" if rating == 1 else f"{rating} of five"
    if needs_care:
        return f"Thank you, I noted {stars}. I am sorry it was not better; a colleague will read this."
    return f"Thank you, I noted {stars}."


async def _handed_over(ctx: ToolContext, routed: Routed, problem: str, person: Person | None) -> Output:
    case = await _case(ctx, "handoff", routed, problem, person)
    return {
        "handed_over": True,
        "reference": case.reference,
        "queue": routed.queue.name,
        "priority": routed.priority,
        "summary_for_colleague": case.details["summary"],
        "say": f"I am putting you through to {routed.queue.title}. They know what we have tried so far.",
    }


async def _case(ctx: ToolContext, kind: str, routed: Routed, problem: str, person: Person | None) -> Case:
    """Open the case of a hand-over, or bring this session's own up to date when it is asked for again."""
    details: dict[str, JsonValue] = {"problem": problem, "summary": await _summary(ctx, problem)}
    for earlier in await ctx.cases.list(kind=kind, of_session=True, is_open=True):
        if earlier.queue == routed.queue.name:
            await ctx.cases.update(earlier, details=details, person=person, priority=routed.priority)
            return earlier
    new = NewCase(
        kind=kind,
        summary=problem[:SUMMARY_CHARS_MAX],
        person=person,
        priority=routed.priority,
        queue=routed.queue.name,
    )
    return await ctx.cases.open(new, details=details)


async def _summary(ctx: ToolContext, problem: str) -> str:
    """Return what a colleague should know before the first word: what is asked, tried and open."""
    parts = [f"Asks for: {problem}."]
    walk, _ = await walk_of(ctx)
    if walk is not None and walk.answers:
        parts.append(f"Tried with the caller ({walk.tree}): {'; '.join(walk.answers)}.")
    if walk is not None and walk.problem:
        parts.append(f"Found: {walk.problem}")
    tickets = await ctx.cases.list(kind="ticket", of_session=True)
    parts += [f"Ticket {each.reference} is {each.status}." for each in tickets]
    return " ".join(parts)


def _phone(ctx: ToolContext, said: str | None) -> str | None:
    return valid_phone(said, str(ctx.setting("phone_region", "US"))) if said else None
