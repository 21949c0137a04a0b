"""Keeps time: a periodic kernel timer on the event loop, far finer than the loop's own milliseconds.

Each tick is due at ``begin + k * interval`` whatever happened before: a tick that comes late is made up for at once,
never left out. How late ticks come is kept, because a late generator measures itself.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from array import array
from collections.abc import Callable

from load.bench.stamps import now_us

FRAME_US = 20_000
SLOTS_MAX = 40
"""Ticks of one frame's time: callers are spread over them, 500 us apart."""
_CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC, _ABSOLUTE = 1, 0o4000 | 0o2000000, 1


class _Timespec(ctypes.Structure):
    _fields_ = [("s", ctypes.c_long), ("ns", ctypes.c_long)]


class _TimerSpec(ctypes.Structure):
    _fields_ = [("interval", _Timespec), ("first", _Timespec)]


def _timer(first_us: int, interval_us: int) -> int:
    """Return a descriptor that becomes readable at ``first_us`` and every ``interval_us`` after it. Linux only."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC)
    spec = _TimerSpec(
        _Timespec(*divmod(interval_us * 1000, 10**9)), _Timespec(*divmod(first_us * 1000, 10**9))
    )
    if descriptor < 0 or libc.timerfd_settime(descriptor, _ABSOLUTE, ctypes.byref(spec), None):
        raise OSError(ctypes.get_errno(), "no timer can be had")
    return descriptor


class Pacer:
    """Calls ``on_slot(slot)`` for each of ``SLOTS_MAX`` slots of every 20 ms, until ``close``."""

    def __init__(self, on_slot: Callable[[int], None]) -> None:
        self.late_us = array("I")
        """How late each tick came since the last ``take_late_us``."""
        self._on_slot = on_slot
        self._interval_us = FRAME_US // SLOTS_MAX
        self._begin_us = now_us() + self._interval_us
        self._done = 0
        self._descriptor = _timer(self._begin_us, self._interval_us)
        asyncio.get_running_loop().add_reader(self._descriptor, self._ticked)

    def _ticked(self) -> None:
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:
            return
        now = now_us()
        due = (now - self._begin_us) // self._interval_us + 1
        while self._done < due:
            self.late_us.append(max(0, now_us() - self._begin_us - self._done * self._interval_us))
            self._on_slot(self._done % SLOTS_MAX)
            self._done += 1

    def take_late_us(self) -> array[int]:
        """Return how late ticks came since this was last asked."""
        late, self.late_us = self.late_us, array("I")
        return late

    def close(self) -> None:
        """Tick no more."""
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)


def share_of(values: array[int], q: float) -> int:
    """Return the ``q`` quantile; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * q))] if ordered else 0
