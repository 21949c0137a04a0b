"""The roles that PostgreSQL is given when its volume is new: each service migrates its own schema and sees no other.

Run by psql, as the image does it, on a server of this test's own: roles belong to a whole server.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import pytest

from harness.postgres import INSTALL, PACKAGE, LocalPostgres
from infra.deployment import INFRA, compose
from parley_common.db import Database
from parley_notify.app import MIGRATIONS as NOTIFY_MIGRATIONS
from parley_tools.upkeep import MIGRATIONS as TOOLS_MIGRATIONS

SCRIPT = INFRA / "postgres" / "10-roles.sql"
PASSWORDS = {"TOOLS_DATABASE_PASSWORD": "it's; a :'secret'", "NOTIFY_DATABASE_PASSWORD": "another"}
MIGRATIONS = {"tools": TOOLS_MIGRATIONS, "notify": NOTIFY_MIGRATIONS}
DEADLINE_S = 30


@pytest.fixture(scope="module")
def server() -> Iterator[LocalPostgres]:
    postgres = LocalPostgres()
    try:
        psql(postgres, "postgres", "--command", "CREATE DATABASE parley")
        psql(postgres, "parley", "--file", str(SCRIPT))
        yield postgres
    finally:
        postgres.close()


def psql(server: LocalPostgres, database: str, *arguments: str) -> None:
    package = find_spec(PACKAGE)
    assert package is not None
    assert package.origin is not None
    program = Path(package.origin).parent / INSTALL / "bin" / "psql"
    where = [
        "--host",
        "127.0.0.1",
        "--port",
        str(server.port),
        "--username",
        "postgres",
        "--dbname",
        database,
    ]
    done = subprocess.run(
        [str(program), "--no-psqlrc", "--set", "ON_ERROR_STOP=1", *where, *arguments],
        env={**os.environ, **PASSWORDS},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr


async def connected(server: LocalPostgres, role: str) -> asyncpg.Connection:
    return await asyncpg.connect(host="127.0.0.1", port=server.port, user=role, database="parley")


async def migrated(server: LocalPostgres, role: str) -> None:
    database = Database(f"postgresql://{role}@127.0.0.1:{server.port}/parley", schema=role)
    try:
        await database.migrate(MIGRATIONS[role])
    finally:
        await database.aclose()


@pytest.mark.parametrize("role", sorted(MIGRATIONS))
async def test_a_role_that_is_no_superuser_can_migrate_its_schema_again_and_again(
    server: LocalPostgres, role: str
) -> None:
    await migrated(server, role)
    await migrated(server, role)
    db = await connected(server, role)
    try:
        owners = await db.fetch("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = $1", role)
        assert [owner["tableowner"] for owner in owners] == [role]
    finally:
        await db.close()


@pytest.mark.parametrize(("role", "other"), [("tools", "notify"), ("notify", "tools")])
async def test_a_role_sees_nothing_of_the_other_services(
    server: LocalPostgres, role: str, other: str
) -> None:
    await migrated(server, other)
    db = await connected(server, role)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await db.fetch(f"SELECT * FROM {other}.alembic_version")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await db.execute("CREATE TABLE public.anything (id int)")
    finally:
        await db.close()


async def test_passwords_are_those_of_the_environment_whatever_is_in_them(server: LocalPostgres) -> None:
    db = await connected(server, "postgres")
    try:
        kept = await db.fetch(
            "SELECT rolname, rolpassword FROM pg_authid WHERE rolname = ANY($1)", sorted(MIGRATIONS)
        )
    finally:
        await db.close()
    assert {row["rolname"] for row in kept} == set(MIGRATIONS)
    assert all(row["rolpassword"].startswith("SCRAM-SHA-256$") for row in kept)


def test_the_container_is_given_what_the_script_asks_for() -> None:
    asked = {line.split()[-1] for line in SCRIPT.read_text().splitlines() if line.startswith("\\getenv")}
    assert asked == set(PASSWORDS)
    postgres = compose()["services"]["postgres"]
    assert asked <= set(postgres["environment"])
    assert "./infra/postgres:/docker-entrypoint-initdb.d:ro" in postgres["volumes"]
