"""Reads topics as they grow, without a group: a bystander who commits nothing and takes nothing from anyone.

Law: positions are known before the first wait, so that nothing after the start is missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from parley_common.contracts.topics import FACT_TOPICS, TOOL_RESULTS, TOPICS
from parley_common.errors import ConfigInvalid, DependencyUnavailable
from parley_common.kafka import Incoming, incoming, make_consumer
from parley_common.settings import KafkaSettings
from parley_common.topic_admin import partitions_of

TOOL_CALLS_PREFIX = "parley.tool.calls."
POSITIONS_DEADLINE_S = 20.0
POLL_MS = 250


def default_topics(known: Sequence[str]) -> list[str]:
    """Return what is followed when no topic is named: facts, tool calls of every service, results, dead letters."""
    own = {topic.name for topic in FACT_TOPICS} | {TOOL_RESULTS.name}
    dead = {f"{topic.name}.dead" for topic in FACT_TOPICS}
    return sorted(name for name in known if name in own | dead or name.startswith(TOOL_CALLS_PREFIX))


@asynccontextmanager
async def follow(
    settings: KafkaSettings, topics: Sequence[str] = (), *, from_beginning: bool = False
) -> AsyncIterator[AsyncIterator[Incoming]]:
    """Yield an endless stream of records, positioned when this yields. Empty ``topics``: the default ones.

    Raises:
        ConfigInvalid: a named topic is not there.
        DependencyUnavailable: Kafka does not answer.
    """
    consumer = make_consumer(settings, group=None, client_id="parley-events")
    try:
        try:
            async with asyncio.timeout(POSITIONS_DEADLINE_S):
                places = _places(await partitions_of(settings), topics)
                await consumer.start()
                await _assign(consumer, places, from_beginning)
        except (KafkaError, OSError, TimeoutError) as wrong:
            raise DependencyUnavailable(
                f"Kafka at {settings.bootstrap_servers} cannot be read: {str(wrong) or type(wrong).__name__}",
                remedy="is it running? `parley up` starts it; KAFKA_BOOTSTRAP_SERVERS names another",
            ) from wrong
        yield _records(consumer)
    finally:
        await consumer.stop()


def _places(known: Mapping[str, int], topics: Sequence[str]) -> list[TopicPartition]:
    missing = sorted(set(topics) - set(known))
    if missing:
        raise ConfigInvalid(
            f"no topic {missing[0]!r} on this Kafka",
            remedy=f"`parley topics list` names them{_guess(missing[0])}",
        )
    wanted = list(topics) or default_topics(sorted(known))
    if not wanted:
        raise DependencyUnavailable("this Kafka has no topics of Parley", remedy="run `parley topics apply`")
    return [TopicPartition(topic, partition) for topic in wanted for partition in range(known[topic])]


async def _assign(consumer: AIOKafkaConsumer, places: Sequence[TopicPartition], from_beginning: bool) -> None:
    consumer.assign(places)
    await (consumer.seek_to_beginning(*places) if from_beginning else consumer.seek_to_end(*places))
    # Positions are resolved lazily: without asking, what is written before the first poll would be lost.
    await asyncio.gather(*(consumer.position(place) for place in places))


def _guess(wrong: str) -> str:
    tail = wrong.rsplit(".", 1)[-1]
    near = [topic.name for topic in TOPICS if tail and tail in topic.name]
    return f"; did you mean {near[0]}?" if near else ""


async def _records(consumer: AIOKafkaConsumer) -> AsyncIterator[Incoming]:
    while True:
        batches = await consumer.getmany(timeout_ms=POLL_MS)
        # Partitions come in no order; within one poll, time is the order people expect.
        for record in sorted((r for batch in batches.values() for r in batch), key=lambda r: r.timestamp):
            yield incoming(record)
