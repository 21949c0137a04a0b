"""Conversation items: their wire forms, and the checks on those that a client writes.

It does not know their order; conversation.py does.

Law: an item on the wire has exactly the fields that the GA wire shows, in that order, and no ``object``.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import pybase64

from parley_common.audio import bytes_to_ms
from parley_understudy import checks as c
from parley_understudy.g711 import decoded
from parley_understudy.wire import Event, Ids, Refused

Kind: TypeAlias = Literal["message", "function_call", "function_call_output"]

LONGEST_TEXT_CHARS = 256_000
"""``string_above_max_length`` was recorded at 256,001."""


@dataclass(slots=True, eq=False)
class Part:
    """One content part.

    ``audio`` of a caller is PCM16 24 kHz; of the agent it is what was sent, in the session's format; ``audio_ms``
    outlives it. ``heard`` is
    what the ears made of the caller's audio: None until they are done, and None for good when ``deaf``.
    """

    type: str
    text: str | None = None
    transcript: str | None = None
    audio: bytes = b""
    audio_ms: int = 0
    heard: str | None = None
    deaf: bool = False
    detail: str | None = None

    def wire(self, *, with_audio: str | None = None) -> Event:
        """Return the wire form; ``with_audio`` is what ``audio`` shall show, as base64."""
        if self.type in ("input_text", "output_text"):
            return {"type": self.type, "text": self.text}
        if self.type == "input_image":
            return {"type": self.type, **({"detail": self.detail} if self.detail else {})}
        extra = {} if with_audio is None else {"audio": with_audio}
        return {"type": self.type, "transcript": self.transcript, **extra}


@dataclass(slots=True, eq=False)
class Item:
    """One conversation item. ``generated`` ones come from a response; ``truncated`` ones lost their transcript."""

    id: str
    kind: Kind
    role: str = ""
    status: str = "completed"
    content: list[Part] = field(default_factory=list)
    name: str = ""
    call_id: str = ""
    arguments: str = ""
    output: str = ""
    phase: str | None = None
    generated: bool = False
    truncated: bool = False
    silent: bool = False

    def wire(self) -> Event:
        """Return the item as events carry it: without audio."""
        if self.kind == "message":
            return self._message([part.wire() for part in self.content])
        if self.kind == "function_call":
            return {
                "id": self.id,
                "type": self.kind,
                "status": self.status,
                "name": self.name,
                "call_id": self.call_id,
                "arguments": self.arguments,
            }
        return {"id": self.id, "type": self.kind, "call_id": self.call_id, "output": self.output}

    def opened(self) -> Event:
        """Return a generated item as it begins: no content, no arguments."""
        if self.kind == "function_call":
            return {**self.wire(), "arguments": ""}
        return self._message([])

    def _message(self, content: list[Event]) -> Event:
        message = {
            "id": self.id,
            "type": "message",
            "status": self.status,
            "role": self.role,
            "content": content,
        }
        return {**message, "phase": self.phase} if self.phase else message

    def awaits_ears(self) -> bool:
        """Return whether some caller audio of this item is not recognised yet."""
        return any(p.type == "input_audio" and p.heard is None and not p.deaf for p in self.content)


def _base64(value: Any, path: str) -> None:
    c.text()(value, path)
    audio_bytes(value, path)


_STATUS = c.one_of("completed", "incomplete", "in_progress")
_COMMON = {
    "id": c.nullable(c.text(512)),
    "type": c.anything,
    "object": c.one_of("realtime.item"),
    "status": _STATUS,
}
_INPUT_TEXT = c.fields({"type": c.anything, "text": c.text(LONGEST_TEXT_CHARS)}, ["text"])
_CALL_ID = c.pattern("^[a-zA-Z0-9_-]+$", 64)
_CONTENT = {
    "user": c.tagged(
        {
            "input_text": _INPUT_TEXT,
            "input_audio": c.fields(
                {"type": c.anything, "audio": _base64, "transcript": c.nullable(c.text(LONGEST_TEXT_CHARS))},
                ["audio"],
            ),
            "input_image": c.fields(
                {
                    "type": c.anything,
                    "image_url": c.text(),
                    "detail": c.one_of("auto", "low", "high"),
                },
                ["image_url"],
            ),
        }
    ),
    "system": c.tagged({"input_text": _INPUT_TEXT}),
    # The agent's history is text only: its audio is refused for want of `text` (recorded).
    "assistant": c.tagged({"output_text": _INPUT_TEXT, "output_audio": c.fields(
        {"type": c.anything, "text": c.text(), "audio": c.text(), "transcript": c.anything}, ["text"])}),
}  # fmt: skip


def _message(value: Any, path: str) -> None:
    if "role" not in value:
        raise c.missing(f"{path}.role")
    c.one_of(*_CONTENT)(value["role"], f"{path}.role")
    content = c.items(_CONTENT[value["role"]])
    shape = {**_COMMON, "role": c.anything, "content": content, "phase": c.nullable(c.text(64))}
    c.fields(shape, ["content"])(value, path)


_ITEM = c.tagged(
    {
        "message": _message,
        "function_call": c.fields(
            {**_COMMON, "name": c.text(64), "call_id": _CALL_ID, "arguments": c.text(LONGEST_TEXT_CHARS)},
            ["name", "arguments"],
        ),
        "function_call_output": c.fields(
            {**_COMMON, "call_id": _CALL_ID, "output": c.text(LONGEST_TEXT_CHARS)}, ["call_id", "output"]
        ),
    }
)


def read_item(value: Any, ids: Ids, audio_format: str, path: str = "item") -> Item:
    """Return the item that a client wrote, with an id if it gave none. Raises ``Refused``."""
    _ITEM(value, path)
    item = Item(
        id=value.get("id") or ids.new("item_"),
        kind=value["type"],
        role=value.get("role", ""),
        name=value.get("name", ""),
        call_id=value.get("call_id") or ids.new("call_"),
        arguments=value.get("arguments", ""),
        output=value.get("output", ""),
    )
    for part in value.get("content", ()):
        item.content.append(_read_part(part, audio_format))
    return item


def audio_bytes(value: str, path: str) -> bytes:
    """Return decoded base64, or raise ``Refused``."""
    try:
        return pybase64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as wrong:
        raise Refused(
            f"Invalid '{path}'. Expected base64-encoded audio bytes (mono PCM16 at 24kHz).",
            "invalid_value",
            path,
        ) from wrong


def base64_of(data: bytes) -> str:
    """Return bytes as the wire carries audio."""
    return pybase64.b64encode(data).decode("ascii")


def _read_part(value: Event, audio_format: str) -> Part:
    if value["type"] == "input_audio":
        pcm = decoded(audio_bytes(value["audio"], "audio"), audio_format)
        pcm = pcm[: len(pcm) // 2 * 2]
        return Part("input_audio", audio=pcm, audio_ms=bytes_to_ms(len(pcm)), heard=value.get("transcript"))
    return Part(value["type"], text=value.get("text"), detail=value.get("detail"))
