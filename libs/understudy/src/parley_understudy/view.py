"""What the brain is shown of a conversation: a ``View`` from items, instructions and tools.

Law: only what was heard counts. A truncated item's words are gone, as they are from the API's own context.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from parley_understudy.brain.types import Answered, Called, Said, Tool, View
from parley_understudy.items import Item, Part

UNINTELLIGIBLE = "(unintelligible)"
"""What the brain is given for caller audio that could not be recognised."""


def view_of(
    items: Iterable[Item], instructions: str, tools: Iterable[dict[str, Any]], tool_choice: Any, now: datetime
) -> View:
    """Return the brain's view of a response's context."""
    return View(
        instructions=instructions,
        tools=tuple(_tools(tools)),
        items=tuple(_shown(items)),
        now=now,
        tool_choice=tool_choice if isinstance(tool_choice, str) else str(tool_choice.get("name", "auto")),
    )


def _tools(tools: Iterable[dict[str, Any]]) -> Iterator[Tool]:
    for tool in tools:
        if tool["type"] == "function":
            yield Tool(tool["name"], tool.get("description") or "", tool.get("parameters") or {})


def _shown(items: Iterable[Item]) -> Iterator[Said | Called | Answered]:
    for item in items:
        if item.kind == "function_call":
            if item.status == "completed":  # the arguments of a cut call are no JSON
                yield Called(item.call_id, item.name, item.arguments)
        elif item.kind == "function_call_output":
            yield Answered(item.call_id, item.output)
        elif text := _said(item):
            yield Said(item.role, text)  # type: ignore[arg-type]  # checked when the item was read


def _said(item: Item) -> str:
    if item.truncated or item.status == "in_progress":
        return ""
    return " ".join(text for part in item.content if (text := _text(part, silent=item.silent)))


def _text(part: Part, *, silent: bool) -> str:
    if part.type == "input_audio":
        return part.heard or ("" if silent else UNINTELLIGIBLE)
    if part.type == "output_audio":
        return part.transcript or ""
    return part.text or ""
