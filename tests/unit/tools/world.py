"""A tools service without Kafka: a real database, a hand-driven clock, and a publisher that remembers.

Cannot imitate a broker: what is published here was never on a topic.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
from sqlalchemy import text

from parley_common.business import Business, load
from parley_common.clock import ManualClock
from parley_common.contracts.facts import read_fact
from parley_common.contracts.record import Envelope, Fact, Record, header_dict
from parley_common.contracts.tool_calls import REPLY_TO_HEADER, CallerContext, ToolCall, ToolResult
from parley_common.db import Database
from parley_common.errors import DependencyUnavailable
from parley_common.outbox import Outbox
from parley_tools.calls import Arrived, CallTable
from parley_tools.context import Resources
from parley_tools.executor import Executor
from parley_tools.kits import KITS
from parley_tools.meaning import Meaning
from parley_tools.offer import Offer
from parley_tools.providers import WebSearch
from parley_tools.registry import Registry, Tool
from parley_tools.replies import Replies
from parley_tools.store import OUTBOX, SCHEMA
from parley_tools.upkeep import MIGRATIONS, seed_records

CAP = Path(__file__).parents[3] / "businesses" / "cap"
LEASE_S = 3.0


@dataclass
class Published:
    """A broker's producer as a list; ``away_count`` publishes fail first."""

    records: list[Record] = field(default_factory=list)
    away_count: int = 0

    async def __call__(self, record: Record) -> None:
        if self.away_count > 0:
            self.away_count -= 1
            raise DependencyUnavailable("no broker")
        self.records.append(record)

    def results(self) -> list[ToolResult]:
        return [ToolResult.model_validate_json(record.value or b"") for record in self.records]


@dataclass
class Worker:
    """One instance: its executor and the name it claims calls by."""

    executor: Executor
    calls: CallTable


class World:
    """One database, any number of workers on it."""

    def __init__(
        self, database: Database, http: httpx.AsyncClient, businesses: Mapping[str, Business]
    ) -> None:
        self.database = database
        self.http = http
        self.businesses = dict(businesses)
        self.clock = ManualClock()
        self.published = Published()
        self.outbox = Outbox(OUTBOX, source="tools")

    def worker(
        self,
        name: str = "worker-1",
        *,
        tools: Sequence[Tool] = (),
        kits: Sequence[ModuleType] = KITS,
        web_search: WebSearch | None = None,
        meaning: Meaning | None = None,
        offer: Offer | None = None,
    ) -> Worker:
        """Return a worker with the tools given, or those of the kits."""
        registry = Registry(tools) if tools else Registry.of_kits(kits)
        calls = CallTable(name, lease_s=LEASE_S)
        resources = Resources(self.outbox, self.http, calls.newest_output, web_search, meaning)
        replies = Replies(self.published, self.clock, source="tools")
        offer = offer or Offer("tools", registry, self.businesses)
        return Worker(Executor(offer, self.database, calls, replies, resources, self.clock), calls)

    def arrived(self, tool: str, arguments: dict[str, Any] | None = None, **more: Any) -> Arrived:
        """Return a call as if its record had just been written."""
        reply_to = more.pop("reply_to", "replica-a")
        fields: dict[str, Any] = {
            "call_id": "call-1",
            "session_id": "session-1",
            "business": "cap",
            "business_version": "1",
            "tool": tool,
            "arguments": arguments or {},
            "deadline_ms": 5_000,
            "reply_partition": 3,
            "context": CallerContext(),
        }
        call = ToolCall(**(fields | more))
        return Arrived(call, reply_to, self.clock.now() + timedelta(milliseconds=call.deadline_ms))

    async def ask(self, worker: Worker, tool: str, arguments: dict[str, Any], **more: Any) -> ToolResult:
        """Run one call to its end and return its answer."""
        before = len(self.published.records)
        assert await worker.executor.handle(self.arrived(tool, arguments, **more)) is None
        assert len(self.published.records) == before + 1
        return self.published.results()[-1]

    def addresses(self) -> list[tuple[int | None, str]]:
        """Return the partition and replica of each answer."""
        return [
            (record.partition, header_dict(record.headers)[REPLY_TO_HEADER])
            for record in self.published.records
        ]

    async def rows(self, query: str) -> list[Any]:
        """Return what a query finds, committed."""
        async with self.database.begin() as db:
            return list((await db.execute(text(query))).all())

    async def facts(self) -> list[Fact]:
        """Return the facts in the outbox, oldest first."""
        found = []
        async with self.database.begin() as db:
            for row in (await db.execute(OUTBOX.rows.select().order_by(OUTBOX.rows.c.id))).mappings():
                envelope = Envelope.of_headers(dict(row["headers"]))
                found.append(read_fact(envelope, bytes(row["value"])))
        return found


@asynccontextmanager
async def world(url: str, *folders: Path) -> AsyncIterator[World]:
    """A migrated database and the businesses of ``folders`` (Cap when none is given)."""
    database = Database(url, schema=SCHEMA)
    try:
        await database.migrate(MIGRATIONS)
        async with httpx.AsyncClient() as http:
            made = World(database, http, {folder.name: load(folder) for folder in folders or (CAP,)})
            tools = Registry.of_kits(KITS)
            await seed_records(database, tools, made.businesses.values(), "tools", made.clock)
            yield made
    finally:
        await database.aclose()


def business_with(folder: Path, *tools: str) -> Business:
    """Return Cap, copied into ``folder``, naming only ``tools``."""
    copy = folder / "cap"
    shutil.copytree(CAP, copy)
    lines = (copy / "business.yaml").read_text().split("\ntools:\n")
    rest = lines[1].split("\n\n", 1)[1]
    named = "".join(f"  - {tool}\n" for tool in tools)
    (copy / "business.yaml").write_text(f"{lines[0]}\ntools:\n{named}\n{rest}")
    return load(copy)
