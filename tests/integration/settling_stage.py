"""A fact topic of one test on the run's broker, its dead letters, and consumers of it.

The topic has a name of its own, so that a group that begins at the earliest record meets only this test's.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from aiokafka.admin import AIOKafkaAdminClient

from harness.topics import Record as Found
from harness.topics import Topics, unique
from harness.waiting import until
from parley_common.contracts.leads import LeadErased
from parley_common.contracts.record import Envelope, Fact, Record, fact_record
from parley_common.contracts.topics import Topic, dead_letters
from parley_common.errors import DependencyUnavailable
from parley_common.ids import new_id
from parley_common.kafka import Publisher
from parley_common.settings import KafkaSettings
from parley_common.settling import FactConsumer, Handler, RetryBudget
from parley_common.topic_admin import apply_topics

AT = datetime(2026, 3, 2, 15, 4, 5, tzinfo=UTC)
TAKEN_S = 30.0
REJOINED_S = 90.0
"""A broker waits for a killed member's session to end before its group goes on."""
QUICK = RetryBudget(retry_ms=40, first_backoff_ms=10, unavailable_backoff_max_ms=300)


def erased(lead_id: str, number: int) -> LeadErased:
    return LeadErased(lead_id=lead_id, seq=number, business="cap", at=AT, subject_hash="0" * 8)


@dataclass
class Desk:
    """A handler that remembers what it was given and does what the test says about each record."""

    on_fact: Callable[[LeadErased], Awaitable[None] | None] = lambda _fact: None
    taken: list[tuple[str, int]] = field(default_factory=list)

    async def __call__(self, _envelope: Envelope, fact: Fact) -> None:
        assert isinstance(fact, LeadErased)
        self.taken.append((fact.lead_id, fact.seq))
        done = self.on_fact(fact)
        if done is not None:
            await done

    def times(self, lead_id: str, number: int) -> int:
        return Counter(self.taken)[lead_id, number]


class DoorPublisher(Publisher):
    """The real publisher behind a door: while it is shut no dead letter can be written."""

    shut = False

    async def publish(self, record: Record) -> None:
        if self.shut:
            raise DependencyUnavailable("the dead letters cannot be written")
        await super().publish(record)


@dataclass
class Running:
    """One consumer at work; ``told`` is what it said of its readiness."""

    told: list[tuple[bool, str]] = field(default_factory=list)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    @property
    def is_ready(self) -> bool:
        return bool(self.told) and self.told[-1][0]

    @property
    def waits_count(self) -> int:
        """How often it said that it waits for something."""
        return sum(not ready for ready, _ in self.told)


@dataclass
class Stage:
    """One test's topic, dead letters, group and publisher."""

    kafka: KafkaSettings
    topics: Topics
    publisher: DoorPublisher
    topic: Topic
    group: str

    @asynccontextmanager
    async def consuming(self, handler: Handler, budget: RetryBudget = QUICK) -> AsyncIterator[Running]:
        """Run one more member of the group; what ends it early is raised on leaving."""
        running = Running()
        consumer = FactConsumer(
            self.kafka,
            self.publisher,
            topics=(self.topic,),
            group=self.group,
            handler=handler,
            on_ready=lambda ready, why: running.told.append((ready, why)),
            budget=budget,
        )
        async with asyncio.TaskGroup() as group:
            running.task = group.create_task(consumer.run(running.stop))
            await until(lambda: running.told, REJOINED_S, "the consumer to say whether it is ready")
            yield running
            running.stop.set()

    async def write(self, lead_id: str, number: int) -> None:
        record = fact_record(erased(lead_id, number), source="tools", time=AT)
        await self.publisher.publish(replace(record, topic=self.topic.name))

    async def write_raw(self, value: bytes | None, key: bytes = b"k", **headers: str) -> None:
        """Write a value under a whole envelope, but for the headers given."""
        envelope = dict(Envelope(new_id(), LeadErased.fact_type, "/parley/tools", AT, "k").headers())
        envelope |= {name: text.encode() for name, text in headers.items()}
        await self.topics.produce(self.topic.name, value, key=key, headers=tuple(envelope.items()))

    async def committed(self) -> dict[int, int]:
        """Return the group's committed offset of each partition that has one."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.kafka.bootstrap_servers)
        try:
            await admin.start()
            offsets = await admin.list_consumer_group_offsets(self.group)
        finally:
            await admin.close()
        return {where.partition: found.offset for where, found in offsets.items() if found.offset > 0}

    async def until_committed(self, count: int) -> None:
        """Wait until ``count`` records are committed over all partitions."""

        async def all_of_them() -> bool:
            return sum((await self.committed()).values()) == count

        await until(all_of_them, TAKEN_S, f"{count} records to be committed")

    async def dead(self) -> list[Found]:
        return await self.topics.read_all(dead_letters(self.topic).name)


@asynccontextmanager
async def open_stage(bootstrap_servers: str, *, partition_count: int = 1) -> AsyncIterator[Stage]:
    """Make the topic and its dead letters, and connect a publisher."""
    kafka = KafkaSettings(bootstrap_servers=bootstrap_servers)
    topic = Topic(unique("facts"), "lead_id", partition_count, "tests", "tests", retention_ms=3_600_000)
    await apply_topics(kafka, (topic, dead_letters(topic)))
    publisher = DoorPublisher(kafka, client_id=unique("test"))
    await publisher.start()
    try:
        yield Stage(kafka, Topics(bootstrap_servers), publisher, topic, unique("settling"))
    finally:
        await publisher.aclose()
