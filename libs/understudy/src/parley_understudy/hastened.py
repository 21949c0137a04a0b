"""A clock that runs faster than the one it is made from, for one session: an hour in a minute.

It can be made from any clock, also one that a test moves by hand.

Law: at rate 1 it is the other clock.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from parley_common.clock import Clock, ScaledClock, SystemClock, Timer


def hastened(clock: Clock, rate: float) -> Clock:
    """Return ``clock`` at ``rate`` times its speed."""
    if rate == 1:
        return clock
    return ScaledClock(rate) if isinstance(clock, SystemClock) else _Hastened(clock, rate)


class _Hastened:
    def __init__(self, clock: Clock, rate: float) -> None:
        self._clock = clock
        self._rate = rate
        self._from_ms = clock.now_ms()
        self._from = clock.now()

    def now_ms(self) -> int:
        return int((self._clock.now_ms() - self._from_ms) * self._rate)

    def now(self) -> datetime:
        return self._from + timedelta(milliseconds=self.now_ms())

    async def sleep_ms(self, delay_ms: float) -> None:
        await self._clock.sleep_ms(delay_ms / self._rate)

    def call_later_ms(self, delay_ms: float, callback: Callable[[], None]) -> Timer:
        return self._clock.call_later_ms(delay_ms / self._rate, callback)
