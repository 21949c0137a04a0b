"""A database with an outbox and an inbox, and a broker that is a list and can be told to refuse.

Cannot imitate a broker: what is published here was never on a topic.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import MetaData, select, text

from parley_common.contracts.record import Record
from parley_common.db import Database
from parley_common.inbox import inbox_table
from parley_common.outbox import SHARDS, Outbox, OutboxTables, outbox_tables

METADATA = MetaData()
OUTBOX_TABLES: OutboxTables = outbox_tables(METADATA)
INBOX = inbox_table(METADATA)
SCHEMA = "stage"
NOW = datetime(2026, 3, 2, 15, 4, 5, tzinfo=UTC)
ALL_SHARDS = tuple(range(SHARDS))


@dataclass
class Published:
    """A producer as a list of (key, value); ``refuse`` may raise instead of taking a record."""

    refuse: Callable[[str, str], None] = lambda _key, _value: None
    taken: list[tuple[str, str]] = field(default_factory=list)

    async def __call__(self, record: Record) -> None:
        key, value = record.key.decode(), (record.value or b"").decode()
        self.refuse(key, value)
        self.taken.append((key, value))

    def by_key(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for key, value in self.taken:
            found[key].append(value)
        return dict(found)


@dataclass
class Store:
    """One database, and the outbox that writes to it."""

    database: Database
    outbox: Outbox

    async def write(self, aggregate_id: str, *values: str, created_at: datetime = NOW) -> list[int]:
        """Write records in one unit of work and return their seqs."""
        async with self.database.begin() as session:
            return [await self.add(session, aggregate_id, value, created_at) for value in values]

    async def add(
        self, session: Any, aggregate_id: str, value: str, created_at: datetime = NOW, topic: str = "facts"
    ) -> int:
        seq = await self.outbox.next_seq(session, aggregate_id)
        record = Record(topic, aggregate_id.encode(), value.encode(), (("ce_id", value.encode()),))
        await self.outbox.add_record(session, record, aggregate_id=aggregate_id, seq=seq, now=created_at)
        return seq

    async def rows(self) -> list[dict[str, Any]]:
        table = OUTBOX_TABLES.rows
        async with self.database.begin() as session:
            found = (await session.execute(select(table).order_by(table.c.id))).mappings().all()
        return [dict(row) for row in found]

    async def unsent(self) -> list[str]:
        return [row["value"].decode() for row in await self.rows() if row["sent_at"] is None]


async def make_tables(url: str) -> None:
    """Make schema and tables in an empty database."""
    database = Database(url, schema=SCHEMA, pool_size=2)
    try:
        async with database.engine.begin() as connection:
            if not database.is_sqlite:
                await connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
            await connection.run_sync(METADATA.create_all)
    finally:
        await database.aclose()


@asynccontextmanager
async def open_store(url: str) -> AsyncIterator[Store]:
    """Connect to a database whose tables are there."""
    database = Database(url, schema=SCHEMA)
    try:
        yield Store(database, Outbox(OUTBOX_TABLES, source="tests"))
    finally:
        await database.aclose()
