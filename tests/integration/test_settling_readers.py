"""Readers without a group, waiting for a broker, and the options that clients are given."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from harness.broker import Broker
from harness.topics import Topics
from harness.waiting import until
from parley_common.contracts.topics import Topic
from parley_common.errors import ConfigInvalid, DependencyUnavailable
from parley_common.kafka import Publisher, client_options, connect, partition_reader
from parley_common.settings import KafkaSettings

pytestmark = pytest.mark.kafka


async def test_a_reader_from_the_end_misses_nothing_that_is_written_after_it_began(
    topics: Topics, unique: Callable[[str], str]
) -> None:
    topic = Topic(await topics.create(unique("replies"), 2), "explicit partition", 2, "tests", "tests")
    settings = KafkaSettings(bootstrap_servers=topics.bootstrap_servers)
    await topics.produce(topic.name, b"before")
    publisher = Publisher(settings, client_id="test")
    await publisher.start()
    for number in range(5):  # a race would not lose every time
        async with partition_reader(settings, topic, 1, client_id="test") as reader:
            await topics.produce(topic.name, b"other partition", key=None)
            producer = publisher._producer
            assert producer is not None
            await producer.send_and_wait(topic.name, b"%d" % number, partition=1)
            record = await asyncio.wait_for(reader.getone(), 15)
            while record.value == b"other partition":  # the partitioner may have chosen ours
                record = await asyncio.wait_for(reader.getone(), 15)
            assert (record.partition, record.value) == (1, b"%d" % number)
    await publisher.aclose()


async def test_a_reader_from_the_beginning_reads_what_was_there(
    topics: Topics, unique: Callable[[str], str]
) -> None:
    topic = Topic(await topics.create(unique("catalog")), "k", 1, "tests", "tests", "compact")
    settings = KafkaSettings(bootstrap_servers=topics.bootstrap_servers)
    await topics.produce(topic.name, b"first")
    async with partition_reader(settings, topic, 0, client_id="test", from_beginning=True) as reader:
        assert (await asyncio.wait_for(reader.getone(), 15)).value == b"first"


async def test_a_reader_of_a_broker_that_is_not_there_is_an_outage(port: Callable[[], int]) -> None:
    settings = KafkaSettings(bootstrap_servers=f"127.0.0.1:{port()}")
    topic = Topic("nothing", "k", 1, "tests", "tests")
    with pytest.raises(DependencyUnavailable):
        async with partition_reader(settings, topic, 0, client_id="test"):
            raise AssertionError("there is nothing to read")


async def test_connecting_waits_for_a_broker_says_so_and_succeeds_when_it_comes(fresh_broker: Broker) -> None:
    publisher = Publisher(KafkaSettings(bootstrap_servers=fresh_broker.bootstrap_servers), client_id="test")
    waiting: list[str] = []
    await asyncio.to_thread(fresh_broker.stop)
    async with asyncio.TaskGroup() as group:
        connecting = group.create_task(
            connect(publisher.start, asyncio.Event(), what="Kafka", on_waiting=waiting.append)
        )
        await until(lambda: waiting, 30, "the wait to be told")
        await asyncio.to_thread(fresh_broker.start)
    assert await connecting
    assert waiting[0].startswith("Kafka: ")
    await publisher.aclose()


async def test_connecting_ends_when_told_to_stop(port: Callable[[], int]) -> None:
    stop = asyncio.Event()
    publisher = Publisher(KafkaSettings(bootstrap_servers=f"127.0.0.1:{port()}"), client_id="test")
    assert not await connect(publisher.start, stop, what="Kafka", on_waiting=lambda _why: stop.set())


def test_sasl_without_a_name_and_password_is_a_setting_that_is_missing() -> None:
    with pytest.raises(ConfigInvalid, match="KAFKA_SASL_USERNAME"):
        client_options(KafkaSettings(security_protocol="SASL_SSL"))


def test_certificates_that_cannot_be_read_are_a_wrong_setting(tmp_path: object) -> None:
    with pytest.raises(ConfigInvalid, match="KAFKA_SSL"):
        client_options(KafkaSettings(security_protocol="SSL", ssl_ca_file=f"{tmp_path}/none.pem"))  # type: ignore[arg-type]
