"""A clock made faster: its time, its sleepers and its timers, over one that a test moves."""

from __future__ import annotations

import asyncio

from parley_common.clock import ManualClock, ScaledClock, SystemClock
from parley_understudy.hastened import hastened


async def test_time_passes_so_many_times_faster_and_begins_where_the_other_clock_is() -> None:
    slow = ManualClock()
    await slow.advance(500)
    fast = hastened(slow, 60)
    began = fast.now()
    await slow.advance(2_000)
    assert fast.now_ms() == 120_000
    assert began == slow.now().replace(second=0, microsecond=500_000)
    assert (fast.now() - began).total_seconds() == 120


async def test_sleepers_and_timers_wake_so_much_earlier() -> None:
    slow = ManualClock()
    fast = hastened(slow, 60)
    woken: list[str] = []

    async def sleep() -> None:
        await fast.sleep_ms(60_000)
        woken.append("sleeper")

    async with asyncio.TaskGroup() as group:
        group.create_task(sleep())
        fast.call_later_ms(30_000, lambda: woken.append("timer"))
        fast.call_later_ms(30_000, lambda: woken.append("never")).cancel()
        await slow.advance(499)
        assert woken == []
        await slow.advance(1)
        assert woken == ["timer"]
        await slow.advance(500)
    assert woken == ["timer", "sleeper"]


def test_the_machines_clock_is_scaled_to_the_nanosecond_and_at_rate_1_left_alone() -> None:
    clock = SystemClock()
    assert hastened(clock, 1) is clock
    scaled = hastened(clock, 100)
    assert isinstance(scaled, ScaledClock)
    assert scaled.rate == 100
