"""The publisher on a real broker: refused records do not spoil what follows, and every wait has an end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from harness.broker import Broker
from harness.topics import Topics
from parley_common import kafka
from parley_common.contracts.record import Record
from parley_common.errors import DependencyUnavailable, InvalidRecord
from parley_common.kafka import Publisher
from parley_common.settings import KafkaSettings

pytestmark = pytest.mark.kafka


def record(topic: str, value: bytes, partition: int | None = None) -> Record:
    return Record(topic, b"key", value, (), partition)


def refused_bytes(broker: Broker) -> int:
    """A size that a topic of 20,000 bytes refuses; the embedded broker has no limit, so the producer's own."""
    return 2_000_000 if broker.kind == "embedded" else 30_000


@pytest.fixture
async def publisher(bootstrap_servers: str, unique: Callable[[str], str]) -> AsyncIterator[Publisher]:
    opened = Publisher(KafkaSettings(bootstrap_servers=bootstrap_servers), client_id=unique("publisher"))
    await opened.start()
    yield opened
    await opened.aclose()


async def test_a_record_that_the_broker_refuses_does_not_spoil_the_partition_for_those_after_it(
    publisher: Publisher, topics: Topics, kafka_broker: Broker, unique: Callable[[str], str]
) -> None:
    topic = await topics.create(unique("small"), max_message_bytes="20000")
    await publisher.publish(record(topic, b"1"))
    with pytest.raises(InvalidRecord, match="too large"):
        await publisher.publish(record(topic, b"2" * refused_bytes(kafka_broker)))
    await publisher.publish(record(topic, b"3"))
    await publisher.publish(record(topic, b"4"))
    assert [found.value for found in await topics.read_all(topic)] == [b"1", b"3", b"4"]


async def test_a_record_refused_among_many_lets_all_others_through(
    publisher: Publisher, topics: Topics, kafka_broker: Broker, unique: Callable[[str], str]
) -> None:
    topic = await topics.create(unique("many"), 3, max_message_bytes="20000")
    sizes = [10] * 9 + [refused_bytes(kafka_broker)] + [10] * 9

    async def insist(number: int, size: int) -> bool:
        """Write as a relay does: again after an outage, never again after a refusal."""
        for _ in range(5):
            try:
                await publisher.publish(record(topic, b"%d:" % number + b"x" * size, number % 3))
            except DependencyUnavailable:
                continue
            except InvalidRecord:
                return False
            return True
        raise AssertionError(f"record {number} was not taken")

    taken = await asyncio.gather(*(insist(number, size) for number, size in enumerate(sizes)))
    assert taken == [size == 10 for size in sizes]
    found = {(one.value or b"").partition(b":")[0] for one in await topics.read_all(topic)}
    assert found == {b"%d" % number for number, size in enumerate(sizes) if size == 10}


async def test_a_partition_that_does_not_exist_is_the_record_s_fault(
    publisher: Publisher, topics: Topics, unique: Callable[[str], str]
) -> None:
    topic = await topics.create(unique("two"), 2)
    with pytest.raises(InvalidRecord) as refused:
        await publisher.publish(record(topic, b"1", 2))
    assert refused.value.stable_code == "unknown_partition"
    await publisher.publish(record(topic, b"2", 1))


async def test_a_broker_away_is_an_outage_and_closing_with_unsent_records_ends(
    fresh_broker: Broker, unique: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    topics = Topics(fresh_broker.bootstrap_servers)
    topic = await topics.create(unique("away"))
    publisher = Publisher(
        KafkaSettings(bootstrap_servers=fresh_broker.bootstrap_servers), client_id=unique("publisher")
    )
    await publisher.start()
    await publisher.publish(record(topic, b"1"))
    await asyncio.to_thread(fresh_broker.stop)
    monkeypatch.setattr(kafka, "PUBLISH_MS", 500)
    with pytest.raises(DependencyUnavailable):
        await publisher.publish(record(topic, b"2"))
    async with asyncio.timeout(30):
        await publisher.aclose()
    with pytest.raises(DependencyUnavailable, match="not connected"):
        await publisher.publish(record(topic, b"3"))


async def test_the_same_publisher_goes_on_after_a_broker_was_killed_and_came_back(
    fresh_broker: Broker, unique: Callable[[str], str]
) -> None:
    topics = Topics(fresh_broker.bootstrap_servers)
    topic = await topics.create(unique("back"))
    settings = KafkaSettings(bootstrap_servers=fresh_broker.bootstrap_servers)
    publisher = Publisher(settings, client_id=unique("publisher"))
    await publisher.start()
    for number in range(3):
        await publisher.publish(record(topic, b"%d" % number))
    await asyncio.to_thread(fresh_broker.kill9)
    await asyncio.to_thread(fresh_broker.start)
    async with asyncio.timeout(90):
        while True:
            try:
                await publisher.publish(record(topic, b"after"))
            except DependencyUnavailable:
                continue
            break
    await publisher.publish(record(topic, b"later"))
    await publisher.aclose()
    values = [found.value for found in await topics.read_all(topic)]
    assert values[-1] == b"later"
    assert b"after" in values
