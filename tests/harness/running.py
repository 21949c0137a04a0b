"""The whole of Parley as a user runs it: `parley up` as one process, on free ports, with its own state.

Tests talk to it by the public client protocol and read what it leaves: facts, mails, rows.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from harness.broker import Broker
from harness.maildir import Mail, mails
from harness.ports import free_port, release
from harness.processes import Proc, Processes
from harness.waiting import until_blocking
from parley_launcher.commands.try_start import PORTS
from parley_launcher.talk.report import TalkReport
from parley_launcher.talk.run import TalkOptions, run_talk
from parley_launcher.talk.turns import CallerTurn

READY_S = 120.0


@dataclass(frozen=True)
class Told:
    """A fact as it stands on its topic."""

    type: str
    id: str
    key: str
    value: dict[str, Any]
    headers: dict[str, str]


class RunningParley:
    """`parley up`, ready. ``state_dir`` holds its SQLite files, mails and logs."""

    def __init__(
        self, processes: Processes, state_dir: Path, broker: Broker, *flags: str, **environment: str
    ) -> None:
        self.state_dir = state_dir
        self.broker = broker
        self.bootstrap_servers = broker.bootstrap_servers
        self.ports = {name: free_port() for name in PORTS}
        self._ready_file = state_dir / "ready.json"
        state_dir.mkdir(parents=True, exist_ok=True)
        self.env = (
            {name: str(port) for name, port in self.ports.items()}
            | {"PARLEY_STATE_DIR": str(state_dir), "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers}
            | environment
        )
        self.proc: Proc = processes.start(
            [
                sys.executable,
                "-m",
                "parley_launcher",
                "up",
                "--no-facts",
                "--json-ready",
                str(self._ready_file),
                *flags,
            ],
            name="parley-up",
            env=self.env,
        )
        until_blocking(self._is_ready, READY_S, "parley up to be ready")

    def _is_ready(self) -> bool:
        assert self.proc.is_running, f"parley up ended with {self.proc.exit_code}: {self.proc.log_tail()}"
        return self._ready_file.exists()

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by name, as they were when it became ready."""
        return dict(json.loads(self._ready_file.read_text(encoding="utf-8"))["processes"])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['GATEWAY_PORT']}"

    async def talk(self, *script: CallerTurn, out: Path | None = None, max_s: float = 150.0) -> TalkReport:
        """Hold a session with cap as `parley talk` does."""
        return await run_talk(TalkOptions("cap", tuple(script), self.url, out=out, max_s=max_s))

    async def facts(self, topic: str, **matching: str) -> list[Told]:
        """Return every fact on ``topic`` whose value has ``matching``, in order of partition and offset."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap_servers, auto_offset_reset="earliest")
        await consumer.start()
        try:
            await consumer._client.force_metadata_update()
            parts = [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic) or ()]
            consumer.assign(parts)
            ends = await consumer.end_offsets(parts)
            await consumer.seek_to_beginning(*parts)
            told: list[Told] = []
            while any([await consumer.position(part) < ends[part] for part in parts]):
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    told += map(_told, records)
        finally:
            await consumer.stop()
        return [t for t in told if all(t.value.get(name) == value for name, value in matching.items())]

    def mails(self) -> list[Mail]:
        return mails(self.state_dir / "mail")

    def rows(self, database: str, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Read a service's SQLite file."""
        with sqlite3.connect(f"file:{self.state_dir / database}?mode=ro", uri=True) as connection:
            return connection.execute(query, values).fetchall()

    def kill9(self, name: str) -> None:
        """Kill one service's process as a power cut would; the supervisor starts it again."""
        os.kill(self.pids[name], signal.SIGKILL)

    def stop(self) -> int:
        """Stop it as Ctrl-C does; returns its exit code."""
        code = self.proc.stop(deadline_s=40.0)
        for port in self.ports.values():
            release(port)
        return code


def _told(record: Any) -> Told:
    headers = {name: value.decode() for name, value in record.headers}
    return Told(
        headers.get("ce_type", ""),
        headers.get("ce_id", ""),
        (record.key or b"").decode(),
        json.loads(record.value),
        headers,
    )
