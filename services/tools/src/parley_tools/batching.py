"""Does together what many calls ask for at the same time: one transaction, one commit, for all of them.

Nobody waits for a batch to fill: what comes while one is under way is the next one. So an idle service does each thing
at once, and a busy one does many for the price of a few.

Law: everybody who asked gets the outcome of their own item, or the error of the batch it was in.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from parley_common.errors import DependencyUnavailable

T = TypeVar("T")
R = TypeVar("R")


class Batcher(Generic[T, R]):
    """Gathers items while a batch is being done. It has no task of its own: whoever waits longest does the work."""

    def __init__(self, perform: Callable[[Sequence[T]], Awaitable[Sequence[R]]], *, items_max: int) -> None:
        self._perform = perform
        self._items_max = items_max
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._turn = asyncio.Lock()

    async def do(self, item: T) -> R:
        """Have ``item`` done with others; returns its own outcome.

        Raises what ``perform`` raises, and DependencyUnavailable when whoever did the batch was cancelled in it.
        """
        outcome: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        entry = (item, outcome)
        self._waiting.append(entry)
        try:
            async with self._turn:
                if not outcome.done():
                    await self._do_next(outcome)
        except asyncio.CancelledError:
            if entry in self._waiting:
                self._waiting.remove(entry)
            outcome.cancel()
            raise
        return await outcome

    async def _do_next(self, own: asyncio.Future[R]) -> None:
        """Do the oldest items, among which is the one of whoever has the turn."""
        await asyncio.sleep(0)  # who is about to ask in this very moment comes along
        count = min(self._items_max, len(self._waiting))
        batch = [self._waiting.popleft() for _ in range(count)]
        try:
            outcomes = await self._perform([item for item, _ in batch])
        except asyncio.CancelledError:
            interrupted = DependencyUnavailable("a batch was interrupted")
            _fail([each for _, each in batch if each is not own], interrupted)
            raise
        except Exception as wrong:  # noqa: BLE001 - raised by each who asked, where it is decided
            _fail([each for _, each in batch], wrong)
        else:
            for (_, each), outcome in zip(batch, outcomes, strict=True):
                if not each.done():
                    each.set_result(outcome)


def _fail(futures: Sequence[asyncio.Future[R]], wrong: Exception) -> None:
    for each in futures:
        if not each.done():
            each.set_exception(wrong)
