"""The tools that are announced now, kept from the compacted catalog topic. Decides what a name means.

Does not call tools. Law: an instance that has not announced itself for 15 s is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import structlog

from parley_common.contracts.record import read_contract
from parley_common.contracts.tool_calls import ANNOUNCEMENT_DEAD_AFTER_S, Announcement, ToolSpec
from parley_common.contracts.topics import OWN_TOOL_SERVICE, TOOL_CATALOG
from parley_common.errors import DependencyUnavailable, InvalidRecord
from parley_common.kafka import POLL_MS, incoming, partition_reader
from parley_common.settings import KafkaSettings
from parley_session.core.state import ToolTarget

log = structlog.get_logger("catalog")


@dataclass(frozen=True, slots=True)
class CatalogTool:
    """A tool somebody announces, and where it is called."""

    service: str
    calls_topic: str
    spec: ToolSpec


class Catalog:
    """All announcements by instance; the newest of a service counts."""

    def __init__(self) -> None:
        self._announcements: dict[str, Announcement] = {}
        self._changed = asyncio.Event()

    def put(self, key: str, announcement: Announcement | None) -> None:
        """Take in a record of the catalog topic; null takes the instance away."""
        if announcement is None:
            self._announcements.pop(key, None)
        else:
            self._announcements[key] = announcement
        self._changed.set()
        self._changed = asyncio.Event()

    def find(self, name: str, now: datetime) -> CatalogTool | None:
        """Return the tool a business names as ``tool`` or ``service.tool``; null when nobody announces it."""
        service, _, tool = name.rpartition(".")
        service = service or OWN_TOOL_SERVICE
        dead = now - timedelta(seconds=ANNOUNCEMENT_DEAD_AFTER_S)
        alive = [a for a in self._announcements.values() if a.service == service and a.announced_at >= dead]
        for announcement in sorted(alive, key=lambda a: a.announced_at, reverse=True):
            for spec in announcement.tools:
                if spec.name == tool:
                    return CatalogTool(service, announcement.calls_topic, spec)
        return None

    async def resolve(self, names: Iterable[str], *, wait_ms: int) -> tuple[CatalogTool, ...]:
        """Return the tools of ``names``, waiting up to ``wait_ms`` for those not announced yet.

        A tool that nobody announces is left out and logged: the session goes on without it.
        """
        wanted = list(names)
        try:
            async with asyncio.timeout(wait_ms / 1000):
                while any(self.find(name, datetime.now(UTC)) is None for name in wanted):
                    await self._changed.wait()
        except TimeoutError:
            missing = [name for name in wanted if self.find(name, datetime.now(UTC)) is None]
            log.warning("catalog.tools_missing", tools=missing)
        found = (self.find(name, datetime.now(UTC)) for name in wanted)
        return tuple(tool for tool in found if tool is not None)


def model_names(tools: Iterable[CatalogTool]) -> list[tuple[str, CatalogTool]]:
    """Return each tool with the name the model sees: its own, or ``service__tool`` where two would clash."""
    listed = list(tools)
    own = [tool.spec.name for tool in listed]
    return [
        (f"{tool.service}__{tool.spec.name}" if own.count(tool.spec.name) > 1 else tool.spec.name, tool)
        for tool in listed
    ]


def target(name: str, tool: CatalogTool) -> ToolTarget:
    """Return what the core needs to know of a tool."""
    emits = " ".join(tool.spec.emits)
    outcome: Literal["lead", "case", "none"] = "none"
    if "parley.lead." in emits:
        outcome = "lead"
    elif "parley.case." in emits:
        outcome = "case"
    return ToolTarget(
        name, tool.service, tool.spec.name, tool.spec.tool_class, tool.spec.deadline_ms, outcome
    )


def function(name: str, tool: CatalogTool) -> dict[str, Any]:
    """Return the tool as upstream is told of it."""
    return {
        "type": "function",
        "name": name,
        "description": tool.spec.description,
        "parameters": tool.spec.parameters,
    }


async def follow(
    catalog: Catalog,
    settings: KafkaSettings,
    stop: asyncio.Event,
    *,
    client_id: str,
    on_ready: Callable[[bool, str], None],
) -> None:
    """Keep ``catalog`` true until ``stop``; ready once the topic has been read to its present end."""
    while not stop.is_set():
        try:
            async with partition_reader(
                settings, TOOL_CATALOG, 0, client_id=client_id, from_beginning=True
            ) as reader:
                (where,) = reader.assignment()
                end = (await reader.end_offsets([where]))[where]
                caught_up = False
                while not stop.is_set():
                    caught_up = caught_up or await reader.position(where) >= end
                    if caught_up:
                        on_ready(True, "")
                    for records in (await reader.getmany(timeout_ms=POLL_MS)).values():
                        for record in map(incoming, records):
                            _take(catalog, (record.key or b"").decode("utf-8", "replace"), record.value)
        except (DependencyUnavailable, OSError) as wrong:
            on_ready(False, str(wrong))
            await asyncio.sleep(1)


def _take(catalog: Catalog, key: str, value: bytes | None) -> None:
    try:
        catalog.put(key, None if value is None else read_contract(Announcement, value))
    except InvalidRecord as wrong:
        log.warning("catalog.invalid_announcement", key=key, code=wrong.stable_code)
