"""Databases of the harness are empty, real, and belong to one test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from harness.postgres import LocalPostgres, create_database, drop_database, session_postgres, url_text


@pytest.fixture
def local_postgres() -> Iterator[LocalPostgres]:
    server = LocalPostgres()
    yield server
    server.close()


async def run(url: str, *statements: str) -> list[object]:
    """Run statements in one transaction and return the first column of the last one's rows."""
    engine = create_async_engine(url)
    try:
        async with engine.begin() as db:
            for statement in statements:
                result = await db.execute(text(statement))
            return [row[0] for row in result] if result.returns_rows else []
    finally:
        await engine.dispose()


@pytest.mark.parametrize("round_number", [1, 2])
async def test_each_test_has_an_empty_database(database_url: str, round_number: int) -> None:
    await run(
        database_url, "CREATE TABLE leads (name TEXT)", f"INSERT INTO leads VALUES ('round {round_number}')"
    )
    assert await run(database_url, "SELECT name FROM leads") == [f"round {round_number}"]


async def test_the_two_kinds_of_database_are_what_they_say(database_url: str) -> None:
    if make_url(database_url).get_backend_name() == "postgresql":
        assert str((await run(database_url, "SELECT version()"))[0]).startswith("PostgreSQL")
    else:
        assert await run(database_url, "SELECT sqlite_version()")


async def test_advisory_locks_and_schemas_are_there(postgres_url: str) -> None:
    assert await run(postgres_url, "CREATE SCHEMA tools", "SELECT pg_try_advisory_xact_lock(42)") == [True]


async def test_a_database_is_dropped_even_while_someone_is_connected(local_postgres: LocalPostgres) -> None:
    url = await create_database(local_postgres)
    engine = create_async_engine(url)
    db = await engine.connect()
    await db.execute(text("SELECT 1"))
    await drop_database(local_postgres, url)
    await db.invalidate()
    await engine.dispose()
    names = await run(url_text(local_postgres.admin_url), "SELECT datname FROM pg_database")
    assert url.database not in names


async def test_a_killed_server_comes_back_with_what_was_committed(local_postgres: LocalPostgres) -> None:
    url = url_text(await create_database(local_postgres))
    await run(url, "CREATE TABLE kept (n INT)", "INSERT INTO kept VALUES (7)")
    local_postgres.kill9()
    local_postgres.start()
    assert await run(url, "SELECT n FROM kept") == [7]
    local_postgres.stop()
    local_postgres.start()
    assert await run(url, "SELECT n FROM kept") == [7]


def test_a_named_database_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://app:secret@db.example.com:5433/app")
    server, reasons = session_postgres()
    assert reasons == []
    assert url_text(server.admin_url) == "postgresql+asyncpg://app:secret@db.example.com:5433/app"
    assert "secret" not in server.label


@pytest.mark.parametrize("is_closed_to_others", [True, False])
def test_only_root_runs_copied_programs_and_only_where_its_own_are_closed_to_others(
    is_closed_to_others: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.postgres._open_to_everyone", lambda _: not is_closed_to_others)
    server = LocalPostgres()
    is_copied = server._bin.is_relative_to(server._folder)
    assert is_copied is (is_closed_to_others and os.geteuid() == 0)
    server.close()
    assert not server._folder.exists()
