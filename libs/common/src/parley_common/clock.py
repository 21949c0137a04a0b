"""Clocks. The core is told the time; only shells own one of these.

``SystemClock`` is real, ``ScaledClock`` runs faster than real (for hours of conversation in minutes of
test), ``ManualClock`` moves only when told. All three share one interface, so that the core's shell, the
understudy and ``parley talk`` can be driven by the same hand.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Where a shell gets its time from."""

    def now_ms(self) -> int:
        """Return monotonic milliseconds; only differences mean anything."""
        ...

    def now(self) -> datetime:
        """Return the wall time, aware, UTC."""
        ...

    async def sleep_ms(self, delay_ms: float) -> None:
        """Return after ``delay_ms`` of this clock; at once for zero or less (after one turn of the loop)."""
        ...

    def call_later_ms(self, delay_ms: float, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` on the loop after ``delay_ms`` of this clock, unless cancelled before."""
        ...


class Timer(Protocol):
    """A call that is to come."""

    def cancel(self) -> None:
        """Take it back; harmless when it has been made."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep_ms(self, delay_ms: float) -> None:
        await asyncio.sleep(max(0.0, delay_ms) / 1000)

    def call_later_ms(self, delay_ms: float, callback: Callable[[], None]) -> Timer:
        return asyncio.get_running_loop().call_later(max(0.0, delay_ms) / 1000, callback)


class ScaledClock:
    """A clock that runs ``rate`` times as fast as the machine's."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._origin_ns = time.monotonic_ns()
        self._origin = datetime.now(UTC)

    def now_ms(self) -> int:
        return int((time.monotonic_ns() - self._origin_ns) * self.rate) // 1_000_000

    def now(self) -> datetime:
        return self._origin + timedelta(milliseconds=self.now_ms())

    async def sleep_ms(self, delay_ms: float) -> None:
        await asyncio.sleep(max(0.0, delay_ms) / 1000 / self.rate)

    def call_later_ms(self, delay_ms: float, callback: Callable[[], None]) -> Timer:
        return asyncio.get_running_loop().call_later(max(0.0, delay_ms) / 1000 / self.rate, callback)


class ManualClock:
    """A clock that a test moves by hand; sleepers wake in order of their deadlines."""

    def __init__(self, start: datetime = datetime(2026, 1, 5, 17, 0, tzinfo=UTC)) -> None:
        self._start = start
        self._now_ms = 0
        self._order = itertools.count()
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []

    def now_ms(self) -> int:
        return self._now_ms

    def now(self) -> datetime:
        return self._start + timedelta(milliseconds=self._now_ms)

    async def sleep_ms(self, delay_ms: float) -> None:
        if delay_ms <= 0:
            await asyncio.sleep(0)
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now_ms + round(delay_ms), next(self._order), waiter))
        await waiter

    def call_later_ms(self, delay_ms: float, callback: Callable[[], None]) -> Timer:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter.add_done_callback(lambda done: None if done.cancelled() else callback())
        heapq.heappush(self._sleepers, (self._now_ms + max(0, round(delay_ms)), next(self._order), waiter))
        return _ManualTimer(waiter)

    async def advance(self, by_ms: int) -> None:
        """Move ``by_ms`` ahead, stopping at each sleeper's deadline on the way."""
        target_ms = self._now_ms + by_ms
        await _settle()
        while self._sleepers and self._sleepers[0][0] <= target_ms:
            self._now_ms, _, waiter = heapq.heappop(self._sleepers)
            if not waiter.done():
                waiter.set_result(None)
            await _settle()
        self._now_ms = target_ms
        await _settle()


class _ManualTimer:
    def __init__(self, waiter: asyncio.Future[None]) -> None:
        self._waiter = waiter

    def cancel(self) -> None:
        self._waiter.cancel()


async def _settle(turns: int = 20) -> None:
    """Let everything that is ready run; 20 turns of the loop outlast every chain of awaits we use."""
    for _ in range(turns):
        await asyncio.sleep(0)
