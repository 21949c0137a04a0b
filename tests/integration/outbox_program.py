"""A relay process that a test can kill between a record's acknowledgement and its mark."""

from __future__ import annotations

import asyncio
import sys

from parley_common.contracts.record import Record
from parley_common.db import Database
from parley_common.kafka import Publisher
from parley_common.outbox import Relay
from parley_common.settings import KafkaSettings
from unit.common.stores import OUTBOX_TABLES, SCHEMA


async def main(bootstrap_servers: str, url: str, last: str) -> None:
    publisher = Publisher(KafkaSettings(bootstrap_servers=bootstrap_servers), client_id="killed-relay")
    await publisher.start()

    async def publish(record: Record) -> None:
        await publisher.publish(record)
        if record.value == last.encode():
            print(f"acknowledged {last}", flush=True)
            await asyncio.Event().wait()

    relay = Relay(Database(url, schema=SCHEMA), OUTBOX_TABLES, publish, name="killed")
    await relay.run(asyncio.Event())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
