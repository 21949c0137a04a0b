"""Stands in for a session replica: asks for tools over Kafka and reads the answers; runs the service as a process.

It uses the contracts and plain aiokafka, none of the tools service's own code. It does not retry by itself: a test
asks again when it means to.
"""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from harness.processes import Proc, Processes
from harness.topics import Topics
from harness.waiting import until
from parley_common.contracts.facts import read_fact
from parley_common.contracts.record import Envelope, Fact, to_json
from parley_common.contracts.tool_calls import CALL_TYPE, REPLY_TO_HEADER, CallerContext, ToolCall, ToolResult
from parley_common.contracts.topics import LEAD_EVENTS, TOOL_CATALOG, TOOL_RESULTS
from parley_common.settings import KafkaSettings
from parley_common.topic_admin import apply_topics

ROOT = Path(__file__).parents[3]
BUSINESSES = ROOT / "businesses"
ANSWER_S = 15.0


def new_service() -> str:
    """Return a service name of one test alone: its calls topic and group are then its own too."""
    return f"tools_{uuid.uuid4().hex[:10]}"


@dataclass
class Running:
    """One tools process."""

    proc: Proc
    service: str
    base_url: str


@dataclass
class ServicePlan:
    """How to run the service; the same plan started twice is two instances of one service."""

    bootstrap_servers: str
    database_url: str
    service: str = field(default_factory=new_service)
    settings: dict[str, str] = field(default_factory=dict)
    businesses: Path = BUSINESSES

    def environment(self, port: int) -> dict[str, str]:
        return {
            "TOOLS_PORT": str(port),
            "TOOLS_SERVICE": self.service,
            "TOOLS_DATABASE_URL": self.database_url,
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "PARLEY_BUSINESSES_DIR": str(self.businesses),
            "PARLEY_LOG_FORMAT": "json",
            **self.settings,
        }

    async def prepare(self, processes: Processes) -> None:
        """Make the topics and the tables."""
        await apply_topics(KafkaSettings(bootstrap_servers=self.bootstrap_servers))
        await Topics(self.bootstrap_servers).create(f"parley.tool.calls.{self.service}", 4)
        argv = [sys.executable, "-m", "parley_tools.app", "migrate"]
        migration = processes.start(argv, name="migrate", env=self.environment(1))
        assert await migration.wait_exit(30) == 0, migration.log()

    async def start(self, processes: Processes, port: int) -> Running:
        """Start one instance and wait until it is ready."""
        argv = [sys.executable, "-m", "parley_tools.app"]
        proc = processes.start(argv, name="tools", env=self.environment(port))
        base_url = f"http://127.0.0.1:{port}"
        await proc.wait_ready(f"{base_url}/readyz", 30)
        return Running(proc, self.service, base_url)


@dataclass
class Answer:
    """A result as it lay on its partition."""

    result: ToolResult
    partition: int
    headers: dict[str, str]

    @property
    def output(self) -> dict[str, Any]:
        assert isinstance(self.result.output, dict)
        return self.result.output


class Replica:
    """One session replica: a name, a partition of the results topic, a producer."""

    def __init__(
        self, producer: AIOKafkaProducer, consumer: AIOKafkaConsumer, service: str, name: str, partition: int
    ) -> None:
        self._producer = producer
        self._consumer = consumer
        self.service = service
        self.name = name
        self.partition = partition
        self.session_id = str(uuid.uuid4())
        self.answers: list[Answer] = []

    async def send(self, tool: str, arguments: dict[str, Any], **more: Any) -> ToolCall:
        """Ask once; returns the call, whose fields ``more`` overrides."""
        call = self.call(tool, arguments, **more)
        await self.send_raw(to_json(call), call.session_id)
        return call

    def call(self, tool: str, arguments: dict[str, Any], **more: Any) -> ToolCall:
        fields: dict[str, Any] = {
            "call_id": f"call_{uuid.uuid4().hex[:16]}",
            "session_id": self.session_id,
            "business": "cap",
            "business_version": "test",
            "tool": tool,
            "arguments": arguments,
            "deadline_ms": 10_000,
            "reply_partition": self.partition,
            "context": CallerContext(),
        }
        return ToolCall(**(fields | more))

    async def send_raw(
        self,
        value: bytes | None,
        key: str,
        *,
        sent_at: datetime | None = None,
        traceparent: str | None = None,
    ) -> None:
        """Write any record to the service's calls topic."""
        now = sent_at or datetime.now(UTC)
        envelope = Envelope(str(uuid.uuid4()), CALL_TYPE, "/parley/session", now, key, traceparent)
        headers = [*envelope.headers(), (REPLY_TO_HEADER, self.name.encode())]
        await self._producer.send_and_wait(
            f"parley.tool.calls.{self.service}",
            value,
            key=key.encode(),
            headers=headers,
            timestamp_ms=int(now.timestamp() * 1000),
        )

    async def answer(
        self, call_id: str, deadline_s: float = ANSWER_S, *, attempt: int | None = None
    ) -> Answer:
        """Return the answer to one call (or one attempt of it)."""

        async def found() -> Answer | None:
            await self._collect()
            fitting = [a for a in self.answers if a.result.call_id == call_id]
            return next((a for a in fitting if attempt in (None, a.result.attempt)), None)

        return await until(found, deadline_s, f"an answer to {call_id}")

    async def ask(self, tool: str, arguments: dict[str, Any], **more: Any) -> Answer:
        """Ask and wait."""
        call = await self.send(tool, arguments, **more)
        return await self.answer(call.call_id)

    async def collect(self) -> list[Answer]:
        """Return every answer that has arrived."""
        await self._collect()
        return self.answers

    async def _collect(self) -> None:
        batches = await self._consumer.getmany(timeout_ms=50)
        for record in (record for batch in batches.values() for record in batch):
            headers = {name: value.decode() for name, value in record.headers}
            if headers.get(REPLY_TO_HEADER) == self.name:
                result = ToolResult.model_validate_json(record.value)
                self.answers.append(Answer(result, record.partition, headers))


@asynccontextmanager
async def replica(bootstrap_servers: str, service: str, *, partition: int = 7) -> AsyncIterator[Replica]:
    """A session replica that misses no answer from here on."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, auto_offset_reset="latest")
    where = TopicPartition(TOOL_RESULTS.name, partition)
    try:
        await producer.start()
        await consumer.start()
        consumer.assign([where])
        await consumer.seek_to_end(where)
        await consumer.position(where)
        yield Replica(producer, consumer, service, f"session-{uuid.uuid4().hex[:8]}", partition)
    finally:
        await consumer.stop()
        await producer.stop()


async def lead_facts(bootstrap_servers: str, lead_id: str) -> list[Fact]:
    """Return the facts of one lead, in the order of its partition."""
    records = await Topics(bootstrap_servers).read_all(LEAD_EVENTS.name)
    mine = [record for record in records if record.key == lead_id.encode()]
    return [read_fact(Envelope.of_headers(record.headers), record.value) for record in mine]


async def catalog_entries(bootstrap_servers: str, service: str) -> list[tuple[str, dict[str, Any] | None]]:
    """Return key and value of every announcement of a service; null is a tombstone."""
    records = await Topics(bootstrap_servers).read_all(TOOL_CATALOG.name)
    mine = [record for record in records if (record.key or b"").startswith(f"{service}/".encode())]
    return [((r.key or b"").decode(), json.loads(r.value) if r.value else None) for r in mine]
