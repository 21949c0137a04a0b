"""A consuming process that a test can kill in the middle of a record: it takes one and never finishes it."""

from __future__ import annotations

import asyncio
import sys

from parley_common.contracts.record import Envelope, Fact
from parley_common.contracts.topics import Topic
from parley_common.kafka import Publisher
from parley_common.settings import KafkaSettings
from parley_common.settling import FactConsumer


async def main(bootstrap_servers: str, topic: str, group: str) -> None:
    kafka = KafkaSettings(bootstrap_servers=bootstrap_servers)

    async def take(_envelope: Envelope, fact: Fact) -> None:
        print(f"took {fact.key}", flush=True)
        await asyncio.Event().wait()

    consumer = FactConsumer(
        kafka,
        Publisher(kafka, client_id=group),
        topics=(Topic(topic, "lead_id", 1, "tests", "tests"),),
        group=group,
        handler=take,
    )
    await consumer.run(asyncio.Event())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
