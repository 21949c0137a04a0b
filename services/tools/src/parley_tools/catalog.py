"""Announces this instance's tools every few seconds and when they change, and takes the announcement back when it drains.

Law: whoever reads the catalog learns of a new tool within 5 s and of a lost one within 15 s, or at once on drain.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from parley_common.clock import Clock
from parley_common.contracts.record import Envelope, Record, to_json
from parley_common.contracts.tool_calls import (
    ANNOUNCE_EVERY_S,
    ANNOUNCEMENT_TYPE,
    Announcement,
    ToolSpec,
)
from parley_common.contracts.topics import TOOL_CATALOG, tool_calls_topic
from parley_common.errors import DependencyUnavailable
from parley_common.ids import new_id

TAKE_BACK_S = 2
"""A broker that is away must not hold up a stop; readers forget us after ANNOUNCEMENT_DEAD_AFTER_S anyway."""

log = structlog.get_logger("catalog")


class Announcer:
    """Speaks for one instance."""

    def __init__(
        self,
        publish: Callable[[Record], Awaitable[None]],
        clock: Clock,
        specs: Callable[[], tuple[ToolSpec, ...]],
        *,
        service: str,
        instance: str,
    ) -> None:
        self._publish = publish
        self._clock = clock
        self._specs = specs
        self._changed = asyncio.Event()
        self._service = service
        self._instance = instance

    def announce_now(self) -> None:
        """Say at once what there is now: tools came or went."""
        self._changed.set()

    def announcement(self) -> Announcement:
        """Return what is announced now."""
        return Announcement(
            service=self._service,
            instance=self._instance,
            calls_topic=tool_calls_topic(self._service).name,
            tools=self._specs(),
            announced_at=self._clock.now(),
        )

    async def run(self, stop: asyncio.Event, on_ready: Callable[[bool, str], None]) -> None:
        """Announce until ``stop``, then take it back."""
        while not stop.is_set():
            try:
                await self._send(self.announcement(), is_tombstone=False)
            except DependencyUnavailable as away:
                on_ready(False, str(away))
            else:
                on_ready(True, "")
            await self._wait(stop)
        await self._take_back()

    async def _wait(self, stop: asyncio.Event) -> None:
        """Wait until it is time again, something changed, or the end."""
        async with asyncio.TaskGroup() as group:
            waits = [group.create_task(stop.wait()), group.create_task(self._changed.wait())]
            await asyncio.wait(waits, timeout=ANNOUNCE_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
        self._changed.clear()

    async def _take_back(self) -> None:
        try:
            async with asyncio.timeout(TAKE_BACK_S):
                await self._send(self.announcement(), is_tombstone=True)
        except (DependencyUnavailable, TimeoutError):
            log.warning("catalog.not_taken_back", instance=self._instance)

    async def _send(self, announced: Announcement, *, is_tombstone: bool) -> None:
        envelope = Envelope(
            id=new_id(),
            type=ANNOUNCEMENT_TYPE,
            source=f"/parley/{self._service}",
            time=announced.announced_at,
            subject=announced.key,
        )
        value = None if is_tombstone else to_json(announced)
        await self._publish(Record(TOOL_CATALOG.name, announced.key.encode(), value, envelope.headers()))
