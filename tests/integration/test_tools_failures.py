"""What a caller's session gets when the tools process, its providers or its broker fail: real processes and broker."""

from __future__ import annotations

import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from harness.broker import Broker
from harness.http_server import HttpServer, Reply, Request
from harness.processes import Processes
from harness.topics import Topics
from harness.waiting import until
from parley_common.contracts.topics import LEAD_EVENTS
from parley_common.db import Database
from parley_tools.store import SCHEMA
from unit.tools.caller import Running, ServicePlan, replica

DETAILS = {
    "name": "Daniel Cooper",
    "email": "daniel.cooper@example.com",
    "phone": "415-555-0132",
    "consent": True,
}
DEAL = {"price_usd": 300_000, "down_payment_pct": 25, "monthly_rent_usd": 2_400}
MARKET = {"area": "Austin, Texas"}


class SlowSearch:
    """A web-search API that answers nobody until it is told to."""

    def __init__(self) -> None:
        self._may_answer = threading.Event()
        self.asked_count = 0

    def __call__(self, request: Request) -> Reply:
        self.asked_count += 1
        self._may_answer.wait(20)
        return Reply(200, b'{"results": [{"title": "Austin in brief", "snippet": "Rents are flat."}]}')

    def answer_now(self) -> None:
        self._may_answer.set()


@pytest.fixture
def search() -> Iterator[tuple[SlowSearch, str]]:
    slow = SlowSearch()
    with HttpServer(slow) as server:
        yield slow, f"{server.url}/search"
        slow.answer_now()


@asynccontextmanager
async def tables(url: str) -> AsyncIterator[Database]:
    database = Database(url, schema=SCHEMA)
    try:
        yield database
    finally:
        await database.aclose()


async def rows(database: Database, query: str) -> list[Any]:
    async with database.begin() as db:
        return list((await db.execute(text(query))).all())


@asynccontextmanager
async def held_back(database: Database) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Keep every writer of the database waiting until the yielded function is called."""
    async with database.engine.connect() as owner:
        if database.is_sqlite:
            await owner.execute(text("SELECT 1"))  # our connections begin IMMEDIATE: this is the write lock
        else:
            await owner.execute(text("LOCK TABLE tool_calls IN ACCESS EXCLUSIVE MODE"))
        yield owner.rollback


async def shows(running: Running, metric: str) -> bool:
    async with httpx.AsyncClient(trust_env=False) as client:
        return metric in (await client.get(f"{running.base_url}/metrics")).text


async def test_a_process_killed_between_effect_and_answer_leaves_one_effect_and_the_repeat_is_answered(
    fresh_broker: Broker, database_url: str, processes: Processes, port: Callable[[], int]
) -> None:
    plan = ServicePlan(fresh_broker.bootstrap_servers, database_url)
    await plan.prepare(processes)
    running = await plan.start(processes, port())
    async with (
        tables(database_url) as database,
        replica(plan.bootstrap_servers, plan.service) as asker,
    ):
        async with held_back(database) as let_go:
            call = await asker.send("save_lead", DETAILS)
            held = "parley_tool_calls_in_flight_count 1.0"
            await until(lambda: shows(running, held), 15, "the call to be in the process's hands")
            fresh_broker.freeze()  # from here on no answer can leave
            await let_go()

        async def is_done() -> bool:
            return await rows(database, "SELECT 1 FROM tool_calls WHERE state = 'done'") != []

        await until(is_done, 15, "the effect and its stored result to be committed")
        running.proc.kill9()
        fresh_broker.thaw()
        await plan.start(processes, port())
        await asker.send("save_lead", DETAILS, call_id=call.call_id, attempt=2, deadline_ms=30_000)
        answer = await asker.answer(call.call_id, 30, attempt=2)
        assert answer.result.status == "ok"
        assert await rows(database, "SELECT lead_id FROM leads") == [(answer.output["lead_id"],)]
        await until(lambda: all_sent(database), 15, "the outbox to be empty")
        records = await Topics(plan.bootstrap_servers).read_all(LEAD_EVENTS.name)
        assert {record.header("ce_type") for record in records} == {"parley.lead.captured.v1"}
        assert len({record.header("ce_id") for record in records}) == 1


async def all_sent(database: Database) -> bool:
    return await rows(database, "SELECT 1 FROM outbox WHERE sent_at IS NULL") == []


async def test_a_slow_tool_delays_no_other_and_a_repeat_of_it_is_not_a_second_run(
    bootstrap_servers: str,
    sqlite_url: str,
    processes: Processes,
    port: Callable[[], int],
    search: tuple[SlowSearch, str],
) -> None:
    slow, url = search
    settings = {"TOOLS_WEB_SEARCH_URL": url, "TOOLS_TOOL_CONCURRENCY": "1"}
    plan = ServicePlan(bootstrap_servers, sqlite_url, settings=settings)
    await plan.prepare(processes)
    running = await plan.start(processes, port())
    async with (
        replica(bootstrap_servers, plan.service) as asker,
        replica(bootstrap_servers, plan.service, partition=9) as successor,
    ):
        held = await asker.send("research_market", MARKET)
        await until(lambda: slow.asked_count == 1, 15, "the slow tool to be in mid-call")
        queued = await asker.send("research_market", MARKET)
        assert (await asker.ask("analyze_deal", DEAL)).result.status == "ok"
        repeat = held.model_copy(
            update={"attempt": 2, "reply_partition": successor.partition, "deadline_ms": 20_000}
        )
        await successor.send_raw(repeat.model_dump_json().encode(), repeat.session_id)
        redirected = 'parley_tool_calls_repeated_total{how="redirected"} 1.0'
        await until(lambda: shows(running, redirected), 15, "the repeat to be seen")
        slow.answer_now()
        answer = await successor.answer(held.call_id)
        assert (answer.partition, answer.result.attempt) == (9, 2)
        assert answer.output["source"] == "web search"
        assert (await asker.answer(queued.call_id)).result.status == "ok"
        assert slow.asked_count == 2
        assert held.call_id not in {each.result.call_id for each in await asker.collect()}


async def test_a_worker_killed_in_mid_call_costs_a_retry_and_not_an_answer(
    bootstrap_servers: str,
    sqlite_url: str,
    processes: Processes,
    port: Callable[[], int],
    search: tuple[SlowSearch, str],
) -> None:
    slow, url = search
    plan = ServicePlan(bootstrap_servers, sqlite_url, settings={"TOOLS_WEB_SEARCH_URL": url})
    await plan.prepare(processes)
    running = await plan.start(processes, port())
    async with replica(bootstrap_servers, plan.service) as asker:
        call = await asker.send("research_market", MARKET)
        await until(lambda: slow.asked_count == 1, 15, "the tool to be in mid-call")
        running.proc.kill9()
        slow.answer_now()
        await plan.start(processes, port())
        await asker.send("research_market", MARKET, call_id=call.call_id, attempt=2, deadline_ms=30_000)
        assert (await asker.answer(call.call_id, 30, attempt=2)).result.status == "ok"
        assert slow.asked_count == 2


async def test_a_stopped_service_finishes_and_answers_what_it_had_accepted(
    bootstrap_servers: str,
    sqlite_url: str,
    processes: Processes,
    port: Callable[[], int],
    search: tuple[SlowSearch, str],
) -> None:
    slow, url = search
    plan = ServicePlan(bootstrap_servers, sqlite_url, settings={"TOOLS_WEB_SEARCH_URL": url})
    await plan.prepare(processes)
    running = await plan.start(processes, port())
    async with replica(bootstrap_servers, plan.service) as asker:
        call = await asker.send("research_market", MARKET)
        await until(lambda: slow.asked_count == 1, 15, "the tool to be in mid-call")
        threading.Timer(0.3, slow.answer_now).start()
        assert await running.proc.terminate(10) == 0
        assert (await asker.answer(call.call_id)).result.status == "ok"


async def test_more_calls_than_it_may_hold_are_answered_all_the_same(
    bootstrap_servers: str, sqlite_url: str, processes: Processes, port: Callable[[], int]
) -> None:
    settings = {"TOOLS_IN_FLIGHT_MAX": "3", "TOOLS_TOOL_CONCURRENCY": "1"}
    plan = ServicePlan(bootstrap_servers, sqlite_url, settings=settings)
    await plan.prepare(processes)
    await plan.start(processes, port())
    async with replica(bootstrap_servers, plan.service) as asker:
        calls = [await asker.send("analyze_deal", DEAL, deadline_ms=60_000) for _ in range(40)]
        for call in calls:
            assert (await asker.answer(call.call_id, 30)).result.status == "ok"


async def test_a_service_without_tables_says_what_it_waits_for_and_becomes_ready(
    bootstrap_servers: str, sqlite_url: str, processes: Processes, port: Callable[[], int]
) -> None:
    plan = ServicePlan(bootstrap_servers, sqlite_url)
    number = port()
    proc = processes.start(
        [sys.executable, "-m", "parley_tools.app"], name="tools", env=plan.environment(number)
    )
    base_url = f"http://127.0.0.1:{number}"
    await proc.wait_ready(f"{base_url}/healthz", 20)
    async with httpx.AsyncClient(trust_env=False) as client:

        async def waits_for() -> str | None:
            found = (await client.get(f"{base_url}/readyz")).json()["waiting_for"].get("database")
            return found if found and "migrate" in found else None

        await until(waits_for, 10, "the reason")
    await plan.prepare(processes)
    await proc.wait_ready(f"{base_url}/readyz", 30)


async def test_a_broker_that_answers_nothing_does_not_hold_up_a_stop(
    fresh_broker: Broker, sqlite_url: str, processes: Processes, port: Callable[[], int]
) -> None:
    plan = ServicePlan(fresh_broker.bootstrap_servers, sqlite_url)
    await plan.prepare(processes)
    running = await plan.start(processes, port())
    fresh_broker.freeze()
    try:
        assert await running.proc.terminate(12) == 0
    finally:
        fresh_broker.thaw()
