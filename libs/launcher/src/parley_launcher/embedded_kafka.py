"""The embedded Kafka broker of development: the command that runs it, and how to tell that it answers.

The broker is the Kafka part of the PyPI package noida-db, bound to loopback and nothing else of it. It runs
as one child of whatever supervises it (``parley up``, the test harness): this module gives argv, environment
and readiness, and starts no process itself. SIGTERM stops the broker cleanly, within a second; it writes its
data to ``data_dir`` and reads it again at the next start.

Where it differs from Apache Kafka, as measured with noida-db 0.2.3: it lives in memory and saves about once
a second, so a kill -9 loses the last second (records, topics, committed offsets, producer state); naming an
unknown topic in a metadata request or a send makes that topic, with one partition, so topics are applied
before anything else looks at them.

Law: development only. No service image contains it, and production never meets it.
"""

from __future__ import annotations

import asyncio
import stat
from importlib.util import find_spec
from pathlib import Path

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from parley_common.errors import ConfigInvalid, DependencyUnavailable

PACKAGE = "noida_db"
HOST = "127.0.0.1"
PROBE_DEADLINE_S = 2.0
PROBE_EVERY_S = 0.05

REMEDY = "set KAFKA_BOOTSTRAP_SERVERS to a Kafka of your own, for example 127.0.0.1:9092"


class EmbeddedKafka:
    """One embedded broker on 127.0.0.1, with its data in a folder of its own."""

    def __init__(self, port: int, data_dir: Path) -> None:
        self.port = port
        self.data_dir = data_dir

    @property
    def bootstrap_servers(self) -> str:
        return f"{HOST}:{self.port}"

    def argv(self) -> list[str]:
        """Return the command that runs the broker in the foreground; makes ``data_dir`` where it is missing.

        Raises:
            ConfigInvalid: the package has no build for this platform, or its program is not there.
        """
        self.data_dir.mkdir(parents=True, exist_ok=True)
        command = [str(broker_program()), "start", "--only", "kafka", "--host", HOST]
        return [*command, "--kafka-port", str(self.port), "--data-dir", str(self.data_dir)]

    def env(self) -> dict[str, str]:
        """Return what the broker needs beyond the machine's environment: nothing."""
        return {}

    async def answers(self) -> bool:
        """Say whether the broker answers a metadata request now."""
        return await answers_metadata(self.bootstrap_servers)

    async def wait_ready(self, deadline_s: float = 10.0) -> None:
        """Return once the broker answers.

        Raises:
            DependencyUnavailable: it did not within ``deadline_s``; its log says why.
        """
        try:
            async with asyncio.timeout(deadline_s):
                while True:
                    if await self.answers():
                        return
                    await asyncio.sleep(PROBE_EVERY_S)
        except TimeoutError as late:
            raise DependencyUnavailable(
                f"the embedded Kafka on port {self.port} did not answer within {deadline_s:g} s",
                code="embedded_kafka_silent",
                remedy=f"look at its log, free the port, or {REMEDY}",
            ) from late


def broker_program() -> Path:
    """Return the broker's program inside the installed package, executable.

    The package's console script is not used: it is a wrapper that leaves the broker running when it ends.

    Raises:
        ConfigInvalid: there is none for this platform.
    """
    package = find_spec(PACKAGE)
    folders = list(package.submodule_search_locations or []) if package else []
    for folder in folders:
        program = Path(folder) / "noida-db"
        if program.is_file():
            return _executable(program)
    raise ConfigInvalid(
        "the embedded Kafka has no build for this platform (Linux on x86-64 and macOS on arm64 have one)",
        code="embedded_kafka_missing",
        remedy=REMEDY,
    )


def is_noise(line: str) -> bool:
    """Say whether a line of the broker's output means nothing to anyone.

    The dynamic loader of an older C library complains of a weak symbol version that the broker does without.
    """
    return "weak version `GLIBC_" in line and "not found" in line


async def answers_metadata(bootstrap_servers: str) -> bool:
    """Say whether any broker of ``bootstrap_servers`` answers a metadata request that names a broker."""
    if not await _accepts(bootstrap_servers):
        return False
    client = AIOKafkaClient(
        bootstrap_servers=bootstrap_servers, request_timeout_ms=int(PROBE_DEADLINE_S * 1000)
    )
    try:
        async with asyncio.timeout(PROBE_DEADLINE_S):
            await client.bootstrap()
        return bool(client.cluster.brokers())
    except (KafkaError, OSError, TimeoutError):
        return False
    finally:
        await client.close()


async def _accepts(bootstrap_servers: str) -> bool:
    """Try a bare connect first: the client logs an error for every address where nothing listens yet."""
    for address in bootstrap_servers.split(","):
        host, _, port = address.strip().rpartition(":")
        try:
            async with asyncio.timeout(PROBE_DEADLINE_S):
                _, writer = await asyncio.open_connection(host, int(port))
        except (OSError, TimeoutError):
            continue
        writer.close()
        return True
    return False


def _executable(program: Path) -> Path:
    mode = program.stat().st_mode
    if not mode & stat.S_IXUSR:
        program.chmod(mode | stat.S_IXUSR)
    return program
