"""One relay of an outbox, as a service has it: publishes what lies there, says what that took, and ends.

python -m load.bench.outbox_relay --servers 127.0.0.1:9092 --database postgresql://… --facts 2000
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time

from parley_common.contracts.record import Record
from parley_common.db import Database
from parley_common.kafka import Publisher
from parley_common.outbox import Relay
from parley_common.settings import KafkaSettings
from unit.common.stores import OUTBOX_TABLES, SCHEMA


async def run(servers: str, url: str, facts: int) -> dict[str, float]:
    """Relay until so many facts are acknowledged and marked; return how long that took, and processor time."""
    publisher = Publisher(KafkaSettings(bootstrap_servers=servers), client_id="outbox-relay")
    await publisher.start()
    database = Database(url, schema=SCHEMA)
    await database.ping()
    stop = asyncio.Event()
    published = 0

    async def publish(record: Record) -> None:
        nonlocal published
        await publisher.publish(record)
        published += 1
        if published == facts:
            stop.set()

    began_s, used_s = time.monotonic(), time.process_time()
    await Relay(database, OUTBOX_TABLES, publish, name="bench").run(stop)
    took = {"took_s": time.monotonic() - began_s, "cpu_s": time.process_time() - used_s}
    await publisher.aclose()
    await database.aclose()
    return took


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--servers", required=True)
    parser.add_argument("--database", required=True)
    parser.add_argument("--facts", type=int, required=True)
    args = parser.parse_args()
    print(json.dumps(asyncio.run(run(args.servers, args.database, args.facts))), flush=True)


if __name__ == "__main__":
    main()
