"""What the parts of the bench that measure services at volume stand on: the lab, Kafka, a database, and a look around.

The database is made at its first use: a run that has no time for these parts starts none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from harness.broker import Broker
from harness.ports import free_port, release
from harness.postgres import PostgresServer, create_database, session_postgres, url_text
from harness.processes import Proc
from harness.topics import unique
from load.bench import machine
from load.bench.systems import READY_S, Lab


@dataclass(frozen=True)
class Around:
    """What the machine did while something was measured."""

    core_pct: Mapping[str, float]
    """How busy the core of what is measured and the other one were."""
    others: Mapping[str, int]
    """Who else took how much of a core, in percent."""
    load_1m: float
    """The machine's load average at the end."""


@dataclass
class Ground:
    """Where volume is measured."""

    lab: Lab
    broker: Broker
    postgres: PostgresServer | None = None
    """Null until the first database, unless one is given."""
    is_sqlite: bool = False
    """Instead of PostgreSQL; becomes true where none can be had."""
    _is_own: bool = field(default=False, init=False)

    @property
    def servers(self) -> str:
        return self.broker.bootstrap_servers

    @property
    def label(self) -> str:
        """Return what the database is called."""
        return self.postgres.label if self.postgres else "SQLite"

    async def database(self) -> str:
        """Return the URL of a new, empty database."""
        if self.postgres is None and not self.is_sqlite:
            try:
                with machine.on_core(self.lab.cores.rest):
                    self.postgres, _ = session_postgres()
                self._is_own = True
            except AssertionError:
                self.is_sqlite = True
        if self.postgres is not None:
            return url_text(await create_database(self.postgres))
        return f"sqlite+aiosqlite:///{self.lab.folder / unique('volume')}.db"

    def close(self) -> None:
        """End the database server that was started here."""
        if self.postgres is not None and self._is_own:
            self.postgres.close()

    @contextmanager
    def service(self, module: str, env: Mapping[str, str], port_variable: str) -> Iterator[Service]:
        """Run one service on the measured core, not yet ready, and end it."""
        port = free_port()
        name = module.removeprefix("parley_")
        whole = {**env, port_variable: str(port)}
        proc: Proc | None = None
        try:
            proc = self.lab.run(self.lab.cores.system, name, [f"{module}.app"], whole)
            yield Service(proc, f"http://127.0.0.1:{port}/readyz")
            proc.stop(15.0)
        finally:
            if proc is not None:
                proc.close()
            release(port)

    async def migrate(self, module: str, env: Mapping[str, str]) -> None:
        """Make a service's tables."""
        migrating = self.lab.run(self.lab.cores.system, "migrate", [f"{module}.app", "migrate"], env)
        assert await migrating.wait_exit(READY_S) == 0, migrating.log_tail()

    def look(self) -> Look:
        """Begin to look at the machine."""
        return Look(self)


@dataclass(frozen=True)
class Service:
    """A service that runs."""

    proc: Proc
    ready_url: str

    async def ready(self) -> int:
        """Wait until it is ready; return its process id."""
        await self.proc.wait_ready(self.ready_url, READY_S)
        return self.proc.pid


class Look:
    """The machine between two moments."""

    def __init__(self, ground: Ground) -> None:
        self._cores = ground.lab.cores
        self._before = machine.snapshot()

    def around(self) -> Around:
        """Return what the machine did since this was made."""
        after = machine.snapshot()
        busy = machine.busy_pct(self._before, after)
        return Around(
            core_pct={"system": busy[self._cores.system], "rest": busy[self._cores.rest]},
            others=machine.others(self._before, after, machine.family()),
            load_1m=round(os.getloadavg()[0], 2),
        )


def environment(broker: Broker, **more: Any) -> dict[str, str]:
    """Return what every service of a volume part is told."""
    env = {
        "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "PARLEY_LOG_FORMAT": "json",
        "PARLEY_LOG_LEVEL": "warning",
        "ORT_DISABLE_TELEMETRY": "1",
    }
    return env | {name: str(value) for name, value in more.items()}
