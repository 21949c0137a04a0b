"""Making the topics of contracts/topics.py true on a broker: idempotent, never shrinks, never deletes.

Law: growing a keyed topic is refused, because records of one key would then stand in two partitions and
their order would be lost.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from parley_common.contracts.topics import TOPICS, Topic
from parley_common.errors import DependencyUnavailable
from parley_common.kafka import client_options
from parley_common.settings import KafkaSettings

SET_ON_TOPIC = 1
"""Kafka's DescribeConfigs, config_source: DYNAMIC_TOPIC_CONFIG."""


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic of ours as the broker has it; ``partitions`` 0 when it is not there."""

    topic: Topic
    partitions: int


@dataclass(frozen=True, slots=True)
class TopicChange:
    """What applying did about one topic."""

    topic: Topic
    action: Literal["created", "unchanged", "refused"]
    detail: str = ""


async def describe_topics(settings: KafkaSettings, topics: Sequence[Topic] = TOPICS) -> list[TopicState]:
    """Return how many partitions each topic has now. Raises DependencyUnavailable."""
    async with _admin(settings) as admin:
        return await _states(admin, topics)


async def apply_topics(settings: KafkaSettings, topics: Sequence[Topic] = TOPICS) -> list[TopicChange]:
    """Create what is missing and say what differs. Safe to run any number of times, side by side.

    Raises DependencyUnavailable.
    """
    async with _admin(settings) as admin:
        changes = [_judge(state) for state in await _states(admin, topics)]
        missing = [change.topic for change in changes if change.action == "created"]
        if missing:
            await _create(admin, missing, settings.replication_factor)
        await _configure(admin, [c.topic for c in changes if c.action == "unchanged"])
        return changes


async def partitions_of(settings: KafkaSettings, topics: Sequence[str] = ()) -> dict[str, int]:
    """Return how many partitions each topic has, of those that are there; of all topics when none is named.

    A consumer does not know before it is assigned to one: aiokafka keeps what its ``topics()`` reads to itself.
    Raises DependencyUnavailable.
    """
    async with _admin(settings) as admin:
        known = set(await admin.list_topics())
        names = [name for name in topics or sorted(known) if name in known]
        described = await admin.describe_topics(names) if names else []
    return {entry["topic"]: len(entry["partitions"]) for entry in described}


def _judge(state: TopicState) -> TopicChange:
    has, needs = state.partitions, state.topic.partitions
    if has == 0:
        return TopicChange(state.topic, "created", f"{needs} partitions")
    if has == needs:
        return TopicChange(state.topic, "unchanged", f"{has} partitions")
    detail = (
        f"has {has} partitions, the contract says {needs}: a keyed topic is never resized; make a new topic"
    )
    return TopicChange(state.topic, "refused", detail)


async def _states(admin: AIOKafkaAdminClient, topics: Sequence[Topic]) -> list[TopicState]:
    known = set(await admin.list_topics())
    names = [topic.name for topic in topics if topic.name in known]
    described = await admin.describe_topics(names) if names else []
    partitions = {entry["topic"]: len(entry["partitions"]) for entry in described}
    return [TopicState(topic, partitions.get(topic.name, 0)) for topic in topics]


async def _create(admin: AIOKafkaAdminClient, topics: Sequence[Topic], replication_factor: int) -> None:
    wanted = [
        NewTopic(topic.name, topic.partitions, replication_factor, topic_configs=topic.config)
        for topic in topics
    ]
    response = await admin.create_topics(wanted)
    for name, code, *rest in response.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            raise DependencyUnavailable(
                f"cannot create {name}: {error.__name__} {rest[0] if rest else ''}".rstrip()
            )


async def _configure(admin: AIOKafkaAdminClient, topics: Sequence[Topic]) -> None:
    """Set what the contract says and keep what an operator set besides: the request replaces a topic's whole set."""
    if not topics:
        return
    wanted = []
    for topic, own in (await _own_configs(admin, topics)).items():
        if topic.config.items() - own.items():
            wanted.append(ConfigResource(ConfigResourceType.TOPIC, topic.name, own | topic.config))
    for answer in await admin.alter_configs(wanted) if wanted else []:
        for code, message, _, name in answer.resources:
            if code:
                raise DependencyUnavailable(
                    f"cannot configure {name}: {for_code(code).__name__} {message or ''}"
                )


async def _own_configs(admin: AIOKafkaAdminClient, topics: Sequence[Topic]) -> dict[Topic, dict[str, str]]:
    """Return what was set on each topic itself, as opposed to the broker's defaults."""
    named = {topic.name: topic for topic in topics}
    found: dict[Topic, dict[str, str]] = {}
    for answer in await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, n) for n in named]):
        for code, message, _, name, configs in answer.resources:
            if code:
                raise DependencyUnavailable(
                    f"cannot describe {name}: {for_code(code).__name__} {message or ''}"
                )
            found[named[name]] = {c[0]: c[1] for c in configs if c[3] == SET_ON_TOPIC and c[1] is not None}
    return found


@asynccontextmanager
async def _admin(settings: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(client_id="parley-topics", **client_options(settings))
    try:
        await admin.start()
        yield admin
    except (KafkaError, OSError) as wrong:
        raise DependencyUnavailable(
            f"Kafka at {settings.bootstrap_servers}: {type(wrong).__name__} {wrong}"
        ) from wrong
    finally:
        await admin.close()
