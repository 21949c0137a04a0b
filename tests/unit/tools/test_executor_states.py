"""One effect per call, whatever is repeated, killed, taken over or outlived; on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harness.waiting import until
from parley_common.errors import ToolRefused
from parley_tools.calls import Arrived
from parley_tools.upkeep import keep_leases
from unit.tools.bench import Bench, bench_world
from unit.tools.world import LEASE_S, Worker, World

LEASE_MS = int(LEASE_S * 1000)


@pytest.fixture
async def place(database_url: str, tmp_path: Path, bench: Bench) -> AsyncIterator[World]:
    async with bench_world(database_url, tmp_path, bench) as made:
        yield made


async def notes(place: World) -> int:
    return len(await place.rows("SELECT 1 FROM lead_history"))


async def claimed_by_a_dead_worker(place: World, bench: Bench, arrived: Arrived) -> None:
    """Leave the row as a worker does that was killed in mid-call."""
    dead = place.worker("dead-worker", tools=bench.tools)
    async with place.database.begin() as db:
        await dead.calls.claim(db, arrived, now=place.clock.now(), may_rerun=True, runs_here=False)


async def test_effects_stored_result_and_facts_of_a_call_are_there_together(
    place: World, worker: Worker
) -> None:
    answer = await place.ask(worker, "write_note", {"note": "milk"})
    assert (answer.status, answer.output, answer.grants) == ("ok", {"say": "Noted."}, ("noted",))
    assert await notes(place) == 1
    assert [fact.fact_type for fact in await place.facts()] == ["parley.case.opened.v1"]
    assert await place.rows("SELECT state FROM tool_calls") == [("done",)]


async def test_a_call_repeated_ten_times_has_one_effect_and_the_same_answer_each_time(
    place: World, worker: Worker
) -> None:
    answers = [
        await place.ask(
            worker, "write_note", {"note": "milk"}, attempt=n, reply_to=f"replica-{n}", reply_partition=n
        )
        for n in range(1, 11)
    ]
    assert await notes(place) == 1
    assert len(await place.facts()) == 1
    assert {str(answer.output) for answer in answers} == {"{'say': 'Noted.'}"}
    assert place.addresses() == [(n, f"replica-{n}") for n in range(1, 11)]


async def test_a_repeat_while_the_call_runs_only_changes_where_the_answer_goes(
    place: World, worker: Worker, bench: Bench
) -> None:
    bench.may_end.clear()
    async with asyncio.TaskGroup() as group:
        group.create_task(worker.executor.handle(place.arrived("write_note", {"note": "milk"})))
        await until(lambda: bench.begun_count == 1)
        repeat = place.arrived(
            "write_note", {"note": "milk"}, attempt=2, reply_partition=9, reply_to="replica-b", fence=2
        )
        assert worker.executor.is_running(repeat)
        assert await worker.executor.handle(repeat) is None
        assert place.published.records == []
        bench.may_end.set()
    assert place.addresses() == [(9, "replica-b")]
    assert [result.attempt for result in place.published.results()] == [2]
    assert (bench.begun_count, await notes(place)) == (1, 1)


async def test_an_older_attempt_that_arrives_late_does_not_take_the_answer_back(
    place: World, worker: Worker, bench: Bench
) -> None:
    bench.may_end.clear()
    async with asyncio.TaskGroup() as group:
        group.create_task(
            worker.executor.handle(
                place.arrived("write_note", {"note": "milk"}, attempt=2, reply_partition=2)
            )
        )
        await until(lambda: bench.begun_count == 1)
        await worker.executor.handle(
            place.arrived("write_note", {"note": "milk"}, attempt=1, reply_partition=1)
        )
        bench.may_end.set()
    assert [partition for partition, _ in place.addresses()] == [2]


async def test_a_repeat_waits_for_the_lease_of_another_worker_and_then_runs_the_call(
    place: World, worker: Worker, bench: Bench
) -> None:
    await claimed_by_a_dead_worker(place, bench, place.arrived("write_note", {"note": "milk"}))
    repeat = place.arrived("write_note", {"note": "milk"}, attempt=2)
    again_s = await worker.executor.handle(repeat)
    assert again_s is not None
    assert LEASE_S <= again_s < LEASE_S + 1
    assert bench.begun_count == 0
    await place.clock.advance(int(again_s * 1000))
    assert await worker.executor.handle(repeat) is None
    assert [result.status for result in place.published.results()] == ["ok"]
    assert await notes(place) == 1


async def test_an_external_effect_whose_worker_died_is_never_tried_again(
    place: World, worker: Worker, bench: Bench
) -> None:
    await claimed_by_a_dead_worker(place, bench, place.arrived("send_parcel"))
    await place.clock.advance(LEASE_MS + 1)
    answers = [await place.ask(worker, "send_parcel", {}, attempt=n) for n in (2, 3)]
    assert [answer.status for answer in answers] == ["unknown_outcome", "unknown_outcome"]
    assert bench.begun_count == 0


async def test_a_renewed_lease_keeps_a_long_run_from_being_taken_over(
    place: World, worker: Worker, bench: Bench
) -> None:
    bench.may_end.clear()
    other = place.worker("worker-2", tools=bench.tools)
    async with asyncio.TaskGroup() as group:
        group.create_task(
            worker.executor.handle(place.arrived("write_note", {"note": "milk"}, deadline_ms=60_000))
        )
        await until(lambda: bench.begun_count == 1)
        await place.clock.advance(LEASE_MS - 500)
        async with place.database.begin() as db:
            await worker.calls.renew(db, place.clock.now())
        await place.clock.advance(LEASE_MS - 500)
        repeat = place.arrived("write_note", {"note": "milk"}, attempt=2, deadline_ms=60_000)
        assert await other.executor.handle(repeat) is not None
        bench.may_end.set()
    assert bench.begun_count == 1


async def test_a_run_that_was_taken_over_commits_nothing_and_answers_nothing(
    place: World, worker: Worker, bench: Bench
) -> None:
    bench.may_end.clear()
    other = place.worker("worker-2", tools=bench.tools)
    async with asyncio.TaskGroup() as group:
        group.create_task(
            worker.executor.handle(place.arrived("write_note", {"note": "first"}, deadline_ms=60_000))
        )
        await until(lambda: bench.begun_count == 1)
        await place.clock.advance(LEASE_MS + 1)
        repeat = place.arrived("write_note", {"note": "second"}, attempt=2, deadline_ms=60_000)
        async with place.database.begin() as db:
            await other.calls.claim(db, repeat, now=place.clock.now(), may_rerun=True, runs_here=False)
        bench.may_end.set()
    assert await notes(place) == 0
    assert place.published.records == []
    assert await place.facts() == []


async def test_a_worker_that_stops_gives_its_leases_up_so_that_a_repeat_need_not_wait(
    place: World, worker: Worker, bench: Bench
) -> None:
    arrived = place.arrived("write_note", {"note": "milk"})
    async with place.database.begin() as db:
        await worker.calls.claim(db, arrived, now=place.clock.now(), may_rerun=True, runs_here=False)
    stop = asyncio.Event()
    stop.set()
    await keep_leases(place.database, worker.calls, place.clock, stop, lambda _ready, _why: None)
    other = place.worker("worker-2", tools=bench.tools)
    assert (await place.ask(other, "write_note", {"note": "milk"}, attempt=2)).status == "ok"


async def test_a_lower_fence_is_refused_for_any_call_of_its_session(place: World, worker: Worker) -> None:
    await place.ask(worker, "write_note", {"note": "milk"}, fence=3)
    answer = await place.ask(worker, "write_note", {"note": "eggs"}, call_id="call-2", fence=2)
    assert (answer.status, answer.code) == ("refused", "stale_fence")
    assert await notes(place) == 1
    elsewhere = await place.ask(worker, "write_note", {"note": "tea"}, session_id="session-2", fence=1)
    assert elsewhere.status == "ok"


async def test_a_refusal_rolls_back_what_the_tool_wrote_and_is_the_answer_to_every_attempt(
    place: World, worker: Worker, bench: Bench
) -> None:
    bench.fails_with = ToolRefused("We are closed.", code="closed")
    first = await place.ask(worker, "write_note", {"note": "milk"})
    assert (first.status, first.code) == ("refused", "closed")
    assert first.output == {
        "error": {"code": "closed", "message": "We are closed.", "say": "We are closed."},
        "say": "We are closed.",
    }
    bench.fails_with = None
    assert (await place.ask(worker, "write_note", {"note": "milk"}, attempt=2)).code == "closed"
    assert await notes(place) == 0


async def test_a_database_error_inside_a_tool_is_contained(place: World, worker: Worker) -> None:
    answer = await place.ask(worker, "write_note", {"note": "milk"})
    assert answer.status == "ok"
    clash = await place.ask(worker, "write_note", {"note": "milk"}, call_id="call-2")  # same primary key
    assert (clash.status, clash.code) == ("failed", "tool_failed")
    assert await notes(place) == 1


async def test_finished_and_abandoned_calls_are_forgotten_after_a_while(place: World, worker: Worker) -> None:
    await place.ask(worker, "write_note", {"note": "milk"})
    async with place.database.begin() as db:
        assert await worker.calls.prune(db, place.clock.now()) == 0
    await place.clock.advance(1_000)
    async with place.database.begin() as db:
        assert await worker.calls.prune(db, place.clock.now()) == 1
    assert await place.rows("SELECT 1 FROM tool_calls") == []
