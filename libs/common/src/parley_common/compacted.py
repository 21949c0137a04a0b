"""Following a compacted topic: read whole, then as it grows, without a group. Decides nothing about records.

Law: ready only once everything that was there at the start has been read; a broker that goes away is waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from parley_common.contracts.topics import Topic
from parley_common.errors import DependencyUnavailable
from parley_common.kafka import POLL_MS, incoming, partition_reader
from parley_common.settings import KafkaSettings

RETRY_S = 1.0

log = structlog.get_logger("compacted")


async def follow_compacted(
    settings: KafkaSettings,
    topic: Topic,
    stop: asyncio.Event,
    *,
    client_id: str,
    on_record: Callable[[str, bytes | None], None],
    on_ready: Callable[[bool, str], None],
) -> None:
    """Hand each record's key and value (null: a tombstone) to ``on_record`` until ``stop``.

    ``on_ready(ready, why)`` is told when the topic has been read to its present end, and when it is lost.
    """
    while not stop.is_set():
        try:
            async with partition_reader(
                settings, topic, 0, client_id=client_id, from_beginning=True
            ) as reader:
                (where,) = reader.assignment()
                end = (await reader.end_offsets([where]))[where]
                caught_up = False
                while not stop.is_set():
                    if not caught_up and await reader.position(where) >= end:
                        caught_up = True
                        on_ready(True, "")
                    for records in (await reader.getmany(timeout_ms=POLL_MS)).values():
                        for record in map(incoming, records):
                            on_record((record.key or b"").decode("utf-8", "replace"), record.value)
        except (DependencyUnavailable, OSError) as wrong:
            on_ready(False, str(wrong))
            log.warning("compacted.waiting", topic=topic.name, cause=type(wrong).__name__)
            await asyncio.sleep(RETRY_S)
