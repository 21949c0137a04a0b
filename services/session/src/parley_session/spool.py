"""The spool: session facts on disk until Kafka has them, through the same outbox the other services use.

A conversation never waits for it: facts enter a bounded memory queue, one task writes them in batches, a
relay publishes them. While Kafka is away they stay on disk; when that is full the oldest turn facts go.

Law: session.ended is never dropped.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import MetaData, delete, func, select

from parley_common.contracts.record import Fact, fact_record
from parley_common.contracts.sessions import SessionEnded
from parley_common.db import Database
from parley_common.kafka import Publisher
from parley_common.outbox import Outbox, Relay, outbox_row, outbox_tables
from parley_common.telemetry import Counter

MEMORY_MAX = 10_000
BATCH_MAX = 200
LINGER_S = 0.05
SESSIONS_REMEMBERED_MAX = 50_000
"""Of those that have written last: many times more than run here while one session says nothing."""

log = structlog.get_logger("spool")
DROPPED = Counter("parley_session_facts_dropped", "Session facts dropped because the spool was full")


@dataclass(frozen=True, slots=True)
class Spooled:
    """A fact on its way to disk."""

    fact: Fact
    at: datetime
    fact_id: str | None
    traceparent: str | None


class Spool:
    """One replica's facts. ``record`` never waits and never raises."""

    def __init__(self, folder: Path, replica: str, publisher: Publisher, *, facts_max: int) -> None:
        self._metadata = MetaData()
        self._tables = outbox_tables(self._metadata)
        self._database = Database(f"sqlite:///{folder / f'{replica}.db'}", schema=replica)
        self._outbox = Outbox(self._tables, source="session")
        self._relay = Relay(self._database, self._tables, publisher.publish, name=replica)
        self._outbox.on_commit(self._relay.wake)
        self._facts_max = facts_max
        self._memory: asyncio.Queue[Spooled] = asyncio.Queue()
        self._seqs: dict[str, int] = {}
        """Of the newest fact of each session; the session that was last written is last."""
        self._rows = 0

    def record(
        self, fact: Fact, *, at: datetime, fact_id: str | None = None, traceparent: str | None = None
    ) -> None:
        """Take a fact; a full memory drops it and counts it, unless it ends its session."""
        if self._memory.qsize() >= MEMORY_MAX and not isinstance(fact, SessionEnded):
            DROPPED.inc()
            return
        self._memory.put_nowait(Spooled(fact, at, fact_id, traceparent))

    async def run(self, stop: asyncio.Event) -> None:
        """Write and publish until ``stop``, then write and publish what is left."""
        async with self._database.engine.begin() as connection:
            await connection.run_sync(self._metadata.create_all)
        relay_stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._relay.run(relay_stop))
            await self._write(stop)
            relay_stop.set()
            self._relay.wake()
        await self._database.aclose()

    async def _write(self, stop: asyncio.Event) -> None:
        while True:
            batch = await self._next_batch(stop)
            if not batch:
                return
            async with self._database.begin() as session:
                await self._outbox.add_rows(session, [self._row(spooled) for spooled in batch])
            await self._make_room(len(batch))

    def _row(self, spooled: Spooled) -> dict[str, Any]:
        record = fact_record(
            spooled.fact,
            source="session",
            time=spooled.at,
            fact_id=spooled.fact_id,
            traceparent=spooled.traceparent,
        )
        key = spooled.fact.key
        # A session lives and dies in this process, so its facts are numbered here; the newest sessions are remembered.
        seq = self._seqs[key] = self._seqs.pop(key, 0) + 1
        if len(self._seqs) > SESSIONS_REMEMBERED_MAX:
            del self._seqs[next(iter(self._seqs))]
        return outbox_row(record, aggregate_id=key, seq=seq, now=spooled.at)

    async def _next_batch(self, stop: asyncio.Event) -> list[Spooled]:
        """Wait for facts; an empty batch means that all is written and ``stop`` is set."""
        while self._memory.empty():
            if stop.is_set():
                return []
            try:
                async with asyncio.timeout(0.25):
                    first = await self._memory.get()
            except TimeoutError:
                continue
            # Facts of other sessions that come in this moment share its transaction.
            with suppress(TimeoutError):
                async with asyncio.timeout(LINGER_S):
                    await stop.wait()
            return [first, *self._taken(BATCH_MAX - 1)]
        return self._taken(BATCH_MAX)

    def _taken(self, most: int) -> list[Spooled]:
        return [self._memory.get_nowait() for _ in range(min(most, self._memory.qsize()))]

    async def _make_room(self, added: int) -> None:
        """Count roughly, look exactly only when the count says full."""
        self._rows += added
        if self._rows < self._facts_max:
            return
        rows = self._tables.rows
        async with self._database.begin() as session:
            await session.execute(delete(rows).where(rows.c.sent_at.is_not(None)))
            unsent = (await session.execute(select(func.count()).select_from(rows))).scalar_one()
            excess = unsent - self._facts_max
            if excess > 0:
                ended = SessionEnded.fact_type.encode()
                candidates = (
                    await session.execute(select(rows.c.id, rows.c.headers).order_by(rows.c.id))
                ).all()
                ids = [row.id for row in candidates if dict(row.headers)["ce_type"].encode() != ended][
                    :excess
                ]
                await session.execute(delete(rows).where(rows.c.id.in_(ids)))
                DROPPED.inc(len(ids))
                log.error("spool.full", dropped=len(ids))
        self._rows = min(unsent, self._facts_max)
