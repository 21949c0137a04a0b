"""What runs beside the calls: waiting for a migrated database, renewing leases, forgetting old results.

Law: none of it ends the service; a database that is away is waited for and said in /readyz.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path

import structlog
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError

from parley_common.business import Business
from parley_common.clock import Clock
from parley_common.db import Database
from parley_common.errors import DependencyUnavailable
from parley_tools import records
from parley_tools.calls import CallTable
from parley_tools.registry import Registry

MIGRATIONS = Path(__file__).parent / "migrations"
WAIT_S = 1.0
RENEWALS_PER_LEASE = 3
PRUNE_EVERY_S = 600

log = structlog.get_logger("upkeep")


async def migrated(database: Database) -> bool:
    """Tell whether the database is at the newest revision. Raises DependencyUnavailable."""
    head = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    async with database.begin() as db:
        connection = await db.connection()
        schema = None if database.is_sqlite else database.schema
        has_table = await connection.run_sync(
            lambda sync: inspect(sync).has_table("alembic_version", schema=schema)
        )
        if not has_table:
            return False
        return (
            await db.execute(text("SELECT version_num FROM alembic_version"))
        ).scalar_one_or_none() == head


async def wait_for_database(
    database: Database, stop: asyncio.Event, on_ready: Callable[[bool, str], None]
) -> bool:
    """Return True once the database answers and is migrated; False when ``stop`` came first."""
    while not stop.is_set():
        try:
            if await migrated(database):
                on_ready(True, "")
                return True
            on_ready(False, "not migrated: run `parley-tools migrate`")
        except DependencyUnavailable as away:
            on_ready(False, str(away))
        await _sleep_or_stop(stop, WAIT_S)
    return False


async def seed_records(
    database: Database, tools: Registry, businesses: Iterable[Business], service: str, clock: Clock
) -> None:
    """Write what the seed files of each business's tools hold and is not there yet. Raises DependencyUnavailable."""
    for business in businesses:
        kinds = tools.record_kinds(business, service)
        if not kinds:
            continue
        async with database.begin() as db:
            count = await records.seed(db, business, kinds, clock.now())
        log.info("records.seeded", business=business.name, count=count)


async def keep_leases(
    database: Database,
    calls: CallTable,
    clock: Clock,
    stop: asyncio.Event,
    on_ready: Callable[[bool, str], None],
) -> None:
    """Renew what this instance runs until ``stop``, then give up what is left; also says if the database went away."""
    while not stop.is_set():
        try:
            async with database.begin() as db:
                await calls.renew(db, clock.now())
        except (DependencyUnavailable, DBAPIError) as wrong:
            on_ready(False, f"the database: {type(wrong).__name__}")
            log.warning("lease.not_renewed", cause=type(wrong).__name__)
        else:
            on_ready(True, "")
        await _sleep_or_stop(stop, calls.lease.total_seconds() / RENEWALS_PER_LEASE)
    try:
        async with database.begin() as db:
            await calls.release(db, clock.now())
    except (DependencyUnavailable, DBAPIError):
        log.warning("lease.not_released")


async def forget_old_results(
    database: Database, calls: CallTable, clock: Clock, stop: asyncio.Event, kept_h: int
) -> None:
    """Prune the tool_calls table every ten minutes until ``stop``."""
    while not stop.is_set():
        try:
            async with database.begin() as db:
                gone = await calls.prune(db, clock.now() - timedelta(hours=kept_h))
            log.info("calls.pruned", count=gone)
        except (DependencyUnavailable, DBAPIError) as wrong:
            log.warning("calls.not_pruned", cause=type(wrong).__name__)
        await _sleep_or_stop(stop, PRUNE_EVERY_S)


async def _sleep_or_stop(stop: asyncio.Event, delay_s: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), delay_s)
    except TimeoutError:
        return
