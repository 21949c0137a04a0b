"""The tools that are announced now, kept from the compacted catalog topic. Decides what a name means.

Does not call tools. Law: an instance that has not announced itself for 15 s is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import structlog

from parley_common.contracts.record import read_contract
from parley_common.contracts.tool_calls import ANNOUNCEMENT_DEAD_AFTER_S, Announcement, ToolSpec
from parley_common.contracts.topics import OWN_TOOL_SERVICE
from parley_common.errors import InvalidRecord
from parley_session.core.config import ToolTarget
from parley_session.meters import INVALID_RECORDS

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

    def find(self, name: str, now: datetime, business: str = "") -> CatalogTool | None:
        """Return the tool ``business`` names as ``tool`` or ``service.tool``; null when nobody announces it.

        A tool that another business brings itself is not found.
        """
        service, _, tool = name.rpartition(".")
        service = service or OWN_TOOL_SERVICE
        dead = now - timedelta(seconds=ANNOUNCEMENT_DEAD_AFTER_S)
        alive = [a for a in self._announcements.values() if a.service == service and a.announced_at >= dead]
        for announcement in sorted(alive, key=lambda a: a.announced_at, reverse=True):
            for spec in announcement.tools:
                if spec.name == tool and spec.business in (None, business):
                    return CatalogTool(service, announcement.calls_topic, spec)
        return None

    async def resolve(
        self, names: Iterable[str], *, wait_ms: int, business: str = ""
    ) -> tuple[CatalogTool, ...]:
        """Return the tools of ``names``, waiting up to ``wait_ms`` for those not announced yet.

        A tool that nobody announces is left out and logged: the session goes on without it.
        """
        wanted = list(names)
        try:
            async with asyncio.timeout(wait_ms / 1000):
                while any(self.find(name, datetime.now(UTC), business) is None for name in wanted):
                    await self._changed.wait()
        except TimeoutError:
            missing = [name for name in wanted if self.find(name, datetime.now(UTC), business) is None]
            log.warning("catalog.tools_missing", tools=missing)
        found = (self.find(name, datetime.now(UTC), business) for name in wanted)
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


def take(catalog: Catalog, key: str, value: bytes | None) -> None:
    """Take in a record of the catalog topic; one that cannot be read is logged and passed over."""
    try:
        catalog.put(key, None if value is None else read_contract(Announcement, value))
    except InvalidRecord as wrong:
        INVALID_RECORDS.labels("announcement").inc()
        log.warning("catalog.invalid_announcement", key=key, code=wrong.stable_code)
