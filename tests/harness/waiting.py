"""Waits for something to become true, with a deadline and a sentence for the day it does not.

It deliberately offers no bare sleep: a test that waits names what it waits for.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar, overload

T = TypeVar("T")

FIRST_PAUSE_S = 0.002
LONGEST_PAUSE_S = 0.05


@overload
async def until(predicate: Callable[[], Awaitable[T]], deadline_s: float = 5.0, why: str = "") -> T: ...
@overload
async def until(predicate: Callable[[], T], deadline_s: float = 5.0, why: str = "") -> T: ...
async def until(predicate: Callable[[], Any], deadline_s: float = 5.0, why: str = "") -> Any:
    """Return the first truthy value of ``predicate``, sync or async.

    Raises:
        AssertionError: ``deadline_s`` passed; the message has ``why`` and the last value seen. What the
            predicate itself raises goes straight through.
    """
    last: Any = "nothing: the predicate never returned"
    try:
        async with asyncio.timeout(deadline_s) as limit:
            for pause_s in _pauses():
                answer = predicate()
                last = await answer if inspect.isawaitable(answer) else answer
                if last:
                    return last
                await asyncio.sleep(pause_s)
    except TimeoutError:
        if not limit.expired():
            raise
    raise AssertionError(_complaint(deadline_s, why, last))


def until_blocking(predicate: Callable[[], T], deadline_s: float = 5.0, why: str = "") -> T:
    """Do what ``until`` does, for code without an event loop (session fixtures, start-up of brokers)."""
    ends = time.monotonic() + deadline_s
    for pause_s in _pauses():
        last = predicate()
        if last:
            return last
        if time.monotonic() >= ends:
            raise AssertionError(_complaint(deadline_s, why, last))
        time.sleep(pause_s)
    raise AssertionError("unreachable: pauses have no end")


def _pauses() -> Iterator[float]:
    pause_s = FIRST_PAUSE_S
    while True:
        yield pause_s
        pause_s = min(pause_s * 1.5, LONGEST_PAUSE_S)


def _complaint(deadline_s: float, why: str, last: object) -> str:
    return f"waited {deadline_s:g} s in vain for: {why or 'the predicate'}; last value: {last!r}"
