"""`parley events` on a real broker: every record from now on, or from the beginning, of the topics it was given."""

from __future__ import annotations

import asyncio

import pytest

from parley_common.contracts.record import Record
from parley_common.errors import ConfigInvalid
from parley_common.kafka import Publisher
from parley_common.settings import KafkaSettings
from parley_common.topic_admin import apply_topics, partitions_of
from parley_launcher.facts.follow import follow


async def write(settings: KafkaSettings, *values: bytes) -> None:
    publisher = Publisher(settings, client_id="follow-test")
    await publisher.start()
    for value in values:
        await publisher.publish(Record("parley.lead.events", value, value, ()))
    await publisher.aclose()


async def test_it_follows_from_now_on_or_from_the_beginning(bootstrap_servers: str) -> None:
    settings = KafkaSettings(bootstrap_servers=bootstrap_servers)
    await apply_topics(settings)
    assert (await partitions_of(settings, ["parley.lead.events", "no.such.topic"])) == {
        "parley.lead.events": 24
    }
    await write(settings, b"follow-before")
    async with follow(settings) as records, asyncio.timeout(60):
        await write(settings, b"follow-1", b"follow-2")
        seen = [(await anext(records)).value for _ in range(2)]
    assert sorted(seen, key=str) == [b"follow-1", b"follow-2"]
    async with follow(settings, ["parley.lead.events"], from_beginning=True) as records, asyncio.timeout(60):
        found: set[bytes | None] = set()
        while not {b"follow-before", b"follow-1", b"follow-2"} <= found:
            found.add((await anext(records)).value)


async def test_a_topic_that_is_not_there_is_said(bootstrap_servers: str) -> None:
    settings = KafkaSettings(bootstrap_servers=bootstrap_servers)
    await apply_topics(settings)
    with pytest.raises(ConfigInvalid, match=r"no topic 'parley.lead.event'"):
        async with follow(settings, ["parley.lead.event"]):
            raise AssertionError("it followed a topic that is not there")
