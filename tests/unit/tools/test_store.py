"""The migrated schema is the declared one, on both databases, and moments keep their zone."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.exc import StatementError

from parley_common.db import Database
from parley_tools.store import METADATA, SCHEMA, LeadHistory
from parley_tools.upkeep import MIGRATIONS, migrated, wait_for_database
from unit.tools.world import World


async def test_the_migrations_make_exactly_the_declared_tables(anywhere: World) -> None:
    def differences(connection: Connection) -> Any:
        options = {
            "compare_type": True,
            "include_object": lambda o, name, kind, r, c: name != "alembic_version",
        }
        return compare_metadata(MigrationContext.configure(connection, opts=options), METADATA)

    async with anywhere.database.engine.connect() as connection:
        found = await connection.run_sync(differences)
    assert found == []


async def test_migrating_twice_changes_nothing(anywhere: World) -> None:
    await anywhere.database.migrate(MIGRATIONS)
    assert await migrated(anywhere.database)


async def test_an_empty_database_is_waited_for_with_the_reason_until_the_service_stops(
    database_url: str,
) -> None:
    database = Database(database_url, schema=SCHEMA)
    reasons: list[str] = []
    stop = asyncio.Event()

    def on_ready(is_ready: bool, why: str) -> None:
        reasons.append(why)
        stop.set()

    try:
        assert not await wait_for_database(database, stop, on_ready)
        assert "migrate" in reasons[0]
    finally:
        await database.aclose()


async def test_a_moment_comes_back_as_the_same_moment_in_utc(anywhere: World) -> None:
    at = datetime(2026, 1, 5, 9, 0, tzinfo=timezone(timedelta(hours=-8)))
    entry = LeadHistory(
        history_id="h",
        lead_id="l",
        what="captured",
        session_id="s",
        call_id="c",
        changes={"a": [1, 2]},
        at=at,
    )
    async with anywhere.database.begin() as db:
        db.add(entry)
    async with anywhere.database.begin() as db:
        read = await db.get_one(LeadHistory, "h")
    assert (read.at, read.at.tzinfo, read.changes) == (at, UTC, {"a": [1, 2]})


async def test_a_moment_without_a_zone_is_refused(here: World) -> None:
    naive = datetime(2026, 1, 5, 9, 0)  # noqa: DTZ001 - it is what must be refused
    with pytest.raises(StatementError, match="without a zone"):
        async with here.database.begin() as db:
            db.add(
                LeadHistory(
                    history_id="h", lead_id="l", what="x", session_id="s", call_id="c", changes={}, at=naive
                )
            )


async def test_one_slot_cannot_be_booked_twice_but_can_again_after_a_cancellation(anywhere: World) -> None:
    insert = text(
        "INSERT INTO bookings (booking_id, business, resource, lead_id, session_id, starts_at, ends_at, "
        "blocked_until, time_zone, status, created_at) "
        "VALUES (:id, 'cap', 'Ann', 'l', 's', :at, :at, :at, 'UTC', :status, :at)"
    )
    at: Any = datetime(2026, 1, 6, 18, 0, tzinfo=UTC)
    at = at.isoformat(" ") if anywhere.database.is_sqlite else at

    async def book(name: str, status: str) -> None:
        async with anywhere.database.begin() as db:
            await db.execute(insert, {"id": name, "at": at, "status": status})

    await book("first", "cancelled")
    await book("second", "booked")
    with pytest.raises(Exception, match=r"(?i)unique"):
        await book("third", "booked")
