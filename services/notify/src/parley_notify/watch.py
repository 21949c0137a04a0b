"""Keeps an eye on the database: readiness, the size and age of the backlog, and what is old enough to go."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import structlog

from parley_common.clock import Clock
from parley_common.errors import DependencyUnavailable
from parley_common.service import Readiness
from parley_common.telemetry import Gauge
from parley_notify.deliveries import Deliveries

LOOK_EVERY_S = 5.0
LOOK_WHILE_AWAY_S = 0.5
PRUNE_EVERY = timedelta(hours=1)

log = structlog.get_logger("watch")

PENDING = Gauge("parley_deliveries_pending_count", "Deliveries not yet finished", ["channel"])
OLDEST_S = Gauge("parley_delivery_oldest_pending_age_s", "Age of the oldest unfinished delivery", ["channel"])


class Watch:
    """Looks at one database at intervals."""

    def __init__(
        self,
        deliveries: Deliveries,
        readiness: Readiness,
        *,
        channels: tuple[str, ...],
        kept_days: int,
        clock: Clock,
    ) -> None:
        self._deliveries = deliveries
        self._readiness = readiness
        self._channels = channels
        self._kept_days = kept_days
        self._clock = clock
        self._prune_at = clock.now()

    async def wait_until_migrated(self, stop: asyncio.Event) -> bool:
        """Return True once the tables are there; False when ``stop`` came first."""
        while not stop.is_set():
            try:
                if await self._deliveries.is_migrated():
                    self._readiness.set("database", True)
                    return True
                self._away("its tables are missing: run `parley migrate`")
            except DependencyUnavailable as wrong:
                self._away(str(wrong))
            await _wait(stop, LOOK_WHILE_AWAY_S)
        return False

    async def run(self, stop: asyncio.Event) -> None:
        """Look until ``stop``; the database's own errors are shown, never raised."""
        while not stop.is_set():
            try:
                await self._look()
            except DependencyUnavailable as wrong:
                self._away(str(wrong))
            except Exception as wrong:  # noqa: BLE001 - numbers are not worth a service
                log.error("watch.failed", cause=type(wrong).__name__)
            ready = "database" not in self._readiness.waiting_for
            await _wait(stop, LOOK_EVERY_S if ready else LOOK_WHILE_AWAY_S)

    async def _look(self) -> None:
        now = self._clock.now()
        backlog = await self._deliveries.backlog(now)
        for channel in self._channels:
            count, oldest_s = backlog.get(channel, (0, 0.0))
            PENDING.labels(channel).set(count)
            OLDEST_S.labels(channel).set(oldest_s)
        self._readiness.set("database", True)
        if now >= self._prune_at:
            await self._deliveries.prune(now, self._kept_days)
            self._prune_at = now + PRUNE_EVERY

    def _away(self, why: str) -> None:
        if self._readiness.waiting_for.get("database") != why:
            log.warning("database.waiting", cause=why)
        self._readiness.set("database", False, why)


async def _wait(stop: asyncio.Event, delay_s: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), delay_s)
    except TimeoutError:
        return
