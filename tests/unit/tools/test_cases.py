"""Cases: opened, changed, closed, found again; each change a fact with the next seq, in the same unit of work."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from parley_common.contracts.cases import CaseClosed, CaseOpened, CaseUpdated
from parley_common.contracts.people import Person
from parley_common.contracts.tool_calls import CallerContext
from parley_common.errors import LocalViolation
from parley_tools.cases import NewCase
from parley_tools.context import Resources, ToolContext
from unit.tools.world import World

ANN = Person(name="Ann Lee", email="ann@example.com")
TICKET = NewCase("ticket", "The door sticks", person=ANN, subject="WK4417", priority="high", queue="doors")


@asynccontextmanager
async def call(here: World, session: str = "session-1", **more: Any) -> AsyncIterator[ToolContext]:
    """One call's context in its unit of work, allowed to emit every case fact."""
    async with here.database.begin() as db:
        resources = Resources(here.outbox, here.http, earlier=None)  # type: ignore[arg-type] # not used here
        emits = more.pop("emits", (CaseOpened, CaseUpdated, CaseClosed))
        business = more.pop("business", here.businesses["cap"])
        yield ToolContext(
            business, session, "call-1", CallerContext(), db, here.clock.now(), resources, emits=emits
        )


async def test_a_case_tells_its_whole_life_in_order(anywhere: World) -> None:
    async with call(anywhere) as ctx:
        case = await ctx.cases.open(TICKET, {"door": "front"})
        case_id, reference = case.case_id, case.reference
    assert reference.isdigit()
    assert len(reference) == 6
    async with call(anywhere, "session-2") as ctx:
        found = await ctx.cases.find(f"{reference[:3]} {reference[3:]}", kind="ticket")
        assert found is not None
        changed = await ctx.cases.update(found, status="in_progress", details={"door": "front", "by": "Kim"})
        assert changed == ("status", "by")
        assert await ctx.cases.update(found, status="in_progress") == ()
    async with call(anywhere, "session-2") as ctx:
        again = await ctx.cases.find(case_id)
        assert again is not None
        await ctx.cases.close(again, "The door was planed.")
        await ctx.cases.close(again, "Twice.")
    opened, updated, closed = await anywhere.facts()
    assert isinstance(opened, CaseOpened)
    assert isinstance(updated, CaseUpdated)
    assert isinstance(closed, CaseClosed)
    assert [fact.seq for fact in (opened, updated, closed)] == [1, 2, 3]
    assert (opened.priority, opened.queue, opened.details) == ("high", "doors", {"door": "front"})
    assert (updated.status, updated.details, updated.session_id) == (
        "in_progress",
        {"door": "front", "by": "Kim"},
        "session-2",
    )
    assert (closed.resolution, closed.person) == ("The door was planed.", ANN)


async def test_cases_are_found_by_subject_kind_session_and_state_within_their_business(here: World) -> None:
    other = here.businesses["cap"]
    stranger = type(other)(other.folder, other.config.model_copy(update={"name": "other"}), "", "1")
    async with call(here) as ctx:
        first = await ctx.cases.open(TICKET)
        second = await ctx.cases.open(NewCase("return", "Send it back", subject="WK4417"))
        await ctx.cases.close(second, "done")
    async with call(here, "session-2") as ctx:
        assert [c.kind for c in await ctx.cases.list(subject="WK4417")] == ["return", "ticket"]
        assert [c.kind for c in await ctx.cases.list(kind="ticket", is_open=True)] == ["ticket"]
        assert [c.kind for c in await ctx.cases.list(is_open=False)] == ["return"]
        assert await ctx.cases.list(of_session=True) == []
        assert await ctx.cases.find(first.reference, kind="return") is None
        assert await ctx.cases.find("nothing") is None
    async with call(here, business=stranger) as ctx:
        assert await ctx.cases.find(first.case_id) is None
        assert await ctx.cases.list() == []


async def test_a_tool_that_did_not_declare_the_fact_opens_no_case(here: World) -> None:
    with pytest.raises(LocalViolation, match="not among the facts"):
        async with call(here, emits=()) as ctx:
            await ctx.cases.open(TICKET)
    assert await here.rows("SELECT 1 FROM cases") == []


async def test_a_closed_case_is_not_changed(here: World) -> None:
    async with call(here) as ctx:
        case = await ctx.cases.open(TICKET)
        await ctx.cases.close(case, "done")
        with pytest.raises(LocalViolation, match="closed"):
            await ctx.cases.update(case, status="open")
