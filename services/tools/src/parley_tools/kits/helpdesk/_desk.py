"""What the helpdesk's modules share: the trees and queues of a business, where a session's troubleshooting is, times.

Law: a session is at one step of one tree at most.
"""

from __future__ import annotations

from datetime import datetime

from parley_tools.kit import (
    DataFile,
    DataPart,
    JsonValue,
    RecordKind,
    ToolContext,
    spoken_moment,
    spoken_zone,
)
from parley_tools.rules.helpdesk_routing import Queue, Routing, opens_at
from parley_tools.rules.helpdesk_trees import Trees


class Walk(DataPart):
    """How far a session's troubleshooting has come."""

    tree: str
    at: str
    """The step or ending that it is at."""
    answers: tuple[str, ...] = ()
    """Each step taken and its answer: "light: yes"."""
    is_over: bool = False
    problem: str = ""
    """What is known at the end, for the person who takes it up."""

    def findings(self) -> dict[str, JsonValue]:
        """Return what a case says of it."""
        return {"tree": self.tree, "answers": list[JsonValue](self.answers), "finding": self.problem or None}


TREES = DataFile("trees.yaml", Trees)
ROUTING = DataFile("routing.yaml", Routing)
WALKS = RecordKind("walk", Walk)


async def walk_of(ctx: ToolContext) -> tuple[Walk | None, int]:
    """Return this session's troubleshooting and its version, locked until the call ends."""
    kept = await ctx.records.lock(WALKS, ctx.session_id)
    return (kept.data, kept.version) if kept else (None, 0)


def local_now(ctx: ToolContext) -> datetime:
    """Return the business's own time."""
    return ctx.now.astimezone(ctx.business.zone)


def opening(ctx: ToolContext, queue: Queue) -> tuple[datetime | None, str]:
    """Return when a queue is next there, and how that is said: "Monday, January 5 at 9:00 AM Central time"."""
    moment = opens_at(queue, ctx.data(ROUTING), local_now(ctx))
    if moment is None:
        return None, "in more than two weeks"
    return moment, f"{spoken_moment(moment, ctx.business.zone)} {spoken_zone(ctx.business.zone)}"


def digits(reference: str) -> str:
    """Return a reference as it is said: digit by digit."""
    return " ".join(reference)
