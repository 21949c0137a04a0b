"""The inbox: ids of facts already taken in, remembered in the transaction of the consumer's own write."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Column, DateTime, MetaData, String, Table, delete
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncSession

KEPT_DAYS = 35
"""Longer than any fact topic keeps its records (30 days), so that a replay of a topic finds them all."""


def inbox_table(metadata: MetaData) -> Table:
    """Declare the inbox table in ``metadata``; a service's migration creates it."""
    return Table(
        "inbox",
        metadata,
        Column("fact_id", String(64), primary_key=True),
        Column("received_at", DateTime(timezone=True), nullable=False, index=True),
    )


async def is_first_time(session: AsyncSession, table: Table, fact_id: str, now: datetime) -> bool:
    """Remember ``fact_id`` and tell whether it was new. Ordering: first thing in the unit of work."""
    insert = sqlite_insert if session.get_bind().dialect.name == "sqlite" else pg_insert
    statement = (
        insert(table)
        .values(fact_id=fact_id, received_at=now)
        .on_conflict_do_nothing()
        .returning(table.c.fact_id)
    )
    return (await session.execute(statement)).scalar_one_or_none() is not None


async def prune(session: AsyncSession, table: Table, now: datetime) -> None:
    """Forget ids older than any record that could still come again."""
    await session.execute(delete(table).where(table.c.received_at < now - timedelta(days=KEPT_DAYS)))
