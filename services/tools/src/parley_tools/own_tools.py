"""Keeps the offer true while the service runs: changed businesses are read again, MCP servers come and go.

In development a business folder that changed is read again; one that is wrong now stays as it was, and the log says
why. Each business's MCP servers are connected anew with its new version.

Law: whatever is wrong with one business's own tools, the others are served.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import structlog

from parley_common.business import Business, load_changed
from parley_common.errors import ConfigInvalid, DependencyUnavailable
from parley_tools.guarded_http import AddressGuard
from parley_tools.http_tools import Secrets, http_tools
from parley_tools.offer import Offer
from parley_tools.registry import Tool

log = structlog.get_logger("offer")
Seed = Callable[[Business], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Outside:
    """What businesses' own tools reach the world with."""

    http: httpx.AsyncClient
    guard: AddressGuard
    secrets: Secrets


def take_in(offer: Offer, business: Business, outside: Outside) -> None:
    """Put a business into the offer with its HTTP tools. Raises ConfigInvalid, then the offer is as before."""
    for finding in offer.tools.findings(business, offer.service):
        raise ConfigInvalid(str(finding))
    offer.put(business, http_tools(business, outside.http, outside.secrets))


class Keeper:
    """Follows the businesses and their MCP servers."""

    def __init__(self, offer: Offer, outside: Outside, on_change: Callable[[], None]) -> None:
        self._offer = offer
        self._outside = outside
        self._on_change = on_change
        self._mistakes: set[str] = set()

    async def run(self, stop: asyncio.Event, root: Path, seed: Seed, reload_s: float) -> None:
        """Serve until ``stop``; ``reload_s`` 0: businesses stay as they are."""
        links: dict[str, tuple[str, asyncio.Event]] = {}
        async with asyncio.TaskGroup() as group:
            while not stop.is_set():
                self._link(group, links)
                await _sleep_or_stop(stop, reload_s or None)
                if not stop.is_set():
                    await self._reload(root, seed)
            for _, ended in links.values():
                ended.set()

    def _link(self, group: asyncio.TaskGroup, links: dict[str, tuple[str, asyncio.Event]]) -> None:
        """Connect to the servers of businesses that are new or changed, and leave those of the others."""
        now = {name: each.version for name, each in self._offer.businesses.items() if each.config.mcp_tools}
        for name, (version, ended) in list(links.items()):
            if now.get(name) != version:
                ended.set()
                del links[name]
        for name in now.keys() - links.keys():
            business, ended = self._offer.businesses[name], asyncio.Event()
            links[name] = (business.version, ended)
            self._connect(group, business, ended)

    def _connect(self, group: asyncio.TaskGroup, business: Business, ended: asyncio.Event) -> None:
        # The SDK takes a second to import: only those who have MCP servers wait for it.
        from parley_tools.mcp_servers import McpLink, Reach

        reach = Reach(self._outside.guard, self._outside.secrets)
        for declared in business.config.mcp_tools:
            on_tools = partial(self._on_tools, business, declared.server)
            group.create_task(McpLink(business, declared, reach, on_tools).run(ended))

    def _on_tools(self, business: Business, server: str, tools: Sequence[Tool]) -> None:
        current = self._offer.businesses.get(business.name)
        if current is not None and current.version != business.version and not tools:
            return  # an older version's link ends: the newer one's tools stay
        if self._offer.serve(business.name, server, tools):
            self._on_change()

    async def _reload(self, root: Path, seed: Seed) -> None:
        known = dict(self._offer.businesses)
        found, mistakes = await asyncio.to_thread(load_changed, root, known)
        for name, business in found.items():
            if known.get(name) is business:
                continue
            try:
                await asyncio.to_thread(take_in, self._offer, business, self._outside)
                await seed(business)
            except (ConfigInvalid, DependencyUnavailable) as wrong:
                mistakes.append(str(wrong))
                continue
            log.info("business.reloaded", business=name, version=business.version)
            self._on_change()
        for name in known.keys() - found.keys():
            self._offer.remove(name)
            log.info("business.removed", business=name)
            self._on_change()
        for mistake in set(mistakes) - self._mistakes:
            log.warning("business.not_reloaded", mistake=mistake)
        self._mistakes = set(mistakes)


async def _sleep_or_stop(stop: asyncio.Event, delay_s: float | None) -> None:
    try:
        await asyncio.wait_for(stop.wait(), delay_s)
    except TimeoutError:
        return
