"""Whatever a tool, a caller or the broker does wrong, a call ends in one answer that can be spoken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from harness.waiting import until
from parley_common.contracts.leads import LeadCaptured
from parley_common.contracts.tool_calls import CallerContext
from parley_common.errors import DependencyUnavailable
from unit.tools.bench import Bench, bench_world
from unit.tools.world import Worker, World


@pytest.fixture
async def place(sqlite_url: str, tmp_path: Path, bench: Bench) -> AsyncIterator[World]:
    async with bench_world(sqlite_url, tmp_path, bench) as made:
        yield made


async def notes(place: World) -> int:
    return len(await place.rows("SELECT 1 FROM lead_history"))


@pytest.mark.parametrize(
    ("raised", "code", "retryable"),
    [
        (DependencyUnavailable("x", code="provider_unavailable"), "provider_unavailable", True),
        (ValueError("daniel@example.com"), "tool_failed", False),
        (TimeoutError(), "tool_timed_out", True),
        (KeyError("secret"), "tool_failed", False),
        (OSError("secret"), "tool_failed", False),
    ],
)
async def test_a_tool_that_fails_becomes_an_answer_and_leaves_no_effect(
    place: World, worker: Worker, bench: Bench, raised: Exception, code: str, retryable: bool
) -> None:
    bench.fails_with = raised
    with capture_logs() as logs:
        answer = await place.ask(worker, "write_note", {"note": "milk"})
    assert (answer.status, answer.code) == ("failed", code)
    assert isinstance(answer.output, dict)
    assert answer.output["error"]["retryable"] is retryable  # type: ignore[index, call-overload]
    assert answer.output["say"]
    assert await notes(place) == 0
    everything = f"{logs}{answer}"
    assert "secret" not in everything
    assert "daniel" not in everything
    assert "milk" not in everything


async def test_an_external_tool_that_breaks_in_the_middle_has_an_unknown_outcome(
    place: World, worker: Worker, bench: Bench
) -> None:
    bench.fails_with = ValueError("half sent")
    assert (await place.ask(worker, "send_parcel", {})).status == "unknown_outcome"


async def test_an_output_that_cannot_be_spoken_is_our_failure_and_not_the_callers(
    place: World, worker: Worker
) -> None:
    assert (await place.ask(worker, "say_nothing", {})).code == "tool_failed"


async def test_emitting_a_fact_that_was_not_declared_fails_the_call(
    place: World, worker: Worker, bench: Bench
) -> None:
    object.__setattr__(bench.tools[0], "emits", (LeadCaptured,))
    assert (await place.ask(worker, "write_note", {"note": "milk"})).code == "tool_failed"
    assert await place.facts() == []


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, {"field": "note", "problem": "is missing"}),
        ({"note": 7}, {"field": "note", "problem": "should be a valid string"}),
        ({"note": "x" * 21}, {"field": "note", "problem": "String should have at most 20 characters"}),
        ({"note": "milk", "more": 1}, {"field": "more", "problem": "there is no such parameter"}),
    ],
)
async def test_arguments_that_do_not_hold_to_the_schema_are_refused_with_what_to_ask(
    place: World, worker: Worker, arguments: dict[str, Any], problem: dict[str, str]
) -> None:
    answer = await place.ask(worker, "write_note", arguments)
    assert (answer.status, answer.code) == ("refused", "invalid_arguments")
    assert isinstance(answer.output, dict)
    error: Any = answer.output["error"]
    assert error["fields"] == [problem]
    assert error["say"]
    assert await place.rows("SELECT 1 FROM tool_calls") == []


async def test_a_missing_argument_is_asked_for_by_its_description(place: World, worker: Worker) -> None:
    answer = await place.ask(worker, "write_note", {})
    assert isinstance(answer.output, dict)
    assert answer.output["say"] == "I still need to know what to write down."


async def test_a_tool_that_needs_a_grant_is_refused_without_it_and_runs_with_it(
    place: World, worker: Worker
) -> None:
    refused = await place.ask(worker, "read_account", {})
    assert (refused.status, refused.code) == ("refused", "needs_verified:account")
    granted = CallerContext(grants=("verified:account",))
    assert (await place.ask(worker, "read_account", {}, context=granted)).status == "ok"


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"business": "nobody"}, "unknown_business"),
        ({"tool": "no_such_tool"}, "unknown_tool"),
        ({"tool": "analyze_deal"}, "unknown_tool"),
    ],
)
async def test_a_call_for_what_the_business_does_not_have_is_refused(
    place: World, worker: Worker, more: dict[str, str], code: str
) -> None:
    asked = {"tool": "write_note", "arguments": {"note": "milk"}, **more}
    answer = await place.ask(worker, **asked)
    assert (answer.status, answer.code) == ("refused", code)


async def test_an_expired_call_is_skipped(place: World, worker: Worker, bench: Bench) -> None:
    late = place.arrived("write_note", {"note": "milk"}, deadline_ms=1_000)
    await place.clock.advance(1_000)
    assert await worker.executor.handle(late) is None
    assert (bench.begun_count, place.published.records) == (0, [])


async def test_a_result_is_published_again_until_the_broker_takes_it(place: World, worker: Worker) -> None:
    place.published.away_count = 2
    async with asyncio.TaskGroup() as group:
        task = group.create_task(worker.executor.handle(place.arrived("write_note", {"note": "milk"})))

        async def done() -> bool:
            await place.clock.advance(100)
            return task.done()

        await until(done)
    assert [result.status for result in place.published.results()] == ["ok"]


async def test_a_result_that_cannot_be_published_in_time_answers_the_next_attempt(
    place: World, worker: Worker
) -> None:
    place.published.away_count = 1_000
    async with asyncio.TaskGroup() as group:
        task = group.create_task(worker.executor.handle(place.arrived("write_note", {"note": "milk"})))

        async def done() -> bool:
            await place.clock.advance(500)
            return task.done()

        await until(done)
    assert place.published.records == []
    place.published.away_count = 0
    assert (await place.ask(worker, "write_note", {"note": "milk"}, attempt=2)).status == "ok"
    assert await notes(place) == 1
