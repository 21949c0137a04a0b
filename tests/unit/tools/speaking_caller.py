"""One session of a caller whose every answer, a refusal too, is checked for being speakable."""

from __future__ import annotations

import re
from typing import Any

from parley_common.contracts.tool_calls import CallerContext, ToolResult
from unit.tools.world import Worker, World


class SpeakingCaller:
    """Asks tools as a session does: each call with an id of its own, what one establishes the next one carries."""

    def __init__(self, place: World, business: str, session_id: str = "session-1") -> None:
        self.place = place
        self.business = business
        self.session_id = session_id
        self.grants: tuple[str, ...] = ()
        self.worker: Worker = place.worker()
        self.count = 0

    def another(self, session_id: str) -> SpeakingCaller:
        """Return another caller of the same business."""
        return SpeakingCaller(self.place, self.business, session_id)

    async def ask(self, tool: str, call_id: str | None = None, **arguments: Any) -> ToolResult:
        self.count += 1
        result = await self.place.ask(
            self.worker,
            tool,
            arguments,
            call_id=call_id or f"call-{self.count}",
            session_id=self.session_id,
            business=self.business,
            context=CallerContext(grants=self.grants),
        )
        before = tuple(grant for grant in self.grants if grant not in result.grants)
        self.grants = (*before, *result.grants)  # newest last, as a session has it
        return result

    async def output(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Return the output of a call that has to succeed."""
        result = await self.ask(tool, **arguments)
        assert result.status == "ok", result
        assert isinstance(result.output, dict)
        assert is_speakable(str(result.output["say"])), result.output["say"]
        return result.output

    async def refusal(self, tool: str, **arguments: Any) -> tuple[str | None, str]:
        """Return the code of a call that has to be refused, and the sentence the agent may speak."""
        result = await self.ask(tool, **arguments)
        assert result.status == "refused", result
        assert isinstance(result.output, dict)
        assert is_speakable(str(result.output["say"])), result.output["say"]
        return result.code, str(result.output["say"])


def is_speakable(say: str) -> bool:
    """A few short sentences, without markdown."""
    return 0 < len(say) <= 400 and not re.search(r"[*_#`|\[\]{}]", say)
