"""The outbox: facts written with the data they are about, and the relay that publishes them in order.

A row belongs to an aggregate (a lead, a case, a session) and has the next ``seq`` of it, taken under a lock
that lasts until commit; so rows of one aggregate get ids in the order of their seq and become visible in that
order. The relay publishes the rows of one aggregate one after the other, each after its predecessor's
acknowledgement, different aggregates side by side.

Law: at least once, in order per key; a row is marked only after the broker acknowledged it.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

import structlog
from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    delete,
    event,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from parley_common.contracts.record import Fact, Record, fact_record
from parley_common.db import Database
from parley_common.errors import DependencyUnavailable
from parley_common.telemetry import Gauge, current_traceparent

SHARDS = 16
"""Hash shards that relays share out by advisory lock; more relays than this are idle."""
BATCH_ROWS = 200
SENT_KEPT_H = 24

log = structlog.get_logger("outbox")
Publish = Callable[[Record], Awaitable[None]]

OUTBOX_AGE_S = Gauge("parley_outbox_age_s", "Age of the oldest unsent fact", ["outbox"])
OUTBOX_UNSENT = Gauge("parley_outbox_unsent_count", "Facts not yet acknowledged by the broker", ["outbox"])


@dataclass(frozen=True, slots=True)
class OutboxTables:
    """The two tables of an outbox, in a service's own metadata."""

    rows: Table
    heads: Table


def outbox_tables(metadata: MetaData) -> OutboxTables:
    """Declare the outbox tables in ``metadata``; a service's migration creates them."""
    rows = Table(
        "outbox",
        metadata,
        Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
        Column("aggregate_id", String(128), nullable=False),
        Column("seq", Integer, nullable=False),
        Column("shard", Integer, nullable=False),
        Column("topic", String(200), nullable=False),
        Column("key", LargeBinary, nullable=False),
        Column("value", LargeBinary, nullable=True),
        Column("headers", JSON, nullable=False),
        Column("created_at", DateTime(timezone=True), nullable=False),
        Column("sent_at", DateTime(timezone=True), nullable=True),
        UniqueConstraint("aggregate_id", "seq", name="uq_outbox_aggregate_seq"),
        Index("ix_outbox_unsent", "sent_at", "id"),
    )
    heads = Table(
        "outbox_heads",
        metadata,
        Column("aggregate_id", String(128), primary_key=True),
        Column("last_seq", Integer, nullable=False),
    )
    return OutboxTables(rows, heads)


class Outbox:
    """Where a service writes its facts, inside its own unit of work.

    Ordering: ``next_seq`` before building the fact (facts carry their seq), then ``add``, in one transaction.
    """

    def __init__(self, tables: OutboxTables, *, source: str) -> None:
        self._tables = tables
        self._source = source
        self._listeners: list[Callable[[], None]] = []

    def on_commit(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` after each commit that added facts; a relay registers itself here."""
        self._listeners.append(wake)

    async def next_seq(self, session: AsyncSession, aggregate_id: str) -> int:
        """Take the next seq of an aggregate and hold its lock until the transaction ends."""
        heads = self._tables.heads
        insert = sqlite_insert if session.get_bind().dialect.name == "sqlite" else pg_insert
        statement = (
            insert(heads)
            .values(aggregate_id=aggregate_id, last_seq=1)
            .on_conflict_do_update(index_elements=["aggregate_id"], set_={"last_seq": heads.c.last_seq + 1})
            .returning(heads.c.last_seq)
        )
        return int((await session.execute(statement)).scalar_one())

    async def add(
        self, session: AsyncSession, fact: Fact, *, seq: int, now: datetime, fact_id: str | None = None
    ) -> str:
        """Write a fact; it goes out after commit. Returns its ``ce_id``."""
        record = fact_record(
            fact, source=self._source, time=now, fact_id=fact_id, traceparent=current_traceparent()
        )
        await self.add_record(session, record, aggregate_id=fact.key, seq=seq, now=now)
        return dict(record.headers)["ce_id"].decode()

    async def add_record(
        self, session: AsyncSession, record: Record, *, aggregate_id: str, seq: int, now: datetime
    ) -> None:
        """Write a record that is already made."""
        await session.execute(
            self._tables.rows.insert().values(
                aggregate_id=aggregate_id,
                seq=seq,
                shard=shard_of(aggregate_id),
                topic=record.topic,
                key=record.key,
                value=record.value,
                headers=[[name, value.decode()] for name, value in record.headers],
                created_at=now,
            )
        )
        event.listen(session.sync_session, "after_commit", self._after_commit, once=True)

    def _after_commit(self, _session: Any) -> None:
        for wake in self._listeners:
            wake()


class Relay:
    """Publishes an outbox. Run one per process; on PostgreSQL they share the shards by advisory lock."""

    def __init__(
        self, database: Database, tables: OutboxTables, publish: Publish, *, name: str, poll_ms: int = 1_000
    ) -> None:
        self._database = database
        self._rows = tables.rows
        self._publish = publish
        self._name = name
        self._poll_ms = poll_ms
        self._wake = asyncio.Event()
        self._next_prune = datetime.min.replace(tzinfo=UTC)

    def wake(self) -> None:
        """Look for unsent rows now rather than at the next poll."""
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until ``stop``, then once more, so that a graceful stop leaves nothing that could be sent."""
        backoff_ms = 0
        while not stop.is_set():
            try:
                async with self._database.engine.connect() as owner:
                    await self._run_as_owner(owner, stop)
            except (DependencyUnavailable, OSError, TimeoutError) as wrong:
                backoff_ms = min(10_000, max(250, backoff_ms * 2))
                log.warning(
                    "outbox.waiting", outbox=self._name, cause=type(wrong).__name__, backoff_ms=backoff_ms
                )
                await _sleep_or_stop(stop, backoff_ms)
            except Exception as wrong:  # noqa: BLE001 - the database driver's own errors: the relay must outlive them
                backoff_ms = min(10_000, max(250, backoff_ms * 2))
                log.error(
                    "outbox.failed", outbox=self._name, cause=type(wrong).__name__, backoff_ms=backoff_ms
                )
                await _sleep_or_stop(stop, backoff_ms)

    async def _run_as_owner(self, owner: AsyncConnection, stop: asyncio.Event) -> None:
        """Hold the shard locks on ``owner`` (they are freed with its connection) and publish what they cover."""
        if not self._database.is_sqlite:
            owner = await owner.execution_options(isolation_level="AUTOCOMMIT")
        held: tuple[int, ...] = ()
        while True:
            last = stop.is_set()
            self._wake.clear()
            held = await self._claim(owner, held)
            sent = await self.publish_batch(held)
            if last:
                return
            if sent < BATCH_ROWS:
                await self._prune()
                await self._wait(stop)

    async def _claim(self, owner: AsyncConnection, held: tuple[int, ...]) -> tuple[int, ...]:
        if self._database.is_sqlite:
            return tuple(range(SHARDS))
        claimed = list(held)
        for shard in range(SHARDS):
            if shard not in held:
                query = text("SELECT pg_try_advisory_lock(:space, :shard)")
                space = zlib.crc32(f"outbox:{self._database.schema}".encode()) & 0x7FFFFFFF
                if (await owner.execute(query, {"space": space, "shard": shard})).scalar_one():
                    claimed.append(shard)
        if held and len(claimed) == len(held):
            await owner.execute(
                text("SELECT 1")
            )  # a lost connection has lost its locks: find out before publishing
        return tuple(claimed)

    async def publish_batch(self, shards: Sequence[int]) -> int:
        """Publish the oldest unsent rows of ``shards``; returns how many the broker acknowledged."""
        rows = self._rows
        async with self._database.begin() as session:
            query = (
                select(rows)
                .where(rows.c.sent_at.is_(None), rows.c.shard.in_(list(shards)))
                .order_by(rows.c.id)
                .limit(BATCH_ROWS)
            )
            batch = (await session.execute(query)).mappings().all()
        self._measure(batch)
        if not batch:
            return 0
        by_aggregate = groupby(
            sorted(batch, key=lambda row: (row["aggregate_id"], row["seq"])), lambda row: row["aggregate_id"]
        )
        results = await asyncio.gather(*(self._publish_in_order(list(group)) for _, group in by_aggregate))
        sent = [row_id for ids, _ in results for row_id in ids]
        if sent:
            async with self._database.begin() as session:
                await session.execute(update(rows).where(rows.c.id.in_(sent)).values(sent_at=func.now()))
        for _, wrong in results:
            if wrong is not None:
                raise wrong
        return len(sent)

    async def _publish_in_order(self, rows: Sequence[Any]) -> tuple[list[int], Exception | None]:
        sent: list[int] = []
        for row in rows:
            headers = tuple((name, value.encode()) for name, value in row["headers"])
            try:
                await self._publish(Record(row["topic"], bytes(row["key"]), row["value"], headers))
            except DependencyUnavailable as wrong:
                return sent, wrong  # what follows in this aggregate waits for this one
            sent.append(row["id"])
        return sent, None

    def _measure(self, batch: Sequence[Any]) -> None:
        OUTBOX_UNSENT.labels(self._name).set(len(batch))
        oldest = min((_aware(row["created_at"]) for row in batch), default=None)
        OUTBOX_AGE_S.labels(self._name).set((datetime.now(UTC) - oldest).total_seconds() if oldest else 0)

    async def _prune(self) -> None:
        now = datetime.now(UTC)
        if now < self._next_prune:
            return
        self._next_prune = now + timedelta(minutes=10)
        async with self._database.begin() as session:
            old = self._rows.c.sent_at < now - timedelta(hours=SENT_KEPT_H)
            await session.execute(delete(self._rows).where(old))

    async def _wait(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            waits = [group.create_task(self._wake.wait()), group.create_task(stop.wait())]
            await asyncio.wait(waits, timeout=self._poll_ms / 1000, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()


def shard_of(aggregate_id: str) -> int:
    """Return the shard of an aggregate: the same in every process and release."""
    return zlib.crc32(aggregate_id.encode()) % SHARDS


def _aware(moment: datetime) -> datetime:
    """SQLite hands times back without their zone; we only ever store UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


async def _sleep_or_stop(stop: asyncio.Event, delay_ms: int) -> None:
    try:
        await asyncio.wait_for(stop.wait(), delay_ms / 1000)
    except TimeoutError:
        return
