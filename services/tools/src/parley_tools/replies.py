"""Publishes results, each to the partition and replica of the attempt that waits for it.

Law: a result is tried until its attempt's deadline; after that the stored result answers the next attempt.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from parley_common.clock import Clock
from parley_common.contracts.record import Record
from parley_common.errors import DependencyUnavailable, InvalidRecord
from parley_common.telemetry import current_traceparent
from parley_tools.calls import Address
from parley_tools.meters import UNANSWERED
from parley_tools.outcomes import result_record

FIRST_BACKOFF_MS = 50
BACKOFF_MAX_MS = 1_000

log = structlog.get_logger("replies")


class Replies:
    """Where answers go out."""

    def __init__(self, publish: Callable[[Record], Awaitable[None]], clock: Clock, *, source: str) -> None:
        self._publish = publish
        self._clock = clock
        self._source = source

    async def send(self, key: tuple[str, str], tool: str, stored: dict[str, Any], address: Address) -> bool:
        """Publish one result; returns False when its deadline passed first. Always tries once."""
        record = result_record(
            key,
            tool,
            stored,
            address,
            source=self._source,
            now=self._clock.now(),
            traceparent=current_traceparent(),
        )
        backoff_ms = FIRST_BACKOFF_MS
        while True:
            try:
                await self._publish(record)
            except DependencyUnavailable:
                left_ms = (address.answer_by - self._clock.now()).total_seconds() * 1000
                if left_ms <= 0:
                    return self._given_up(tool, "deadline")
                await self._clock.sleep_ms(min(backoff_ms, left_ms))
                backoff_ms = min(2 * backoff_ms, BACKOFF_MAX_MS)
            except InvalidRecord:
                return self._given_up(tool, "too_large")
            else:
                return True

    def _given_up(self, tool: str, cause: str) -> bool:
        UNANSWERED.labels(cause).inc()
        log.warning("result.unpublished", tool=tool, cause=cause)
        return False
