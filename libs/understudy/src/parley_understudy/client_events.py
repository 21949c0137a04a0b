"""The client events that are accepted, and the shape of each.

Law: a type that is not in the table is refused with the list of those that are, as the API does.
Source: the API's own error text of 2026-09-18, which lists the types.
"""

from __future__ import annotations

from typing import Any

from parley_understudy import checks as c
from parley_understudy.wire import Refused

_LONGEST_APPEND_CHARS = 15 * 1024 * 1024 * 4 // 3 + 4
"""15 MiB of audio, as base64."""

_DEEPEST = 64
"""No real schema is nested as deep; copying and encoding one that is would overflow the stack."""
_NESTED = ("session.update", "conversation.item.create", "response.create")

_ITEM_ID = c.text(512)
_BASE = {"type": c.anything, "event_id": c.nullable(c.text(512))}
_APPEND = c.fields({**_BASE, "audio": c.text(_LONGEST_APPEND_CHARS)}, ["audio"])
_ONE_ITEM = c.fields({**_BASE, "item_id": _ITEM_ID}, ["item_id"])

SHAPES: dict[str, c.Check] = {
    "session.update": c.fields({**_BASE, "session": c.anything}, ["session"]),
    "session.close": c.fields(_BASE),
    "input_audio_buffer.append": _APPEND,
    "session.input_audio_buffer.append": _APPEND,
    "input_audio_buffer.commit": c.fields(_BASE),
    "input_audio_buffer.clear": c.fields(_BASE),
    "conversation.item.create": c.fields(
        {**_BASE, "item": c.anything, "previous_item_id": c.nullable(_ITEM_ID)}, ["item"]
    ),
    "conversation.item.truncate": c.fields(
        {**_BASE, "item_id": _ITEM_ID, "content_index": c.integer(0), "audio_end_ms": c.integer(0)},
        ["item_id", "content_index", "audio_end_ms"],
    ),
    "conversation.item.delete": _ONE_ITEM,
    "conversation.item.retrieve": _ONE_ITEM,
    "response.create": c.fields({**_BASE, "response": c.anything}),
    "response.cancel": c.fields({**_BASE, "response_id": c.nullable(_ITEM_ID)}),
}


def event_id_of(event: Any) -> str | None:
    """Return the client's own id of an event, for the error that it may cause."""
    given = event.get("event_id") if isinstance(event, dict) else None
    return given if isinstance(given, str) and len(given) <= 512 else None


def kind_of(event: Any) -> str:
    """Return the type of a well-formed client event, or raise ``Refused``."""
    if not isinstance(event, dict):
        raise Refused("Invalid event: expected a JSON object.", "invalid_event")
    if "type" not in event:
        raise c.missing("type")
    c.one_of(*SHAPES)(event["type"], "type")
    kind = str(event["type"])
    SHAPES[kind](event, "")
    if kind in _NESTED and _is_deeper(event, _DEEPEST):
        raise Refused(f"Invalid event: nested deeper than {_DEEPEST} levels.", "invalid_value")
    return kind


def _is_deeper(value: Any, levels: int) -> bool:
    """Return whether arrays and objects are nested more than ``levels`` deep; without recursion, as that is the point."""
    layer = [value]
    for _ in range(levels):
        layer = [
            inner
            for each in layer
            if isinstance(each, (dict, list))
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not layer:
            return False
    return any(isinstance(each, (dict, list)) for each in layer)
