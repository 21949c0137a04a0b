"""What Parley needs of any broker holds on the strongest one found here and on the embedded one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError

from harness.broker import Broker
from harness.kafka import start_broker
from harness.topics import Topics
from harness.waiting import until
from parley_launcher.embedded_kafka import answers_metadata

Unique = Callable[[str], str]


@pytest.fixture(scope="module")
def embedded_broker() -> Iterator[Broker]:
    broker, _ = start_broker(["embedded"])
    yield broker
    broker.close()


@pytest.fixture(params=["strongest", "embedded"])
def any_topics(request: pytest.FixtureRequest) -> Topics:
    name = "kafka_broker" if request.param == "strongest" else "embedded_broker"
    broker: Broker = request.getfixturevalue(name)
    return Topics(broker.bootstrap_servers)


@pytest.fixture(params=["strongest", "embedded"])
def own_broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    if request.param == "strongest":
        yield request.getfixturevalue("fresh_broker")
        return
    broker, _ = start_broker(["embedded"])
    yield broker
    broker.close()


async def test_a_record_comes_back_whole(any_topics: Topics, unique: Unique) -> None:
    topic = await any_topics.create(unique("whole"))
    await any_topics.produce(
        topic, b'{"a": 1}', key=b"k", headers=[("ce_id", b"1"), ("ce_type", "ü".encode())]
    )
    (record,) = await any_topics.read(topic, 1)
    assert (record.value, record.key, record.header("ce_type"), record.offset) == (b'{"a": 1}', b"k", "ü", 0)
    assert record.header("absent") is None


async def test_a_tombstone_has_no_value(any_topics: Topics, unique: Unique) -> None:
    topic = await any_topics.create(unique("compacted"), cleanup_policy="compact")
    await any_topics.produce(topic, None, key=b"k")
    assert [record.value for record in await any_topics.read_all(topic)] == [None]


async def test_records_of_one_key_stay_in_order_on_one_partition(any_topics: Topics, unique: Unique) -> None:
    topic = await any_topics.create(unique("keyed"), 24)
    producer = AIOKafkaProducer(bootstrap_servers=any_topics.bootstrap_servers, enable_idempotence=True)
    await producer.start()
    for number in range(60):
        await producer.send(topic, str(number).encode(), key=f"key-{number % 3}".encode())
    await producer.stop()
    records = await any_topics.read_all(topic)
    assert len(records) == 60
    for key in (b"key-0", b"key-1", b"key-2"):
        mine = [record for record in records if record.key == key]
        assert len({record.partition for record in mine}) == 1
        assert [int(record.value or b"-1") for record in mine] == list(range(int(key[-1:]), 60, 3))


async def test_a_topic_that_exists_is_said_to_exist(any_topics: Topics, unique: Unique) -> None:
    topic = await any_topics.create(unique("twice"))
    with pytest.raises(TopicAlreadyExistsError):
        await any_topics.create(topic)


async def test_a_topics_settings_can_be_read_back(any_topics: Topics, unique: Unique) -> None:
    topic = await any_topics.create(unique("kept"), retention_ms="3600000")
    admin = AIOKafkaAdminClient(bootstrap_servers=any_topics.bootstrap_servers)
    await admin.start()
    (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    await admin.close()
    settings = {entry[0]: entry[1] for entry in answer.resources[0][4]}
    assert settings["retention.ms"] == "3600000"


async def test_a_missing_topic_is_not_made_by_looking_at_it(any_topics: Topics, unique: Unique) -> None:
    name = unique("absent")
    with pytest.raises(AssertionError, match="there is no topic"):
        await any_topics.read(name, 1, deadline_s=3)
    with pytest.raises(AssertionError, match="there is no topic"):
        await any_topics.read_all(name)


async def test_a_group_goes_on_after_its_last_commit(any_topics: Topics, unique: Unique) -> None:
    topic, group = await any_topics.create(unique("grouped"), 2), unique("group")
    for number in range(6):
        await any_topics.produce(topic, str(number).encode(), key=b"one key")
    first = await _member(any_topics, topic, group)
    for _ in range(4):
        entry = await _next(first)
        if entry.value == b"2":
            await first.commit({TopicPartition(topic, entry.partition): entry.offset + 1})
    await first.stop()
    second = await _member(any_topics, topic, group)
    assert (await _next(second)).value == b"3"
    await second.stop()


async def test_members_of_a_group_share_the_partitions_and_take_over_those_of_one_that_leaves(
    any_topics: Topics, unique: Unique
) -> None:
    topic, group = await any_topics.create(unique("shared"), 4), unique("group")
    async with asyncio.timeout(60):
        first, second = await _member(any_topics, topic, group), await _member(any_topics, topic, group)
        async with asyncio.TaskGroup() as polling:
            tasks = [polling.create_task(_poll(member)) for member in (first, second)]
            await until(lambda: len(first.assignment()) == len(second.assignment()) == 2, 20, "two each")
            tasks[1].cancel()
            await second.stop()
            await until(lambda: len(first.assignment()) == 4, 20, "the one left to have all")
            tasks[0].cancel()
        await first.stop()


async def test_a_partition_is_read_from_latest_without_a_group(any_topics: Topics, unique: Unique) -> None:
    topic = await any_topics.create(unique("replies"), 64)
    producer = AIOKafkaProducer(bootstrap_servers=any_topics.bootstrap_servers)
    await producer.start()
    await producer.send_and_wait(topic, b"before", partition=7)
    reader = AIOKafkaConsumer(bootstrap_servers=any_topics.bootstrap_servers, auto_offset_reset="latest")
    await reader.start()
    reader.assign([TopicPartition(topic, 7)])
    await reader.position(TopicPartition(topic, 7))
    await producer.send_and_wait(topic, b"other partition", partition=8)
    await producer.send_and_wait(topic, b"after", partition=7)
    assert (await _next(reader)).value == b"after"
    await reader.stop()
    await producer.stop()


async def test_fewer_records_than_awaited_fail_with_what_came(any_topics: Topics, unique: Unique) -> None:
    topic = await any_topics.create(unique("few"))
    await any_topics.produce(topic, b"only one")
    with pytest.raises(AssertionError, match=r"1 of 2 records in 1 s: \[b'only one'\]"):
        await any_topics.read(topic, 2, deadline_s=1)


async def test_a_stopped_broker_comes_back_on_its_port_with_its_records(own_broker: Broker) -> None:
    topics = Topics(own_broker.bootstrap_servers)
    await topics.create("kept", 2)
    await topics.produce("kept", b"still there")
    own_broker.stop()
    own_broker.start()
    assert own_broker.bootstrap_servers == topics.bootstrap_servers
    assert [record.value for record in await topics.read_all("kept")] == [b"still there"]


async def test_a_killed_broker_comes_back_and_but_for_the_embedded_one_keeps_what_it_acknowledged(
    own_broker: Broker,
) -> None:
    topics = Topics(own_broker.bootstrap_servers)
    await topics.create("before")
    await topics.produce("before", b"acknowledged")
    own_broker.kill9()
    own_broker.start()
    if own_broker.kind != "embedded":
        assert [record.value for record in await topics.read_all("before")] == [b"acknowledged"]
    await topics.create("after")
    await topics.produce("after", b"goes on")
    assert [record.value for record in await topics.read_all("after")] == [b"goes on"]


async def test_a_frozen_broker_answers_again_once_it_thaws(own_broker: Broker) -> None:
    topics = Topics(own_broker.bootstrap_servers)
    await topics.create("slow")
    own_broker.freeze()
    assert not await answers_metadata(own_broker.bootstrap_servers)
    own_broker.thaw()
    await topics.produce("slow", b"x")
    assert [record.value for record in await topics.read_all("slow")] == [b"x"]


def test_two_brokers_run_side_by_side(own_broker: Broker) -> None:
    other, _ = start_broker(["embedded"])
    assert other.bootstrap_servers != own_broker.bootstrap_servers
    other.close()


async def _member(topics: Topics, topic: str, group: str) -> AIOKafkaConsumer:
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=topics.bootstrap_servers,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        heartbeat_interval_ms=200,
        session_timeout_ms=6000,
    )
    await consumer.start()
    return consumer


async def _next(consumer: AIOKafkaConsumer) -> Any:
    async with asyncio.timeout(15):
        return await consumer.getone()


async def _poll(consumer: AIOKafkaConsumer) -> None:
    while True:
        await consumer.getmany(timeout_ms=100)
