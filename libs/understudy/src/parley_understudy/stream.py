"""What leaves for one client: in order, held back where a script delays it, and nothing after an ending.

It knows frames by their kind only. What is late by itself (a transcript) does not hold back the rest.

Law: the stream keeps its order; what is said to the program inside (jobs) does not wait in it.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque

from parley_understudy.wire import Close, FallSilent, Out, Vanish


class Stream:
    """Frames on their way."""

    def __init__(self, now_ms: float) -> None:
        self.ending: Out | None = None
        self._result: list[Out] = []
        self._blocked_until_ms = now_ms
        self._waiting: deque[tuple[float, Out]] = deque()
        self._late: list[tuple[float, int, Out]] = []
        self._numbers = itertools.count()

    def hand_in(self, outs: list[Out]) -> None:
        """Take what is for the program itself; nobody works for a session that has ended."""
        if self.ending is None:
            self._result += outs

    def leave(self, out: Out, now_ms: float) -> None:
        """Put a frame at the stream's end; it waits while what is before it waits."""
        self._waiting.append((max(self._blocked_until_ms, now_ms), out))

    def leave_alone(self, out: Out, at_ms: float) -> None:
        """Send a frame at a time of its own, past those that wait."""
        heapq.heappush(self._late, (at_ms, next(self._numbers), out))

    def block(self, duration_ms: float, now_ms: float) -> None:
        """Hold the stream's end back, on top of what holds it back already."""
        self._blocked_until_ms = max(self._blocked_until_ms, now_ms) + duration_ms

    def due_ms(self) -> float | None:
        """Return when something may leave next; None when nothing waits or nothing ever will."""
        if self.ending is not None:
            return None
        times = [queue[0][0] for queue in (self._waiting, self._late) if queue]
        return min(times, default=None)

    def take(self, now_ms: float) -> list[Out]:
        """Return what may leave by now, once."""
        while self._waiting and self._waiting[0][0] <= now_ms:
            self._release(self._waiting.popleft()[1])
        while self._late and self._late[0][0] <= now_ms:
            self._release(heapq.heappop(self._late)[2])
        result, self._result = self._result, []
        return result

    def _release(self, out: Out) -> None:
        if self.ending is not None:
            return
        self._result.append(out)
        if isinstance(out, Close | Vanish | FallSilent):
            self.ending = out
