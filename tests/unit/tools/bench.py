"""Tools that a test can hold, let go, break and count, for what the executor promises about any tool."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from pydantic import Field
from sqlalchemy import text

from parley_common.contracts.cases import CaseOpened
from parley_tools.context import ToolContext
from parley_tools.registry import Output, Tool, tool
from unit.tools.world import World, business_with, world

Note = Annotated[str, Field(description="What to write down", max_length=20)]


async def _write(ctx: ToolContext, note: str) -> None:
    statement = text(
        "INSERT INTO lead_history (history_id, lead_id, what, session_id, call_id, changes, at) "
        "VALUES (:id, :id, 'note', :session, :call, '{}', :at)"
    )
    at = ctx.now if ctx.db.get_bind().dialect.name != "sqlite" else ctx.now.isoformat(" ")
    parts = {"id": f"{note}-{ctx.now.timestamp()}", "session": ctx.session_id, "call": ctx.call_id, "at": at}
    await ctx.db.execute(statement, parts)


class Bench:
    """Tools that a test can hold, let go, break, and count."""

    def __init__(self) -> None:
        self.begun_count = 0
        self.may_end = asyncio.Event()
        self.fails_with: BaseException | None = None

        @tool(cls="reversible")
        async def write_note(ctx: ToolContext, note: Note) -> Output:
            """Write something down."""
            await self._work()
            await _write(ctx, note)
            if self.fails_with:
                raise self.fails_with
            seq = await ctx.next_seq("case-1")
            await ctx.emit(_case(ctx, seq))
            ctx.grant("noted")
            return {"say": "Noted."}

        @tool(cls="irreversible", effects="external")
        async def send_parcel(ctx: ToolContext) -> Output:
            """Send something that cannot be called back."""
            await self._work()
            if self.fails_with:
                raise self.fails_with
            return {"say": "Sent."}

        @tool(cls="reversible", needs=("verified:account",))
        async def read_account(ctx: ToolContext) -> Output:
            """Read an account."""
            return {"say": "Here it is."}

        @tool(cls="read")
        async def say_nothing(ctx: ToolContext) -> Output:
            """Return what is no output."""
            return {"nothing": True}

        object.__setattr__(write_note, "emits", (CaseOpened,))
        self.tools: tuple[Tool, ...] = (write_note, send_parcel, read_account, say_nothing)

    async def _work(self) -> None:
        self.begun_count += 1
        await self.may_end.wait()


def _case(ctx: ToolContext, seq: int) -> CaseOpened:
    return CaseOpened(
        case_id="case-1", seq=seq, business="cap", at=ctx.now, kind="note", summary="a note was written"
    )


@asynccontextmanager
async def bench_world(url: str, folder: Path, bench: Bench) -> AsyncIterator[World]:
    """A world whose one business has exactly the tools of the bench."""
    business = business_with(folder / "businesses", *(each.name for each in bench.tools))
    async with world(url) as made:
        made.businesses = {"cap": business}
        yield made
