"""Checks server events against the official client's types, strictly, and names what those do not declare.

The real server sends some fields that the types lack; ``KNOWN_EXTRAS`` is the whole list of them for GA, and the two
after it what Azure's hosts and the beta send beside. An event with any other extra is as wrong as one with a field
missing.
"""

from __future__ import annotations

import typing
from collections.abc import Iterable, Iterator
from typing import Any

import pydantic
from openai.types.beta.realtime import RealtimeServerEvent as BetaServerEvent
from openai.types.realtime import RealtimeServerEvent

_DELTAS = (
    "response.output_text.delta",
    "response.output_audio_transcript.delta",
    "response.function_call_arguments.delta",
    "conversation.item.input_audio_transcription.delta",
)
KNOWN_EXTRAS: frozenset[tuple[str, str]] = frozenset(
    {(kind, "obfuscation") for kind in _DELTAS}
    | {
        (kind, f"session.{name}")
        for kind in ("session.created", "session.updated")
        for name in ("id", "object")
    }
    | {(kind, "session.expires_at") for kind in ("session.created", "session.updated")}
    | {
        (kind, "item.phase")
        for kind in (
            "conversation.item.added",
            "conversation.item.done",
            "conversation.item.retrieved",
            "response.output_item.added",
            "response.output_item.done",
        )
    }
    | {
        ("response.done", "response.output[].phase"),
        ("response.done", "response.usage.output_token_details.reasoning_tokens"),
    }
)
"""(event type, path): `obfuscation` on deltas; `id`, `object`, `expires_at` of sessions; 2.x phases and reasoning."""


AZURE_EXTRAS = frozenset(
    {("response.content_part.added", "content"), ("response.content_part.done", "content")}
)
"""Azure's GA hosts repeat a part under ``content``."""
BETA_EXTRAS = frozenset(
    {
        (kind, f"session.{name}")
        for kind in ("session.created", "session.updated")
        for name in (
            *("client_secret", "expires_at", "include", "object", "prompt", "truncation"),
            "turn_detection.idle_timeout_ms",
        )
    }
    | {
        ("response.function_call_arguments.done", "name"),
        ("response.done", "response.usage.input_token_details.cached_tokens_details"),
    }
)
"""What beta recordings show beside the beta types."""


def faults(events: Iterable[dict[str, Any]], *, azure: bool = False) -> list[str]:
    """Return a line for every event that is not of its GA type, or carries an extra that the wire does not."""
    known = KNOWN_EXTRAS | AZURE_EXTRAS if azure else KNOWN_EXTRAS
    return [f"{event.get('type')}: {fault}" for event in events for fault in _faults(event, _GA, known)]


def beta_faults(events: Iterable[dict[str, Any]]) -> list[str]:
    """Return the same for events of the beta dialect."""
    return [
        f"{event.get('type')}: {fault}" for event in events for fault in _faults(event, _BETA, BETA_EXTRAS)
    ]


def _faults(
    event: dict[str, Any], models: dict[str, type[pydantic.BaseModel]], known: frozenset[tuple[str, str]]
) -> Iterator[str]:
    kind = str(event.get("type"))
    model = models.get(kind)
    if model is None:
        yield "no such server event"
        return
    try:
        parsed = model.model_validate(event, strict=True)
    except pydantic.ValidationError as wrong:
        yield from (f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in wrong.errors())
        return
    yield from (f"undeclared {path}" for path in set(_extras(parsed)) if (kind, path) not in known)


def _extras(value: object, path: str = "") -> Iterator[str]:
    if isinstance(value, pydantic.BaseModel):
        yield from (f"{path}.{name}".lstrip(".") for name in value.model_extra or {})
        for name in type(value).model_fields:
            yield from _extras(getattr(value, name, None), f"{path}.{name}")
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _extras(each, f"{path}[]")


def _event_models(union: Any) -> dict[str, type[pydantic.BaseModel]]:
    while typing.get_origin(union) is typing.Annotated:
        union = typing.get_args(union)[0]
    return {
        name: model
        for model in typing.get_args(union)
        for name in typing.get_args(model.model_fields["type"].annotation)
    }


_GA = _event_models(RealtimeServerEvent)
_BETA = _event_models(BetaServerEvent)
