"""Makes topics, writes records and reads them back, for tests that look at Kafka from outside.

It uses plain aiokafka and no group, so that what it sees does not depend on the code under test.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import for_code

from harness.waiting import until

Headers = Sequence[tuple[str, bytes]]


def unique(name: str) -> str:
    """Return ``name`` with a suffix that no other test has: for topics, groups and client ids."""
    return f"{name}-{uuid.uuid4().hex[:12]}"


@dataclass(frozen=True)
class Record:
    """One record as it lies in its partition."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp_ms: int

    def header(self, name: str) -> str | None:
        """Return the text of the last header of that name; null when there is none."""
        values = [value.decode() for key, value in self.headers if key == name]
        return values[-1] if values else None


class Topics:
    """The topics of one broker."""

    def __init__(self, bootstrap_servers: str) -> None:
        self.bootstrap_servers = bootstrap_servers

    async def create(self, name: str, partition_count: int = 1, **settings: str) -> str:
        """Make a topic and wait until it can be written to; ``settings`` with ``_`` for ``.``."""
        configs = {key.replace("_", "."): value for key, value in settings.items()}
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap_servers)
        try:
            await admin.start()
            answer = await admin.create_topics([NewTopic(name, partition_count, 1, topic_configs=configs)])
            for _, code, *rest in answer.topic_errors:
                if code:
                    raise for_code(code)(*rest)
            await self._wait_for_leaders(admin, name, partition_count)
        finally:
            await admin.close()
        return name

    async def produce(
        self, topic: str, value: bytes | None, *, key: bytes | None = None, headers: Headers = ()
    ) -> None:
        """Write one record and wait for its acknowledgement."""
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap_servers)
        try:
            await producer.start()
            await producer.send_and_wait(topic, value, key=key, headers=list(headers))
        finally:
            await producer.stop()

    async def read(self, topic: str, count: int, deadline_s: float = 15.0) -> list[Record]:
        """Return the first ``count`` records of all partitions, in order of arrival here.

        Raises:
            AssertionError: fewer came within ``deadline_s``; the message says how many.
        """
        records: list[Record] = []
        try:
            async with asyncio.timeout(deadline_s), _reader(self.bootstrap_servers, topic) as reader:
                while len(records) < count:
                    records.append(_record(await reader.getone()))
        except TimeoutError:
            found = [record.value for record in records]
            raise AssertionError(
                f"{topic}: {len(records)} of {count} records in {deadline_s:g} s: {found}"
            ) from None
        return records

    async def read_all(self, topic: str) -> list[Record]:
        """Return every record that the topic holds now."""
        records: list[Record] = []
        async with _reader(self.bootstrap_servers, topic) as reader:
            ends: Mapping[TopicPartition, int] = await reader.end_offsets(list(reader.assignment()))
            for partition, end in ends.items():
                while await reader.position(partition) < end:
                    batch = await reader.getmany(partition, timeout_ms=500)
                    records += [_record(entry) for entries in batch.values() for entry in entries]
        return sorted(records, key=lambda record: (record.partition, record.offset))

    async def _wait_for_leaders(self, admin: AIOKafkaAdminClient, name: str, partition_count: int) -> None:
        async def led() -> bool:
            (topic,) = await admin.describe_topics([name])
            return [part["leader"] >= 0 for part in topic["partitions"]].count(True) == partition_count

        await until(led, 10, f"every partition of {name} to have a leader")


@asynccontextmanager
async def _reader(bootstrap_servers: str, topic: str) -> AsyncIterator[AIOKafkaConsumer]:
    """Open a consumer without a group at the beginning of every partition of ``topic``."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest")
    try:
        await consumer.start()
        partitions = await _partitions(bootstrap_servers, topic)
        assert partitions, f"there is no topic {topic} at {bootstrap_servers}"
        consumer.assign([TopicPartition(topic, partition) for partition in partitions])
        yield consumer
    finally:
        await consumer.stop()


async def _partitions(bootstrap_servers: str, topic: str) -> list[int]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    try:
        await admin.start()
        # All topics, because asking the embedded broker for one by name makes it.
        topics = await admin.describe_topics()
        return [
            part["partition"] for found in topics if found["topic"] == topic for part in found["partitions"]
        ]
    finally:
        await admin.close()


def _record(entry: Any) -> Record:
    return Record(
        topic=entry.topic,
        partition=entry.partition,
        offset=entry.offset,
        key=entry.key,
        value=entry.value,
        headers=tuple(entry.headers),
        timestamp_ms=entry.timestamp,
    )
