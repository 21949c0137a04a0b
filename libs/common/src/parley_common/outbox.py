"""The outbox: facts written with the data they are about, and the relay that publishes them in order.

A row belongs to an aggregate (a lead, a case, a session) and has the next ``seq`` of it, taken under a lock
that lasts until commit; so rows of one aggregate get ids in the order of their seq and become visible in that
order. The relay publishes the rows of one aggregate one after the other, each after its predecessor's
acknowledgement, different aggregates side by side.

A row that no broker will ever take blocks its own aggregate alone: it is logged, counted and tried again now
and then, for a limit may be raised.

Law: at least once, in order per key; a row is marked only after the broker acknowledged it.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
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
    bindparam,
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
from sqlalchemy.orm import Session

from parley_common.contracts.record import Fact, Headers, Record, fact_record
from parley_common.db import Database
from parley_common.errors import DependencyUnavailable, InvalidRecord
from parley_common.telemetry import (
    Counter,
    Gauge,
    Span,
    SpanKind,
    current_traceparent,
    mark_failed,
    start_span,
    traceparent_of,
)

SHARDS = 16
"""Hash shards that relays share out by advisory lock; more relays than this are idle."""
PRESENCE = SHARDS
"""Beside the shards' locks: each relay holds this one shared, so that they can count each other."""
REFUSED_RETRY_MS = 300_000
REFUSED_MAX = 1_000
"""Aggregates that are passed over because of a refused row; of more, the longest known are tried again."""
BATCH_ROWS = 200
SENT_KEPT_H = 24

log = structlog.get_logger("outbox")
Publish = Callable[[Record], Awaitable[None]]

OUTBOX_AGE_S = Gauge("parley_outbox_age_s", "Age of the oldest unsent fact", ["outbox"])
OUTBOX_UNSENT = Gauge(
    "parley_outbox_unsent_count", "Unsent facts in hand; a full batch means that more wait", ["outbox"]
)
OUTBOX_BLOCKED = Gauge(
    "parley_outbox_blocked_count",
    "Leads, cases and sessions whose facts wait behind a refused one",
    ["outbox"],
)
OUTBOX_REFUSED = Counter(
    "parley_outbox_refused", "Times a fact was refused as one no broker will take", ["outbox", "code"]
)


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


def outbox_row(record: Record, *, aggregate_id: str, seq: int, now: datetime) -> dict[str, Any]:
    """Return a record as a row of the outbox."""
    return {
        "aggregate_id": aggregate_id,
        "seq": seq,
        "shard": shard_of(aggregate_id),
        "topic": record.topic,
        "key": record.key,
        "value": record.value,
        "headers": [[name, value.decode()] for name, value in record.headers],
        "created_at": now,
    }


class Outbox:
    """Where a service writes its facts, inside its own unit of work.

    Ordering: ``next_seq`` before building the fact (facts carry their seq), then ``add``, in one transaction.
    """

    def __init__(self, tables: OutboxTables, *, source: str) -> None:
        self._insert = tables.rows.insert()
        self._next_seq = {
            name: insert(tables.heads)
            .values(aggregate_id=bindparam("aggregate_id"), last_seq=1)
            .on_conflict_do_update(
                index_elements=["aggregate_id"], set_={"last_seq": tables.heads.c.last_seq + 1}
            )
            .returning(tables.heads.c.last_seq)
            for name, insert in (("sqlite", sqlite_insert), ("postgresql", pg_insert))
        }
        self._source = source
        self._listeners: list[Callable[[], None]] = []

    def on_commit(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` after each commit that added facts; a relay registers itself here."""
        self._listeners.append(wake)

    async def next_seq(self, session: AsyncSession, aggregate_id: str) -> int:
        """Take the next seq of an aggregate and hold its lock until the transaction ends."""
        statement = self._next_seq[session.get_bind().dialect.name]
        return int((await session.execute(statement, {"aggregate_id": aggregate_id})).scalar_one())

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
        await self.add_rows(session, [outbox_row(record, aggregate_id=aggregate_id, seq=seq, now=now)])

    async def add_rows(self, session: AsyncSession, rows: Sequence[dict[str, Any]]) -> None:
        """Write records of one moment, as ``outbox_row`` makes them, by one statement."""
        await session.execute(self._insert, list(rows))
        event.listen(session.sync_session, "after_commit", self._after_commit)

    def _after_commit(self, session: Session) -> None:
        if session.in_nested_transaction():
            return  # a savepoint: nobody else can see its rows yet
        for wake in self._listeners:
            wake()


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of the rows of one aggregate: the ids acknowledged, and the error that ended it early."""

    sent: tuple[int, ...]
    aggregate_id: str
    wrong: Exception | None = None


class Relay:
    """Publishes an outbox. Run one per process; on PostgreSQL they share the shards by advisory lock."""

    def __init__(
        self,
        database: Database,
        tables: OutboxTables,
        publish: Publish,
        *,
        name: str,
        poll_ms: int = 1_000,
        refused_retry_ms: int = REFUSED_RETRY_MS,
    ) -> None:
        self._database = database
        self._rows = tables.rows
        self._publish = publish
        self._name = name
        self._poll_ms = poll_ms
        self._refused_retry = timedelta(milliseconds=refused_retry_ms)
        self._refused_until: dict[str, datetime] = {}
        self._backoff_ms = 0
        self._wake = asyncio.Event()
        self._next_prune = datetime.min.replace(tzinfo=UTC)

    def wake(self) -> None:
        """Look for unsent rows now rather than at the next poll."""
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until ``stop``, then once more, so that a graceful stop leaves nothing that could be sent."""
        while not stop.is_set():
            try:
                async with self._database.engine.connect() as owner:
                    await self._run_as_owner(owner, stop)
            except (DependencyUnavailable, OSError, TimeoutError) as wrong:
                log.warning("outbox.waiting", outbox=self._name, cause=type(wrong).__name__, **self._next())
                await _sleep_or_stop(stop, self._backoff_ms)
            except Exception as wrong:  # noqa: BLE001 - the database driver's own errors: the relay must outlive them
                log.error("outbox.failed", outbox=self._name, cause=type(wrong).__name__, **self._next())
                await _sleep_or_stop(stop, self._backoff_ms)

    def _next(self) -> dict[str, int]:
        self._backoff_ms = min(10_000, max(250, self._backoff_ms * 2))
        return {"backoff_ms": self._backoff_ms}

    async def _run_as_owner(self, owner: AsyncConnection, stop: asyncio.Event) -> None:
        """Hold the shard locks on ``owner`` and publish what they cover."""
        if self._database.is_sqlite:
            await self._publish_until(owner, stop)
            return
        try:
            await self._publish_until(await owner.execution_options(isolation_level="AUTOCOMMIT"), stop)
        finally:
            # Back in the pool, the idle connection would keep the locks and nobody could publish.
            await owner.invalidate()

    async def _publish_until(self, owner: AsyncConnection, stop: asyncio.Event) -> None:
        held: tuple[int, ...] = ()
        if not self._database.is_sqlite:
            await self._ask(owner, "SELECT pg_try_advisory_lock_shared(:space, :lock)", PRESENCE)
        while True:
            last = stop.is_set()
            self._wake.clear()
            held = await self._claim(owner, held)
            sent = await self.publish_batch(held)
            self._backoff_ms = 0
            if last:
                return
            if sent < BATCH_ROWS:
                await self._prune()
                await self._wait(stop)

    async def _claim(self, owner: AsyncConnection, held: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shards that are ours now: a fair share of them, given up and taken between batches only.

        A lost connection has lost its locks; it fails here, before anything is published.
        """
        if self._database.is_sqlite:
            return tuple(range(SHARDS))
        relays = await self._ask(owner, _COUNT_RELAYS, PRESENCE)
        share = -(-SHARDS // max(1, relays))
        for shard in held[share:]:
            await self._ask(owner, "SELECT pg_advisory_unlock(:space, :lock)", shard)
        claimed = list(held[:share])
        for shard in range(SHARDS):
            if len(claimed) >= share:
                break
            if shard not in held and await self._ask(
                owner, "SELECT pg_try_advisory_lock(:space, :lock)", shard
            ):
                claimed.append(shard)
        return tuple(claimed)

    async def _ask(self, owner: AsyncConnection, question: str, lock: int) -> int:
        space = zlib.crc32(f"outbox:{self._database.schema}".encode()) & 0x7FFFFFFF
        return int((await owner.execute(text(question), {"space": space, "lock": lock})).scalar_one())

    async def publish_batch(self, shards: Sequence[int]) -> int:
        """Publish the oldest unsent rows of ``shards``; returns how many the broker acknowledged.

        Whatever happens to one aggregate, what was acknowledged of it and of the others is marked.
        """
        batch = await self._oldest_unsent(shards)
        self._measure(batch)
        if not batch:
            return 0
        by_aggregate = groupby(
            sorted(batch, key=lambda row: (row["aggregate_id"], row["seq"])), lambda row: row["aggregate_id"]
        )
        outcomes = await asyncio.gather(
            *(self._publish_in_order(name, list(group)) for name, group in by_aggregate)
        )
        sent = [row_id for outcome in outcomes for row_id in outcome.sent]
        if sent:
            rows = self._rows
            async with self._database.begin() as session:
                await session.execute(update(rows).where(rows.c.id.in_(sent)).values(sent_at=func.now()))
        for outcome in outcomes:
            if isinstance(outcome.wrong, InvalidRecord):
                self._pass_over(outcome.aggregate_id, outcome.wrong)
        for outcome in outcomes:
            if outcome.wrong is not None and not isinstance(outcome.wrong, InvalidRecord):
                raise outcome.wrong
        return len(sent)

    async def _oldest_unsent(self, shards: Sequence[int]) -> Sequence[Any]:
        now = datetime.now(UTC)
        self._refused_until = {name: until for name, until in self._refused_until.items() if until > now}
        OUTBOX_BLOCKED.labels(self._name).set(len(self._refused_until))
        rows = self._rows
        query = (
            select(rows)
            .where(rows.c.sent_at.is_(None), rows.c.shard.in_(list(shards)))
            .order_by(rows.c.id)
            .limit(BATCH_ROWS)
        )
        if self._refused_until:  # else their rows, always the oldest, would fill every batch
            query = query.where(rows.c.aggregate_id.not_in(list(self._refused_until)))
        async with self._database.begin() as session:
            return (await session.execute(query)).mappings().all()

    async def _publish_in_order(self, aggregate_id: str, rows: Sequence[Any]) -> _Outcome:
        """Publish until something is not taken: what follows in this aggregate waits for it."""
        sent: list[int] = []
        for row in rows:
            span = _publish_span(row)
            try:
                await self._publish(
                    Record(row["topic"], bytes(row["key"]), row["value"], _headers(row, span))
                )
            except Exception as wrong:  # noqa: BLE001 - raised by publish_batch, once the marks are kept
                mark_failed(span, getattr(wrong, "stable_code", type(wrong).__name__))
                return _Outcome(tuple(sent), aggregate_id, wrong)
            finally:
                span.end()
            sent.append(row["id"])
        return _Outcome(tuple(sent), aggregate_id)

    def _pass_over(self, aggregate_id: str, wrong: InvalidRecord) -> None:
        """Leave an aggregate alone for a while: its next row will not be taken, and all after it must wait."""
        log.error(
            "outbox.refused", outbox=self._name, aggregate_id=aggregate_id, code=wrong.stable_code,
            cause=wrong.message,
        )  # fmt: skip
        OUTBOX_REFUSED.labels(self._name, wrong.stable_code).inc()
        self._refused_until[aggregate_id] = datetime.now(UTC) + self._refused_retry
        while len(self._refused_until) > REFUSED_MAX:
            del self._refused_until[next(iter(self._refused_until))]
        OUTBOX_BLOCKED.labels(self._name).set(len(self._refused_until))

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


def _publish_span(row: Mapping[str, Any]) -> Span:
    """From when a fact was written to when Kafka has it: what it waited is to be seen in its trace."""
    headers = dict(row["headers"])
    return start_span(
        "outbox.publish",
        parent=headers.get("traceparent"),
        kind=SpanKind.PRODUCER,
        attributes={
            "messaging.system": "kafka",
            "messaging.operation.type": "send",
            "messaging.destination.name": row["topic"],
            "messaging.message.id": headers.get("ce_id", ""),
            "parley.fact.type": headers.get("ce_type", ""),
        },
        start_ns=int(_aware(row["created_at"]).timestamp() * 1e9),
    )


def _headers(row: Mapping[str, Any], span: Span) -> Headers:
    """Return a row's headers; who reads the fact goes on from where it was published."""
    headers = dict(row["headers"])
    if traceparent := traceparent_of(span):
        headers["traceparent"] = traceparent
    return tuple((name, value.encode()) for name, value in headers.items())


_COUNT_RELAYS = """
SELECT count(*) FROM pg_locks
WHERE locktype = 'advisory' AND granted AND objsubid = 2
  AND classid = CAST(:space AS bigint) AND objid = CAST(:lock AS bigint)
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


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
