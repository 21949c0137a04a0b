"""Applying topics to a real broker: idempotent, side by side, never shrinking, deleting or growing a keyed one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from harness.topics import Topics
from parley_common.contracts.topics import DAY_MS, FACT_TOPICS, TOPICS, Topic, dead_letters
from parley_common.errors import DependencyUnavailable
from parley_common.settings import KafkaSettings
from parley_common.topic_admin import apply_topics, describe_topics

pytestmark = pytest.mark.kafka


@pytest.fixture
def kafka(bootstrap_servers: str) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=bootstrap_servers)


@pytest.fixture
def topic(unique: Callable[[str], str]) -> Topic:
    return Topic(unique("facts"), "lead_id", 3, "tests", "tests", retention_ms=DAY_MS)


async def configs(kafka: KafkaSettings, name: str, *wanted: str) -> dict[str, str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    try:
        await admin.start()
        (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    finally:
        await admin.close()
    return {config[0]: config[1] for config in answer.resources[0][4] if config[0] in wanted}


def actions(changes: list[object]) -> list[str]:
    return [change.action for change in changes]  # type: ignore[attr-defined]


async def test_applying_creates_what_is_missing_and_then_changes_nothing(
    kafka: KafkaSettings, topic: Topic
) -> None:
    both = (topic, dead_letters(topic))
    assert [state.partitions for state in await describe_topics(kafka, both)] == [0, 0]
    assert actions(await apply_topics(kafka, both)) == ["created", "created"]
    assert actions(await apply_topics(kafka, both)) == ["unchanged", "unchanged"]
    assert [state.partitions for state in await describe_topics(kafka, both)] == [3, 3]
    assert await configs(kafka, topic.name, "retention.ms", "cleanup.policy") == topic.config


async def test_a_compacted_topic_is_made_compacted(kafka: KafkaSettings, topic: Topic) -> None:
    compacted = replace(topic, cleanup="compact", retention_ms=None)
    await apply_topics(kafka, (compacted,))
    assert (await configs(kafka, topic.name, "cleanup.policy")) == {"cleanup.policy": "compact"}


@pytest.mark.parametrize("partition_count", [2, 6])
async def test_a_topic_with_another_number_of_partitions_is_refused_and_left_as_it_is(
    kafka: KafkaSettings, topic: Topic, topics: Topics, partition_count: int
) -> None:
    await topics.create(topic.name, partition_count)
    await topics.produce(topic.name, b"kept", key=b"k")
    (change,) = await apply_topics(kafka, (topic,))
    assert change.action == "refused"
    assert f"has {partition_count} partitions, the contract says 3" in change.detail
    (state,) = await describe_topics(kafka, (topic,))
    assert state.partitions == partition_count
    assert [record.value for record in await topics.read_all(topic.name)] == [b"kept"]


async def test_a_setting_that_drifted_is_set_back_and_those_of_an_operator_are_kept(
    kafka: KafkaSettings, topic: Topic, topics: Topics
) -> None:
    await topics.create(topic.name, 3, retention_ms="1000", max_message_bytes="20000")
    await apply_topics(kafka, (topic,))
    assert await configs(kafka, topic.name, "retention.ms", "max.message.bytes") == {
        "retention.ms": str(DAY_MS),
        "max.message.bytes": "20000",
    }


async def test_many_may_apply_at_once(kafka: KafkaSettings, topic: Topic) -> None:
    both = (topic, dead_letters(topic))
    together = await asyncio.gather(*(apply_topics(kafka, both) for _ in range(4)))
    assert all({"refused"}.isdisjoint(actions(changes)) for changes in together)
    assert [state.partitions for state in await describe_topics(kafka, both)] == [3, 3]


async def test_every_topic_of_the_table_can_be_applied_with_its_dead_letters(kafka: KafkaSettings) -> None:
    await apply_topics(kafka)
    states = {state.topic.name: state.partitions for state in await describe_topics(kafka)}
    assert states == {topic.name: topic.partitions for topic in TOPICS}
    assert {f"{topic.name}.dead" for topic in FACT_TOPICS} <= set(states)
    assert actions(await apply_topics(kafka)) == ["unchanged"] * len(TOPICS)


async def test_a_setting_that_the_broker_refuses_is_said(kafka: KafkaSettings, topic: Topic) -> None:
    await apply_topics(kafka, (topic,))
    with pytest.raises(DependencyUnavailable, match=topic.name):
        await apply_topics(kafka, (replace(topic, retention_ms=-7),))


async def test_a_broker_that_is_not_there_is_an_outage_that_names_it(port: Callable[[], int]) -> None:
    place = f"127.0.0.1:{port()}"
    with pytest.raises(DependencyUnavailable, match=place):
        await apply_topics(KafkaSettings(bootstrap_servers=place))
