"""Clocks: the manual one wakes sleepers in order of their deadlines, the scaled one runs faster."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from parley_common.clock import Clock, ManualClock, ScaledClock, SystemClock


async def test_a_manual_clock_moves_only_when_told() -> None:
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    assert (clock.now_ms(), clock.now()) == (0, datetime(2026, 1, 1, tzinfo=UTC))
    await clock.advance(1_500)
    assert (clock.now_ms(), clock.now()) == (1_500, datetime(2026, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC))


async def test_sleepers_wake_in_order_of_their_deadlines_each_at_its_own_time() -> None:
    clock, woken = ManualClock(), list[tuple[str, int]]()

    async def sleep(name: str, delay_ms: float) -> None:
        await clock.sleep_ms(delay_ms)
        woken.append((name, clock.now_ms()))

    async with asyncio.TaskGroup() as group:
        for name, delay_ms in (("late", 300), ("first", 100), ("same", 100), ("after", 1_000)):
            group.create_task(sleep(name, delay_ms))
        await clock.advance(500)
        assert woken == [("first", 100), ("same", 100), ("late", 300)]
        await clock.advance(500)
    assert woken[-1] == ("after", 1_000)


async def test_a_sleeper_that_sleeps_again_within_one_advance_wakes_again_on_time() -> None:
    clock, ticks = ManualClock(), list[int]()

    async def tick() -> None:
        for _ in range(5):
            await clock.sleep_ms(20)
            ticks.append(clock.now_ms())

    async with asyncio.TaskGroup() as group:
        group.create_task(tick())
        await clock.advance(100)
    assert ticks == [20, 40, 60, 80, 100]


async def test_a_sleeper_that_was_cancelled_is_passed_over() -> None:
    clock = ManualClock()
    async with asyncio.TaskGroup() as group:
        sleeper = group.create_task(clock.sleep_ms(50))
        await clock.advance(10)
        sleeper.cancel()
        await clock.advance(100)
    assert sleeper.cancelled()
    assert clock.now_ms() == 110


async def test_a_timer_calls_once_at_its_time_and_not_at_all_when_cancelled() -> None:
    clock, called = ManualClock(), list[tuple[str, int]]()
    clock.call_later_ms(30, lambda: called.append(("kept", clock.now_ms())))
    cancelled = clock.call_later_ms(20, lambda: called.append(("cancelled", clock.now_ms())))
    cancelled.cancel()
    await clock.advance(100)
    cancelled.cancel()
    assert called == [("kept", 30)]


@pytest.mark.parametrize(
    "clock", [ManualClock(), ScaledClock(100), SystemClock()], ids=["manual", "scaled", "system"]
)
async def test_a_sleep_of_nothing_gives_way_once_and_needs_no_time(clock: Clock) -> None:
    order: list[str] = []

    async def other() -> None:
        order.append("other")

    async with asyncio.TaskGroup() as group:
        group.create_task(other())
        await clock.sleep_ms(0)
        order.append("sleeper")
        await clock.sleep_ms(-5)
    assert order == ["other", "sleeper"]


async def test_a_scaled_clock_makes_an_hour_short_and_keeps_wall_and_monotonic_together() -> None:
    clock = ScaledClock(1_000_000)
    began, began_ms = clock.now(), clock.now_ms()
    await clock.sleep_ms(3_600_000)
    assert clock.now_ms() - began_ms >= 3_600_000
    assert clock.now() - began >= timedelta(hours=1)
    called = asyncio.Event()
    clock.call_later_ms(60_000, called.set)
    await asyncio.wait_for(called.wait(), 10)


async def test_the_system_clock_is_aware_and_never_goes_back() -> None:
    clock = SystemClock()
    assert clock.now().tzinfo is UTC
    times = [clock.now_ms() for _ in range(100)]
    assert times == sorted(times)
    called = asyncio.Event()
    timer = clock.call_later_ms(-1, called.set)
    await asyncio.wait_for(called.wait(), 10)
    timer.cancel()
