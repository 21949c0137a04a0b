"""A service's database: migrations under a lock, units of work, and what counts as being away."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from harness.postgres import LocalPostgres, url_text
from harness.processes import Processes
from harness.waiting import until
from parley_common import db as module
from parley_common.db import Database, is_unavailable, wait_until_up
from parley_common.errors import ConfigInvalid, DependencyUnavailable

ENV = "from parley_common.db import run_migrations\nfrom sqlalchemy import MetaData\nrun_migrations(MetaData())\n"
FIRST = """
import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade():
    op.create_table("things", sa.Column("name", sa.String(20), primary_key=True), sa.Column("n", sa.Integer))
    op.execute("INSERT INTO things VALUES ('counter', 0)")
"""
BROKEN = """
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade():
    op.execute("INSERT INTO things VALUES ('half', 1)")
    op.execute("INSERT INTO nothing VALUES (1)")
"""
MIGRATE = """
import asyncio, pathlib, sys
from parley_common.db import Database
database = Database(sys.argv[1], schema="stage")
asyncio.run(database.migrate(pathlib.Path(sys.argv[2])))
print("migrated")
"""


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    folder = tmp_path / "100 % ours"
    (folder / "versions").mkdir(parents=True)
    (folder / "env.py").write_text(ENV)
    (folder / "versions" / "0001_first.py").write_text(FIRST)
    return folder


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url, schema="stage", pool_size=4)
    yield opened
    await opened.aclose()


@pytest.fixture
def server() -> Iterator[LocalPostgres]:
    """A PostgreSQL of this test alone, which it may stop."""
    started = LocalPostgres()
    yield started
    started.close()


async def count(database: Database) -> int:
    async with database.begin() as session:
        return int((await session.execute(text("SELECT n FROM things WHERE name = 'counter'"))).scalar_one())


async def test_migrating_again_changes_nothing(database: Database, migrations: Path) -> None:
    await database.migrate(migrations)
    await database.migrate(migrations)
    assert await count(database) == 0


async def test_processes_that_migrate_at_once_do_it_once(
    database: Database, database_url: str, migrations: Path, processes: Processes
) -> None:
    argv = [sys.executable, "-c", MIGRATE, database_url, str(migrations)]
    together = [processes.start(argv, name="migrate") for _ in range(3)]
    assert [await proc.wait_exit(60) for proc in together] == [0, 0, 0]
    assert all("migrated" in proc.log() for proc in together)
    assert await count(database) == 0


async def test_a_migration_that_fails_in_the_middle_leaves_nothing_of_itself(
    database: Database, migrations: Path
) -> None:
    await database.migrate(migrations)
    (migrations / "versions" / "0002_broken.py").write_text(BROKEN)
    with pytest.raises(DBAPIError):
        await database.migrate(migrations)
    async with database.begin() as session:
        names = (await session.execute(text("SELECT name FROM things"))).scalars().all()
        version = (await session.execute(text("SELECT version_num FROM alembic_version"))).scalar_one()
    assert (names, version) == (["counter"], "0001")


async def test_on_postgres_everything_lives_in_the_schema_of_the_service(
    postgres_url: str, migrations: Path
) -> None:
    database = Database(postgres_url, schema="stage")
    await database.migrate(migrations)
    query = "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema IN ('stage', 'public')"
    async with database.begin() as session:
        found = {tuple(row) for row in (await session.execute(text(query))).all()}
    await database.aclose()
    assert found == {("stage", "things"), ("stage", "alembic_version")}


async def test_units_of_work_that_read_and_then_write_at_once_lose_no_update(
    database: Database, migrations: Path
) -> None:
    await database.migrate(migrations)
    lock = "" if database.is_sqlite else " FOR UPDATE"

    async def increment() -> None:
        async with database.begin() as session:
            query = f"SELECT n FROM things WHERE name = 'counter'{lock}"
            n = (await session.execute(text(query))).scalar_one()
            await session.execute(text("UPDATE things SET n = :n WHERE name = 'counter'"), {"n": n + 1})

    await asyncio.gather(*(increment() for _ in range(12)))
    assert await count(database) == 12


async def test_an_error_rolls_the_unit_of_work_back(database: Database, migrations: Path) -> None:
    await database.migrate(migrations)
    with suppress(ZeroDivisionError):
        async with database.begin() as session:
            await session.execute(text("UPDATE things SET n = 5 WHERE name = 'counter'"))
            raise ZeroDivisionError
    assert await count(database) == 0


async def test_closing_waits_for_a_command_that_was_given_up_in_the_middle(sqlite_url: str) -> None:
    slow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000000) SELECT max(i) FROM n"
    before = set(threading.enumerate())
    database = Database(sqlite_url, schema="stage")

    async def ask() -> None:
        async with database.begin() as session:
            asking.set()
            await session.execute(text(slow))

    asking = asyncio.Event()
    task = asyncio.create_task(ask())
    await asking.wait()
    await asyncio.sleep(0.01)
    task.cancel()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await database.aclose()
    assert not [thread for thread in set(threading.enumerate()) - before if "worker" in thread.name]


async def test_a_postgres_that_answers_nothing_is_given_up(
    server: LocalPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COMMAND_S", 0.5)
    database = Database(url_text(server.admin_url), schema="stage", pool_size=1)
    await database.ping()
    with pytest.raises(DependencyUnavailable):
        async with database.begin() as session:
            await session.execute(text("SELECT pg_sleep(30)"))
    await database.ping()
    await database.aclose()


async def test_sqlite_writes_ahead_and_syncs_fully(sqlite_url: str) -> None:
    database = Database(sqlite_url, schema="stage")
    async with database.begin() as session:
        answers = [
            (await session.execute(text(f"PRAGMA {name}"))).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    await database.aclose()
    assert answers == ["wal", 2, 1]


async def test_nonsense_and_broken_rules_are_our_fault_and_not_an_outage(
    database: Database, migrations: Path
) -> None:
    await database.migrate(migrations)
    for statement in ("SELECT 1 FROM no_such_table", "SELEKT 1", "SELECT no_such_function(1)"):
        with pytest.raises(DBAPIError) as refused:
            await _execute(database, statement)
        assert not is_unavailable(refused.value), statement
    with pytest.raises(IntegrityError):
        await _execute(database, "INSERT INTO things VALUES ('counter', 1)")


async def _execute(database: Database, statement: str) -> None:
    async with database.begin() as session:
        await session.execute(text(statement))


async def test_a_sqlite_file_that_somebody_keeps_locked_is_an_outage(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SQLITE_BUSY_MS", 50)
    holder, other = Database(sqlite_url, schema="stage"), Database(sqlite_url, schema="stage")
    async with holder.begin() as session:
        await session.execute(text("SELECT 1"))
        with pytest.raises(DependencyUnavailable):
            await other.ping()
    await other.ping()
    await holder.aclose()
    await other.aclose()


async def test_a_sqlite_file_that_cannot_be_opened_is_an_outage(tmp_path: Path) -> None:
    (tmp_path / "folder.db").mkdir()
    database = Database(f"sqlite:///{tmp_path / 'folder.db'}", schema="stage")
    with pytest.raises(DependencyUnavailable):
        await database.ping()
    await database.aclose()


async def test_a_pool_with_nothing_left_to_give_is_an_outage(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POOL_WAIT_S", 0.05)
    database = Database(postgres_url, schema="stage", pool_size=1)
    async with database.begin() as session:
        await session.execute(text("SELECT 1"))
        with pytest.raises(DependencyUnavailable):
            await database.ping()
    await database.aclose()


async def test_a_stopped_postgres_is_an_outage_and_the_same_pool_goes_on_when_it_is_back(
    server: LocalPostgres, migrations: Path
) -> None:
    database = Database(url_text(server.admin_url), schema="stage")
    await database.migrate(migrations)
    await asyncio.to_thread(server.stop)
    with pytest.raises(DependencyUnavailable, match="the stage database"):
        await database.ping()
    with pytest.raises(DependencyUnavailable):
        await database.migrate(migrations)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(wait_until_up(database, every_ms=10))
        await asyncio.to_thread(server.start)
        await until(waiting.done, 20, "the database to be up")
    assert await count(database) == 0
    await database.aclose()


@pytest.mark.parametrize("how", ["stop", "kill9"])
async def test_a_postgres_that_goes_away_in_the_middle_of_a_unit_of_work_is_an_outage(
    server: LocalPostgres, migrations: Path, how: str
) -> None:
    database = Database(url_text(server.admin_url), schema="stage")
    await database.migrate(migrations)

    async def work() -> None:
        async with database.begin() as session:
            await session.execute(text("UPDATE things SET n = 7 WHERE name = 'counter'"))
            await asyncio.to_thread(getattr(server, how))
            await session.execute(text("SELECT 1"))

    with pytest.raises(DependencyUnavailable):
        await work()
    await asyncio.to_thread(server.start)
    assert await count(database) == 0
    await database.aclose()


def test_a_url_of_another_kind_is_refused_without_printing_what_is_in_it() -> None:
    with pytest.raises(ConfigInvalid) as refused:
        Database("mysql://root:hunter2@db.example.com/parley", schema="stage")
    assert "hunter2" not in str(refused.value)
    assert "mysql" in str(refused.value)


@pytest.mark.parametrize("url", ["postgresql://u:p@db.example.com/x", "postgres://u:p@db.example.com/x"])
def test_the_usual_urls_of_postgres_are_accepted(url: str) -> None:
    assert Database(url, schema="stage").url == "postgresql+asyncpg://u:p@db.example.com/x"
