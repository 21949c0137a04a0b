"""One session of a caller of some business: its calls, each with an id of its own, and what they established."""

from __future__ import annotations

from typing import Any

from parley_common.contracts.tool_calls import CallerContext, ToolResult
from unit.tools.world import World

SAID_CHARS_MAX = 400


class KitCaller:
    """Calls a business's tools as a session does: what one call grants, the next one carries."""

    def __init__(self, place: World, business: str, session_id: str = "session-1") -> None:
        self.place = place
        self.business = business
        self.session_id = session_id
        self.grants: tuple[str, ...] = ()
        self.worker = place.worker()

    async def ask(self, tool: str, **arguments: Any) -> ToolResult:
        """Return the answer of one call."""
        result = await self.place.ask(
            self.worker,
            tool,
            arguments,
            call_id=f"{self.session_id}-{len(self.place.published.records)}",
            session_id=self.session_id,
            business=self.business,
            context=CallerContext(grants=self.grants),
        )
        before = tuple(grant for grant in self.grants if grant not in result.grants)
        self.grants = (*before, *result.grants)  # newest last, as a session has it
        return result

    async def output(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Return the output of a call that has to succeed, with something short to say."""
        result = await self.ask(tool, **arguments)
        assert result.status == "ok", result
        assert isinstance(result.output, dict)
        assert 0 < len(str(result.output["say"])) <= SAID_CHARS_MAX
        return result.output

    async def refusal(self, tool: str, **arguments: Any) -> str | None:
        """Return the code of a call that has to be refused."""
        result = await self.ask(tool, **arguments)
        assert result.status == "refused", result
        return result.code
