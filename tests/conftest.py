"""Fixtures that every test may use, and what a run reports: the backends it stood on, the logs of failures.

Backends start at their first use and are gone at the end. Tests that need a broker are marked ``kafka``;
``live`` and ``long`` tests are left out unless --live or --long asks for them.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.broker import Broker
from harness.kafka import kinds_to_try, session_broker, start_broker
from harness.otlp import OtlpCollector
from harness.ports import free_port, release
from harness.postgres import (
    PostgresServer,
    create_database,
    drop_database,
    session_postgres,
    url_text,
)
from harness.processes import Processes, open_processes
from harness.summary import Backends
from harness.topics import Topics
from harness.topics import unique as unique_name
from harness.webhook_receiver import WebhookReceiver

BACKENDS = pytest.StashKey[Backends]()
REMARKS = pytest.StashKey[list[str]]()
BROKER_FIXTURES = {"kafka_broker", "bootstrap_servers", "fresh_broker", "topics"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--live", action="store_true", help="also run tests against the live Realtime API")
    parser.addoption("--long", action="store_true", help="also run the long forms of tests")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[BACKENDS] = Backends()
    config.stash[REMARKS] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [item for item in items if _is_left_out(config, item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    for item in items:
        if BROKER_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("kafka")


def _is_left_out(config: pytest.Config, item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) and not config.getoption(name) for name in ("live", "long"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    report = yield
    if report.failed and report.when == "call":
        report.sections += [
            (f"log of {proc.name} (exit code {proc.exit_code})", proc.log_tail()) for proc in open_processes()
        ]
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    for line in getattr(node, "workeroutput", {}).get("backends", []):
        node.config.stash[BACKENDS].add(f"{node.gateway.id} {line}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["backends"] = session.config.stash[BACKENDS].lines


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    terminalreporter.section("backends")
    for line in config.stash[BACKENDS].text():
        terminalreporter.write_line(line)
    if config.stash[REMARKS]:
        terminalreporter.section("worth a second look")
        for line in config.stash[REMARKS]:
            terminalreporter.write_line(line)


@pytest.fixture
def remark(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """``remark("...")`` is a line at the end of the run that fails nothing."""
    return pytestconfig.stash[REMARKS].append


@pytest.fixture(scope="session")
def kafka_broker(pytestconfig: pytest.Config) -> Iterator[Broker]:
    """The run's broker, shared: keep apart by ``unique`` names, and never stop it."""
    began_s = time.monotonic()
    broker, reasons = session_broker()
    pytestconfig.stash[BACKENDS].started("Kafka", broker.label, began_s, reasons)
    yield broker
    broker.close()


@pytest.fixture
def bootstrap_servers(kafka_broker: Broker) -> str:
    """Where the run's broker is."""
    return kafka_broker.bootstrap_servers


@pytest.fixture
def topics(bootstrap_servers: str) -> Topics:
    """Topics of the run's broker: make, write, read."""
    return Topics(bootstrap_servers)


@pytest.fixture
def fresh_broker(pytestconfig: pytest.Config) -> Iterator[Broker]:
    """An empty broker of this test alone, which it may stop, kill, freeze and start again."""
    began_s = time.monotonic()
    broker, reasons = start_broker(kinds_to_try())
    pytestconfig.stash[BACKENDS].started("Kafka", broker.label, began_s, reasons)
    yield broker
    broker.close()


@pytest.fixture
def unique() -> Callable[[str], str]:
    """``unique("orders")`` is a name that no other test uses."""
    return unique_name


@pytest.fixture(scope="session")
def postgres_server(pytestconfig: pytest.Config) -> Iterator[PostgresServer]:
    """The run's PostgreSQL."""
    began_s = time.monotonic()
    server, reasons = session_postgres()
    pytestconfig.stash[BACKENDS].started("PostgreSQL", server.label, began_s, reasons)
    yield server
    server.close()


@pytest.fixture
async def postgres_url(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """An empty PostgreSQL database of this test alone, as a SQLAlchemy URL (asyncpg)."""
    url = await create_database(postgres_server)
    yield url_text(url)
    await drop_database(postgres_server, url)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A SQLite file of this test alone, as a SQLAlchemy URL (aiosqlite); not yet created."""
    return f"sqlite+aiosqlite:///{tmp_path / 'test.db'}"


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database of this test alone; the test runs on SQLite and on PostgreSQL."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Starts real processes; all are gone when the test ends, and a failure shows their logs."""
    folder = tmp_path / "logs"
    folder.mkdir()
    with Processes(folder) as started:
        yield started


@pytest.fixture
def port() -> Iterator[Callable[[], int]]:
    """``port()`` is a port that nobody else is given while the test runs."""
    taken: list[int] = []

    def take() -> int:
        taken.append(free_port())
        return taken[-1]

    yield take
    for number in taken:
        release(number)


@pytest.fixture
def otlp() -> Iterator[OtlpCollector]:
    """A collector of spans and metrics."""
    with OtlpCollector() as collector:
        yield collector


@pytest.fixture
def webhooks() -> Iterator[WebhookReceiver]:
    """A receiver of webhooks that answers 200 until told otherwise."""
    with WebhookReceiver() as receiver:
        yield receiver
