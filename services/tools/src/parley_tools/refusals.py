"""What a tool says when it will not do what was asked: a sentence to speak, a code, and what may help.

The registry of codes is the kits' own; a code never changes once a scenario or a dashboard names it.
"""

from __future__ import annotations

from pydantic import JsonValue

from parley_common.errors import DependencyUnavailable, ToolRefused


class Refused(ToolRefused):
    """A tool will not do it. ``say`` is what the agent may speak; whatever else is given, the model reads.

    Args:
        next_tool: the tool to call first, such as verify_identity; the model is told its name.
        keeps_effects: commit what the tool wrote, for example a counted failure. Without it a refusal takes
            everything back.
        more: further fields of the error, such as ``free_slots=[…]``.
    """

    def __init__(
        self,
        say: str,
        *,
        code: str = "refused",
        next_tool: str | None = None,
        keeps_effects: bool = False,
        **more: JsonValue,
    ) -> None:
        super().__init__(say, code=code)
        self.keeps_effects = keeps_effects
        self.more: dict[str, JsonValue] = dict(more)
        if next_tool is not None:
            self.more["next"] = {"tool": next_tool}


class NothingDone(DependencyUnavailable):
    """Something outside could not be asked, and certainly did nothing: asking again cannot do it twice."""

    code = "provider_unavailable"
