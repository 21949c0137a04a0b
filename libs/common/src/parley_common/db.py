"""A service's database: PostgreSQL (one schema per service) or SQLite (one file, one process).

One unit of work is ``async with database.begin() as session``. Migrations run under a lock. Does not know
any table; each service brings its own metadata and its alembic folder.

Law: a database that cannot be reached is DependencyUnavailable, never a failed record.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any
from weakref import WeakSet

import aiosqlite
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, MetaData, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolExhausted
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)

from parley_common.errors import ConfigInvalid, DependencyUnavailable

SQLITE_BUSY_MS = 10_000
POOL_WAIT_S = 10
CONNECT_S = 5
COMMAND_S = 30
"""A PostgreSQL that does not answer a command within this time is away: its connection is given up."""
_TROUBLE = (OSError, TimeoutError, DBAPIError, PoolExhausted)
_AWAY_STATES = ("08", "25006", "53", "57P", "58")
"""PostgreSQL's codes for a lost connection, a standby, exhausted resources, starting or stopping, a broken disk."""


class Database:
    """One service's engine and sessions.

    ``url`` is a SQLAlchemy async URL: ``postgresql+asyncpg://…`` (``postgresql://`` is accepted) or
    ``sqlite+aiosqlite:///path``. On PostgreSQL everything lives in ``schema``, the alembic version table too.
    """

    def __init__(self, url: str, *, schema: str, pool_size: int = 10) -> None:
        self.schema = schema
        self.url = _async_url(url)
        self.is_sqlite = self.url.startswith("sqlite")
        self._sqlite_threads: WeakSet[Thread] = WeakSet()
        self.engine = self._make_engine(pool_size, command_s=COMMAND_S)
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False)

    def _make_engine(self, pool_size: int, *, command_s: float | None) -> AsyncEngine:
        if self.is_sqlite:
            path = make_url(self.url).database
            if path and path != ":memory:":
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            engine = create_async_engine(
                self.url,
                connect_args={"timeout": SQLITE_BUSY_MS / 1000, "async_creator_fn": self._open_sqlite},
            )
            event.listen(engine.sync_engine, "connect", _on_sqlite_connect)
            event.listen(engine.sync_engine, "begin", _on_sqlite_begin)
            return engine
        return create_async_engine(
            self.url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=POOL_WAIT_S,
            pool_pre_ping=True,
            connect_args={
                "timeout": CONNECT_S,
                "command_timeout": command_s,
                "server_settings": {"search_path": self.schema},
            },
        )

    def _open_sqlite(self, path: str, **options: Any) -> aiosqlite.Connection:
        connection = aiosqlite.connect(path, **options)
        thread = connection._thread  # noqa: SLF001 - the driver names it nowhere else; SQLAlchemy reaches for it too
        thread.daemon = True
        self._sqlite_threads.add(thread)
        return connection

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncSession]:
        """One unit of work: commits on leaving, rolls back on any error. Raises DependencyUnavailable."""
        try:
            async with self._sessions() as session, session.begin():
                yield session
        except _TROUBLE as wrong:
            if is_unavailable(wrong):
                raise DependencyUnavailable(f"the {self.schema} database: {type(wrong).__name__}") from wrong
            raise

    async def ping(self) -> None:
        """Return when the database answers. Raises DependencyUnavailable."""
        async with self.begin() as session:
            await session.execute(text("SELECT 1"))

    async def migrate(self, script_location: Path) -> None:
        """Bring the schema to its newest revision; safe to run from many processes at once."""
        # Waiting for another process's migration, or a large table's, may take longer than any other command.
        engine = self.engine if self.is_sqlite else self._make_engine(1, command_s=None)
        try:
            async with engine.connect() as connection:
                await self._prepare(connection)
                await connection.run_sync(_upgrade, script_location, self.schema)
                await connection.commit()
        except _TROUBLE as wrong:
            if is_unavailable(wrong):
                raise DependencyUnavailable(f"the {self.schema} database: {type(wrong).__name__}") from wrong
            raise
        finally:
            if engine is not self.engine:
                await engine.dispose()

    async def _prepare(self, connection: AsyncConnection) -> None:
        if self.is_sqlite:
            return  # BEGIN IMMEDIATE is the lock
        key = int.from_bytes(self.schema.encode()[:7], "big")
        await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
        await connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{self.schema}"'))

    async def aclose(self) -> None:
        """Close every connection, and wait for what the driver still does in its threads."""
        await self.engine.dispose()
        # One given up in mid-command, or never opened, is closed by its thread, which then tells our event loop.
        with suppress(TimeoutError):
            async with asyncio.timeout(SQLITE_BUSY_MS / 1000):
                while any(thread.is_alive() for thread in self._sqlite_threads):  # noqa: ASYNC110 - a thread tells none
                    await asyncio.sleep(0.001)


def is_unavailable(wrong: BaseException) -> bool:
    """Tell whether an error means that the database is away or busy, and not that we asked it nonsense."""
    if isinstance(wrong, (OSError, TimeoutError, InterfaceError, PoolExhausted)):
        return True
    if not isinstance(wrong, DBAPIError):
        return False
    # SQLite reports a busy or full disk and a misspelt table by the same class; only its code tells them apart.
    sqlite_code = getattr(wrong.orig, "sqlite_errorcode", None)
    if sqlite_code is not None:
        return isinstance(wrong, OperationalError) and sqlite_code & 0xFF != sqlite3.SQLITE_ERROR
    if wrong.connection_invalidated or isinstance(wrong, OperationalError):
        return True
    return str(getattr(wrong.orig, "sqlstate", "") or "").startswith(_AWAY_STATES)


def run_migrations(metadata: MetaData) -> None:
    """What each service's alembic env.py calls: migrate on the connection that ``Database.migrate`` opened."""
    from alembic import context

    connection: Connection = context.config.attributes["connection"]
    context.configure(
        connection=connection, target_metadata=metadata, render_as_batch=True, transaction_per_migration=False
    )
    context.run_migrations()


def _upgrade(connection: Connection, script_location: Path, schema: str) -> None:
    config = Config()
    # The option is interpolated: a per cent sign in a path would be read as the beginning of a name.
    config.set_main_option("script_location", str(script_location).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    config.attributes["schema"] = schema
    command.upgrade(config, "head")


def _async_url(url: str) -> str:
    for plain, driver in (
        ("postgresql://", "postgresql+asyncpg://"),
        ("postgres://", "postgresql+asyncpg://"),
        ("sqlite:///", "sqlite+aiosqlite:///"),
    ):
        if url.startswith(plain):
            return driver + url[len(plain) :]
    if not url.startswith(("postgresql+asyncpg://", "sqlite+aiosqlite:///")):
        raise ConfigInvalid(
            f"database URL {url.split('://', maxsplit=1)[0]}://… is not supported",
            remedy="use postgresql:// or sqlite:///",
        )
    return url


def _on_sqlite_connect(connection: Any, _record: Any) -> None:
    # The driver's own transaction control would open a deferred one; we open ours in _on_sqlite_begin.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute(f"PRAGMA busy_timeout={SQLITE_BUSY_MS}")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _on_sqlite_begin(connection: Connection) -> None:
    # IMMEDIATE takes the write lock first: a deferred transaction that upgrades later can fail without waiting.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


async def wait_until_up(database: Database, *, every_ms: int = 500) -> None:
    """Return once the database answers; waits without end, as a service that is not ready does."""
    while True:
        try:
            await database.ping()
        except DependencyUnavailable:
            await asyncio.sleep(every_ms / 1000)
        else:
            return
