"""The helpdesk kit's troubleshooting: one step after the other, until it is solved or people take over."""

from __future__ import annotations

from parley_tools.kit import (
    Annotated,
    CaseClosed,
    CaseOpened,
    DataFile,
    DataPart,
    Field,
    JsonValue,
    NewCase,
    Output,
    Refused,
    ToolContext,
    tool,
)
from parley_tools.kits.helpdesk._desk import TREES, WALKS, Walk, walk_of
from parley_tools.rules.helpdesk_trees import Ending, Step, Tree, fitting

ANSWER: dict[str, JsonValue] = {"tool": "answer_troubleshooting"}
OFFER_TICKET = "Offer open_ticket, and use it if the caller says yes."


class Outage(DataPart):
    """What is down in a town."""

    town: str
    cause: str
    services: tuple[str, ...]
    back_in_hours: int = Field(gt=0)


class Outages(DataPart):
    """data/outages.yaml."""

    towns: tuple[str, ...]
    """Where the business is."""
    outages: tuple[Outage, ...]


OUTAGES = DataFile("outages.yaml", Outages)


@tool(cls="reversible", data=(TREES,), records=(WALKS,))
async def start_troubleshooting(
    ctx: ToolContext,
    problem: Annotated[
        str,
        Field(description="What does not work, in the caller's own words", min_length=2, max_length=500),
    ],
) -> Output:
    """Troubleshoot a problem step by step, when something does not work: no internet connection, wifi that is slow or
    drops, a frozen picture on the TV, a forgotten password, trouble to log in to the account. Returns the first step
    to say to the caller.

    Then use answer_troubleshooting when the caller has answered the step, if the caller stays with it.
    """
    tree = fitting(ctx.data(TREES).trees, problem)
    if tree is None:
        raise Refused(
            "I have no guide for that. Shall I open a ticket, so that somebody looks into it?",
            code="no_guide",
            next_tool="open_ticket",
        )
    before, version = await walk_of(ctx)
    if before is not None and before.tree == tree.id and not before.is_over:
        step = tree.part(before.at)
        if isinstance(step, Step):  # the caller tells of it again: they are where they were
            return _step_output(tree, step)
    first = tree.steps[0]
    await ctx.records.put(WALKS, ctx.session_id, Walk(tree=tree.id, at=first.id), version=version)
    return _step_output(tree, first)


@tool(cls="reversible", emits=(CaseOpened, CaseClosed), data=(TREES,), records=(WALKS,))
async def answer_troubleshooting(
    ctx: ToolContext,
    answer_is_yes: Annotated[
        bool, Field(description="Whether the caller answered yes to the step; not sure is no")
    ],
) -> Output:
    """Go on with troubleshooting after the caller answered a step with yes or no. Returns the next step, or how it
    ended."""
    walk, version = await walk_of(ctx)
    tree = ctx.data(TREES).tree(walk.tree) if walk else None
    step = tree.part(walk.at) if tree and walk else None
    if walk is None or tree is None or not isinstance(step, Step):
        raise Refused(
            "We are not in the middle of anything. What does not work?",
            code="not_troubleshooting",
            next_tool="start_troubleshooting",
        )
    said = f"{step.id}: {'yes' if answer_is_yes else 'no'}"
    part = tree.part(step.after(is_yes=answer_is_yes))
    walk = walk.model_copy(update={"answers": (*walk.answers, said)})
    if isinstance(part, Step):
        await ctx.records.put(WALKS, ctx.session_id, walk.model_copy(update={"at": part.id}), version=version)
        return _step_output(tree, part)
    ending = part or tree.endings[0]  # a tree leads to parts of its own: its model sees to that
    problem = f"{tree.title}: {ending.finding}"
    over = walk.model_copy(update={"at": ending.id, "is_over": True, "problem": problem})
    await ctx.records.put(WALKS, ctx.session_id, over, version=version)
    if not ending.is_solved:
        return {"solved": False, "problem": problem, "next": OFFER_TICKET, "say": ending.say}
    return await _solved(ctx, tree, ending, over)


@tool(cls="read", deadline_ms=3_000, data=(OUTAGES,))
async def check_outage(
    ctx: ToolContext,
    town: Annotated[str, Field(description="The town where the caller lives", min_length=2, max_length=80)],
) -> Output:
    """Check whether there is a known outage in a town: is everything down there, and when is it back."""
    data = ctx.data(OUTAGES)
    said = f" {town.lower()} "
    known = next((each for each in data.towns if f" {each.lower()} " in said), None)
    if known is None:
        raise Refused("We have no lines in that town, as far as I can see.", code="town_not_served")
    outage = next((each for each in data.outages if each.town == known), None)
    if outage is None:
        return {"town": known, "outage": False, "say": f"There is no known outage in {known}."}
    hours = "an hour" if outage.back_in_hours == 1 else f"{outage.back_in_hours} hours"
    services: list[JsonValue] = list(outage.services)
    return {
        "town": known,
        "outage": True,
        "services": services,
        "back_in_hours": outage.back_in_hours,
        "say": f"Yes, there is an outage in {known} because of {outage.cause}. It should be over in about {hours}.",
    }


async def _solved(ctx: ToolContext, tree: Tree, ending: Ending, walk: Walk) -> Output:
    """Keep what was solved, so that people can see what callers struggle with."""
    case = await ctx.cases.open(
        NewCase(
            kind="issue", summary=f"Solved with the caller: {tree.title}", subject=tree.id, priority="low"
        ),
        details=walk.findings(),
    )
    await ctx.cases.close(case, ending.finding)
    return {"solved": True, "reference": case.reference, "say": ending.say}


def _step_output(tree: Tree, step: Step) -> Output:
    return {"guide": tree.title, "step": step.id, "next": ANSWER, "say": step.ask}
