"""Reads have no effect, so they are not claimed: what that saves, and what holds all the same; on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from harness.waiting import until
from parley_common.errors import ToolRefused
from parley_tools.context import ToolContext
from parley_tools.registry import Output, Tool, tool
from unit.tools.world import Worker, World, business_with, world


class Desk:
    """A read that a test can hold, that counts, and that writes what it must not."""

    def __init__(self) -> None:
        self.run_count = 0
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.writes = False
        self.refuses = False

        @tool(cls="read")
        async def look_up(ctx: ToolContext) -> Output:
            """Look something up."""
            self.run_count += 1
            number = self.run_count
            await self.may_end.wait()
            if self.writes:
                await ctx.db.execute(text("DELETE FROM tool_calls"))
            if self.refuses:
                raise ToolRefused("Not today.", code="not_today")
            return {"number": number, "say": "Here."}

        @tool(cls="reversible")
        async def put_down(ctx: ToolContext) -> Output:
            """Put something down."""
            return {"say": "Down."}

        self.tools: tuple[Tool, ...] = (look_up, put_down)


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
async def place(database_url: str, tmp_path: Path, desk: Desk) -> AsyncIterator[World]:
    business = business_with(tmp_path / "businesses", *(each.name for each in desk.tools))
    async with world(database_url) as made:
        made.businesses = {"cap": business}
        yield made


@pytest.fixture
def worker(place: World, desk: Desk) -> Worker:
    return place.worker(tools=desk.tools)


@contextmanager
def counted(place: World) -> Iterator[dict[str, int]]:
    """Count the transactions that this world's database begins and the statements it is given."""
    counts = {"transactions": 0, "statements": 0}

    def began(*_: Any) -> None:
        counts["transactions"] += 1

    def asked(*_: Any) -> None:
        counts["statements"] += 1

    engine = place.database.engine.sync_engine
    event.listen(engine, "begin", began)
    event.listen(engine, "before_cursor_execute", asked)
    try:
        yield counts
    finally:
        event.remove(engine, "begin", began)
        event.remove(engine, "before_cursor_execute", asked)


async def test_a_read_costs_one_transaction_with_two_statements(place: World, worker: Worker) -> None:
    await place.ask(worker, "look_up", {}, call_id="warm-up")
    with counted(place) as cost:
        await place.ask(worker, "look_up", {})
    of_its_own = 1 if place.database.is_sqlite else 0  # our BEGIN IMMEDIATE
    assert cost == {"transactions": 1, "statements": 2 + of_its_own}


async def test_reads_of_one_moment_share_their_transactions(place: World, worker: Worker, desk: Desk) -> None:
    await place.ask(worker, "look_up", {}, call_id="warm-up")
    desk.may_end.clear()
    with counted(place) as cost:
        async with asyncio.TaskGroup() as group:
            for number in range(50):
                arrived = place.arrived("look_up", {}, session_id=f"s-{number}", call_id="c")
                group.create_task(worker.executor.handle(arrived))
            await until(lambda: desk.run_count == 51)
            desk.may_end.set()
    assert cost["transactions"] <= 3
    assert await place.rows("SELECT count(*) FROM tool_calls WHERE state = 'done'") == [(51,)]


async def test_a_read_answers_every_attempt_alike_and_runs_no_more_once_it_is_stored(
    place: World, worker: Worker, desk: Desk
) -> None:
    answers = [await place.ask(worker, "look_up", {}, attempt=attempt) for attempt in (1, 2, 3)]
    assert [answer.output["number"] for answer in answers if isinstance(answer.output, dict)] == [1, 1, 1]
    assert desk.run_count == 1
    again = await place.ask(worker, "look_up", {}, attempt=1)  # its record came twice
    assert isinstance(again.output, dict)
    assert again.output["number"] == 1


async def test_a_read_that_two_workers_run_has_one_result_and_both_tell_it(
    place: World, worker: Worker, desk: Desk
) -> None:
    other = place.worker("worker-2", tools=desk.tools)
    desk.may_end.clear()
    async with asyncio.TaskGroup() as group:
        for each in (worker, other):
            group.create_task(each.executor.handle(place.arrived("look_up")))
        await until(lambda: desk.run_count == 2)
        desk.may_end.set()
    results = place.published.results()
    assert len(results) == 2
    assert results[0].output == results[1].output
    assert await place.rows("SELECT count(*) FROM tool_calls") == [(1,)]


async def test_a_repeat_while_a_read_runs_only_changes_where_the_answer_goes(
    place: World, worker: Worker, desk: Desk
) -> None:
    desk.may_end.clear()
    async with asyncio.TaskGroup() as group:
        group.create_task(worker.executor.handle(place.arrived("look_up")))
        await until(lambda: desk.run_count == 1)
        newer = place.arrived("look_up", attempt=2, reply_partition=9, reply_to="replica-b", fence=2)
        older = place.arrived("look_up", attempt=1, reply_partition=4)
        for repeat in (newer, older):
            assert worker.executor.is_running(repeat)
            assert await worker.executor.handle(repeat) is None
        desk.may_end.set()
    assert place.addresses() == [(9, "replica-b")]
    assert desk.run_count == 1


async def test_a_read_of_an_owner_that_was_succeeded_is_refused(place: World, worker: Worker) -> None:
    await place.ask(worker, "put_down", {}, call_id="c1", fence=3)
    answer = await place.ask(worker, "look_up", {}, call_id="c2", fence=2)
    assert (answer.status, answer.code) == ("refused", "stale_fence")
    assert await place.rows("SELECT call_id FROM tool_calls") == [("c1",)]


async def test_what_a_read_writes_is_taken_back(place: World, worker: Worker, desk: Desk) -> None:
    await place.ask(worker, "put_down", {}, call_id="c1")
    desk.writes = True
    assert (await place.ask(worker, "look_up", {}, call_id="c2")).status == "ok"
    assert await place.rows("SELECT call_id FROM tool_calls ORDER BY call_id") == [("c1",), ("c2",)]


async def test_a_read_that_refuses_is_stored_and_answered_so(
    place: World, worker: Worker, desk: Desk
) -> None:
    desk.refuses = True
    first = await place.ask(worker, "look_up", {})
    desk.refuses = False
    second = await place.ask(worker, "look_up", {}, attempt=2)
    assert (first.code, second.code) == ("not_today", "not_today")


async def test_the_stored_output_of_a_read_is_there_for_the_next_call_of_its_session(
    place: World, worker: Worker
) -> None:
    await place.ask(worker, "look_up", {})
    async with place.database.begin() as db:
        found = await worker.calls.newest_output(db, "session-1", "look_up")
    assert found == {"number": 1, "say": "Here."}


@pytest.fixture
async def strict(postgres_url: str, tmp_path: Path, desk: Desk) -> AsyncIterator[World]:
    """PostgreSQL alone: SQLite keeps texts of any length."""
    business = business_with(tmp_path / "businesses", *(each.name for each in desk.tools))
    async with world(postgres_url) as made:
        made.businesses = {"cap": business}
        yield made


async def test_one_call_that_the_database_will_not_have_spoils_none_that_came_with_it(
    strict: World, desk: Desk
) -> None:
    worker = strict.worker(tools=desk.tools)
    desk.may_end.clear()
    async with asyncio.TaskGroup() as group:
        for session_id in ("s-1", "s" * 65, "s-2"):
            arrived = strict.arrived("look_up", {}, session_id=session_id)
            group.create_task(worker.executor.handle(arrived))
        await until(lambda: desk.run_count == 3)
        desk.may_end.set()
    assert [result.status for result in strict.published.results()] == ["ok"] * 3
    stored = await strict.rows("SELECT session_id FROM tool_calls ORDER BY session_id")
    assert stored == [("s-1",), ("s-2",)]
