"""Runs accepted calls side by side: each tool has its own lanes, each business its turn in them.

It decides only when a call may start. What a call does is the handler's matter; the handler may ask to be
called again for the same item later, outside its lane.

Law: one slow tool never delays another, and one busy business never starves another.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, TypeVar

import structlog

from parley_tools.meters import IN_FLIGHT

T = TypeVar("T")
Leave = Callable[[], None]
Handler = Callable[[T, Leave], Awaitable[float | None]]
"""Returns null when done, or after how many seconds it wants the item again. It may leave its lane before that: what is
left to do then, such as answering, keeps nobody from starting.
"""

log = structlog.get_logger("dispatch")


class FairQueue(Generic[T]):
    """First in, first out within a key; keys take turns."""

    def __init__(self) -> None:
        self._by_key: OrderedDict[str, deque[T]] = OrderedDict()

    def put(self, key: str, item: T) -> None:
        """Add an item at the end of its key's line."""
        self._by_key.setdefault(key, deque()).append(item)

    def take(self) -> T:
        """Return the next item of the key whose turn it is. Raises KeyError when there is none."""
        key, line = self._by_key.popitem(last=False)
        item = line.popleft()
        if line:
            self._by_key[key] = line
        return item

    def __bool__(self) -> bool:
        return bool(self._by_key)


@dataclass(frozen=True, slots=True)
class _Job(Generic[T]):
    tool: str
    business: str
    item: T


class _Lanes(Generic[T]):
    """One tool: how many of its calls run, and which wait."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.running = 0
        self.waiting: FairQueue[_Job[T]] = FairQueue()


class Dispatcher(Generic[T]):
    """Accepts items at once and runs them in the lanes of their tool. Use inside ``async with``.

    The bound on what it holds is the consumer's: it stops accepting at an ``in_flight`` of its choosing.
    """

    def __init__(self, handle: Handler[T], *, limit_of: Callable[[str], int]) -> None:
        self._handle = handle
        self._limit_of = limit_of
        self._lanes: dict[str, _Lanes[T]] = {}
        self._express = _Lanes[T](sys.maxsize)
        self._tasks: set[asyncio.Task[None]] = set()
        self._group = asyncio.TaskGroup()
        self._in_flight = 0
        self._held = Counter[str]()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def in_flight(self) -> int:
        """How many items were accepted and are not done."""
        return self._in_flight

    def held(self, business: str) -> int:
        """How many items of one business were accepted and are not done."""
        return self._held[business]

    async def __aenter__(self) -> Dispatcher[T]:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._group.__aexit__(kind, error, trace)

    def submit(self, tool: str, business: str, item: T, *, at_once: bool = False) -> None:
        """Take an item in; it starts now, or when a lane of its tool is free and its business has its turn.

        ``at_once`` passes the lanes by: for what only changes something about an item that runs already.
        """
        self._count(1, business)
        job = _Job(tool, business, item)
        if at_once:
            self._express.waiting.put(business, job)
            self._start(self._express)
        else:
            self._line_up(job)

    async def drain(self, within_s: float) -> int:
        """Wait for what was accepted; drop what is left after ``within_s``. Returns how many were dropped."""
        try:
            await asyncio.wait_for(self._idle.wait(), within_s)
        except TimeoutError:
            dropped = self._in_flight
            for lanes in self._lanes.values():
                lanes.waiting = FairQueue()
            for task in list(self._tasks):
                task.cancel()
            return dropped
        return 0

    def _count(self, by: int, business: str) -> None:
        self._in_flight += by
        self._held[business] += by
        if not self._held[business]:
            del self._held[business]
        IN_FLIGHT.set(self._in_flight)
        if self._in_flight:
            self._idle.clear()
        else:
            self._idle.set()

    def _line_up(self, job: _Job[T]) -> None:
        lanes = self._lanes.get(job.tool)
        if lanes is None:
            lanes = self._lanes[job.tool] = _Lanes(self._limit_of(job.tool))
        lanes.waiting.put(job.business, job)
        self._start(lanes)

    def _start(self, lanes: _Lanes[T]) -> None:
        while lanes.waiting and lanes.running < lanes.limit:
            lanes.running += 1
            task = self._group.create_task(self._run(lanes, lanes.waiting.take()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, lanes: _Lanes[T], job: _Job[T]) -> None:
        try:
            again_s = await self._in_lane(lanes, job)
            if again_s is not None:
                await asyncio.sleep(again_s)
        except BaseException:
            self._count(-1, job.business)
            raise
        if again_s is None:
            self._count(-1, job.business)
        else:
            self._line_up(job)

    async def _in_lane(self, lanes: _Lanes[T], job: _Job[T]) -> float | None:
        is_in_lane = True

        def leave() -> None:
            nonlocal is_in_lane
            if is_in_lane:
                is_in_lane = False
                lanes.running -= 1
                self._start(lanes)

        try:
            return await self._handle(job.item, leave)
        except Exception as wrong:  # noqa: BLE001 - a handler's bug must not end the other calls
            log.error("call.crashed", tool=job.tool, cause=type(wrong).__name__)
            return None
        finally:
            leave()
