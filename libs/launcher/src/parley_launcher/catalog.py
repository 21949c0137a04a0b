"""Which tools are there now: reads the announcements on parley.tool.catalog, as `parley check --online` needs.

Law: an announcement older than its lifetime counts for nothing, as for the session service.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from parley_common.business import Business, Finding
from parley_common.contracts.record import read_contract
from parley_common.contracts.tool_calls import ANNOUNCEMENT_DEAD_AFTER_S, Announcement
from parley_common.contracts.topics import OWN_TOOL_SERVICE, TOOL_CATALOG
from parley_common.errors import DependencyUnavailable, InvalidRecord
from parley_common.kafka import partition_reader
from parley_common.settings import KafkaSettings

READ_DEADLINE_S = 15.0


async def announced_tools(settings: KafkaSettings) -> frozenset[str]:
    """Return every tool announced now as ``service.tool``. Raises DependencyUnavailable."""
    newest: dict[bytes, Announcement] = {}
    reader = partition_reader(settings, TOOL_CATALOG, 0, client_id="parley-check", from_beginning=True)
    async with reader as consumer:
        try:
            async with asyncio.timeout(READ_DEADLINE_S):
                await _read_all(consumer, newest)
        except (KafkaError, TimeoutError) as wrong:
            raise DependencyUnavailable(f"cannot read {TOOL_CATALOG.name}: {type(wrong).__name__}") from wrong
    return tools_of(newest.values(), datetime.now(UTC))


def tools_of(announcements: Iterable[Announcement], now: datetime) -> frozenset[str]:
    """Return the tools of the announcements that are alive at ``now``."""
    lifetime = timedelta(seconds=ANNOUNCEMENT_DEAD_AFTER_S)
    alive = (one for one in announcements if now - one.announced_at < lifetime)
    return frozenset(f"{one.service}.{tool.name}" for one in alive for tool in one.tools)


def unknown_tools(folder: Path, checked: Business, announced: frozenset[str]) -> list[Finding]:
    """Return an error for each tool of a business that no service announces, with its line."""
    path = folder / "business.yaml"
    lines = path.read_text(encoding="utf-8").splitlines()
    findings = []
    for tool in checked.config.tools:
        full = tool if "." in tool else f"{OWN_TOOL_SERVICE}.{tool}"
        if full not in announced:
            line = next((at for at, text in enumerate(lines, 1) if tool in text), 0)
            message = f"no tool service announces {full} now; announced: {', '.join(sorted(announced)) or 'nothing'}"
            findings.append(Finding("error", path, line, message))
    return findings


async def _read_all(consumer: AIOKafkaConsumer, newest: dict[bytes, Announcement]) -> None:
    """Read up to what was the end when we began; a tombstone takes an announcement back."""
    where = TopicPartition(TOOL_CATALOG.name, 0)
    end = (await consumer.end_offsets([where]))[where]
    while await consumer.position(where) < end:
        for record in (await consumer.getmany(timeout_ms=250)).get(where, ()):
            newest.pop(record.key, None)
            if record.value is not None:
                try:
                    newest[record.key] = read_contract(Announcement, record.value)
                except InvalidRecord:
                    continue  # what the session service cannot read is not announced either
