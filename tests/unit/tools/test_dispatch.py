"""Calls run side by side: per tool so many at once, businesses in turn, nothing lost, stops bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from harness.waiting import until
from parley_tools.dispatch import Dispatcher, FairQueue, Leave


class Work:
    """A handler whose items end when the test says so."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.running = 0
        self.most_running = 0
        self.gates: dict[str, asyncio.Event] = {}
        self.again_s: list[float | None] = []

    async def __call__(self, item: str, leave: Leave) -> float | None:
        self.begun.append(item)
        if item.startswith("early"):
            leave()
            leave()  # once is enough
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            if item == "crash":
                raise ValueError("a bug")
            await self.gates.setdefault(item, asyncio.Event()).wait()
        finally:
            self.running -= 1
        return self.again_s.pop(0) if self.again_s else None

    def end(self, *items: str) -> None:
        for item in items:
            self.gates.setdefault(item, asyncio.Event()).set()


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
async def dispatcher(work: Work) -> AsyncIterator[Dispatcher[str]]:
    async with Dispatcher[str](work, limit_of=lambda tool: 2 if tool == "slow" else 1) as made:
        yield made
        work.end(*work.begun)
        await made.drain(0)


async def test_a_tool_runs_as_many_at_once_as_it_may_and_the_rest_wait(
    dispatcher: Dispatcher[str], work: Work
) -> None:
    for item in ("a", "b", "c"):
        dispatcher.submit("slow", "cap", item)
    await until(lambda: len(work.begun) == 2)
    assert dispatcher.in_flight == 3
    work.end("b")
    await until(lambda: work.begun == ["a", "b", "c"])
    assert work.most_running == 2


async def test_a_tool_whose_lanes_are_full_delays_no_other_tool(
    dispatcher: Dispatcher[str], work: Work
) -> None:
    for item in ("a", "b", "c", "d"):
        dispatcher.submit("slow", "cap", item)
    dispatcher.submit("fast", "cap", "quick")
    await until(lambda: "quick" in work.begun)


async def test_businesses_take_turns_however_many_calls_one_of_them_has(
    dispatcher: Dispatcher[str], work: Work
) -> None:
    for item in ("a1", "a2", "a3", "a4"):
        dispatcher.submit("fast", "busy", item)
    dispatcher.submit("fast", "quiet", "b1")
    work.end("a1", "a2", "a3", "a4", "b1")
    await until(lambda: dispatcher.in_flight == 0)
    assert work.begun == ["a1", "a2", "b1", "a3", "a4"]


async def test_what_only_touches_a_running_call_passes_the_lanes_by(
    dispatcher: Dispatcher[str], work: Work
) -> None:
    dispatcher.submit("fast", "cap", "held")
    await until(lambda: work.begun == ["held"])
    dispatcher.submit("fast", "cap", "repeat", at_once=True)
    await until(lambda: "repeat" in work.begun)


async def test_an_item_wanted_again_later_leaves_its_lane_meanwhile(
    dispatcher: Dispatcher[str], work: Work
) -> None:
    work.again_s = [0.05]
    work.end("again", "next")
    dispatcher.submit("fast", "cap", "again")
    dispatcher.submit("fast", "cap", "next")
    await until(lambda: dispatcher.in_flight == 0)
    assert work.begun == ["again", "next", "again"]


async def test_an_item_that_left_its_lane_lets_the_next_begin_and_counts_until_it_is_done(
    dispatcher: Dispatcher[str], work: Work
) -> None:
    for item in ("early-1", "early-2", "late", "last"):
        dispatcher.submit("fast", "cap", item)
    await until(lambda: len(work.begun) == 3)
    assert work.begun == ["early-1", "early-2", "late"]
    assert dispatcher.in_flight == 4
    work.end("late")
    await until(lambda: work.begun[-1] == "last")
    work.end("early-1", "early-2", "last")
    assert await dispatcher.drain(5) == 0
    assert dispatcher.in_flight == 0


async def test_a_handler_that_crashes_is_logged_without_its_message_and_frees_its_lane(
    dispatcher: Dispatcher[str], work: Work
) -> None:
    with capture_logs() as logs:
        dispatcher.submit("fast", "cap", "crash")
        dispatcher.submit("fast", "cap", "next")
        work.end("next")
        await until(lambda: dispatcher.in_flight == 0)
    assert [entry["event"] for entry in logs] == ["call.crashed"]
    assert "a bug" not in str(logs)
    assert work.begun == ["crash", "next"]


async def test_draining_waits_for_what_runs_and_for_what_waits(
    dispatcher: Dispatcher[str], work: Work
) -> None:
    work.end("a", "b", "c")
    for item in ("a", "b", "c"):
        dispatcher.submit("fast", "cap", item)
    assert await dispatcher.drain(5) == 0
    assert work.begun == ["a", "b", "c"]


async def test_draining_drops_what_is_not_done_in_time_and_says_how_many(
    dispatcher: Dispatcher[str], work: Work
) -> None:
    for item in ("a", "b", "c"):
        dispatcher.submit("fast", "cap", item)
    assert await dispatcher.drain(0.01) == 3
    await until(lambda: work.running == 0)
    assert work.begun == ["a"]


def test_an_empty_queue_has_nothing_to_take() -> None:
    queue: FairQueue[int] = FairQueue()
    queue.put("a", 1)
    assert queue
    assert queue.take() == 1
    assert not queue
    with pytest.raises(KeyError):
        queue.take()
