"""What this service can do now: its kits' tools, its businesses, and the tools that businesses bring themselves.

It changes while the service runs: in development a business is read again when its folder changed, and an MCP
server's tools come and go with it. A session keeps the version of its business it began with.

Law: a business's own tool is offered to that business alone; no name means two tools of one business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from parley_common.business import Business
from parley_common.contracts.tool_calls import ToolSpec
from parley_common.errors import ConfigInvalid
from parley_tools.context import is_granted
from parley_tools.registry import Registry, Tool, offers

VERSIONS_KEPT_MAX = 8
"""Of each business: sessions that began longer ago than so many edits get the newest."""


class Offer:
    """Name, tools and businesses of the service."""

    def __init__(
        self,
        service: str,
        tools: Registry,
        businesses: Mapping[str, Business],
        own: Mapping[str, Iterable[Tool]] | None = None,
    ) -> None:
        self.service = service
        self.tools = tools
        self.businesses = dict(businesses)
        self._versions: dict[tuple[str, str], Business] = {}
        self._own: dict[str, dict[str, Tool]] = {}
        """By business: what its file declares."""
        self._served: dict[tuple[str, str], tuple[Tool, ...]] = {}
        """By business and MCP server: what that server has now."""
        for business in self.businesses.values():
            self.put(business, (own or {}).get(business.name, ()))

    def put(self, business: Business, own: Iterable[Tool] = ()) -> None:
        """Take in a business, or its new version, with the tools that its file declares.

        Raises:
            ConfigInvalid: one of them has the name of a kit's tool.
        """
        declared = {each.name: each for each in own}
        for name in business.config.own_tools:
            if name in self.tools:
                place = business.folder / "business.yaml"
                raise ConfigInvalid(f"{place}: the tool {name!r} is also one of a kit: give it another name")
        self.businesses[business.name] = business
        self._own[business.name] = declared
        self._versions[business.name, business.version] = business
        mine = [key for key in self._versions if key[0] == business.name]
        for key in mine[:-VERSIONS_KEPT_MAX]:
            del self._versions[key]

    def remove(self, name: str) -> None:
        """Forget a business whose folder is gone; sessions that have it go on with what they know."""
        self.businesses.pop(name, None)
        self._own.pop(name, None)
        self._served = {key: tools for key, tools in self._served.items() if key[0] != name}

    def serve(self, business: str, server: str, tools: Iterable[Tool]) -> bool:
        """Take in what an MCP server of a business has now, nothing when it is away; tell whether that is news."""
        before = [each.spec for each in self._served.get((business, server), ())]
        self._served[business, server] = tuple(tools)
        return before != [each.spec for each in self._served[business, server]]

    def business(self, name: str, version: str) -> Business | None:
        """Return a business at the version a session began with, else as it is now; null when unknown."""
        return self._versions.get((name, version)) or self.businesses.get(name)

    def tool(self, business: Business, name: str) -> Tool | None:
        """Return a tool that the business offers; null when it names none of that name."""
        return self._own_tools(business.name).get(name) or self._of_kits(business, name)

    def granting(self, need: str, business: Business) -> str | None:
        """Return the business's tool that establishes ``need``; null when none does."""
        own = self._own_tools(business.name).values()
        by_own = next((tool.name for tool in own if is_granted(need, tool.grants)), None)
        return by_own or self.tools.granting(need, business, self.service)

    def lane(self, business: str, name: str) -> str:
        """Return whose lanes a call waits in: those of the tool, and an own tool has lanes of its own."""
        return f"{business}.{name}" if name in self._own_tools(business) else name

    def concurrency(self, lane: str, default: int) -> int:
        """Return how many calls of a lane run at once."""
        known = self.tools.get(lane)
        return (known.concurrency if known else None) or default

    def label(self, business: str, name: str) -> str:
        """Return a tool's name for metrics: a known one, so that callers cannot make labels."""
        return name if name in self.tools or name in self._own_tools(business) else "unknown"

    def specs(self) -> tuple[ToolSpec, ...]:
        """Return what is announced now."""
        own = [each.spec for name in sorted(self.businesses) for each in self._own_tools(name).values()]
        return (*self.tools.specs(), *own)

    def _of_kits(self, business: Business, name: str) -> Tool | None:
        tool = self.tools.get(name)
        return tool if tool is not None and offers(business, self.service, name) else None

    def _own_tools(self, business: str) -> dict[str, Tool]:
        served = {t.name: t for (name, _), tools in self._served.items() if name == business for t in tools}
        return self._own.get(business, {}) | served
