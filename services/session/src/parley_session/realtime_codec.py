"""The Realtime wire: JSON text ↔ core events and effects. With realtime_beta.py the only file that knows wire names.

Pure: no socket, no clock. Unknown types and malformed frames become UpstreamUnknown, never an exception.
Source: realtime protocol as recorded and as openai-python 3.54.0 declares it (GA, read 2026-11-22). The beta
dialect of old recordings and legacy Azure deployments is a second table, realtime_beta.py.

Law: an audio delta costs one typed decode and no dictionary.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import pybase64

from parley_session import realtime_beta
from parley_session.core import effects as ef
from parley_session.core import events as ev
from parley_session.core.state import ResponseUsage

MS_PER_INPUT_TOKEN = 100
"""Audio in is one token per 100 ms (realtime.md section 5)."""
CREATE_KEY = "parley_create"
"""The metadata key in which our creates carry their id."""
Json = Mapping[str, Any]
Dialect = Literal["ga", "beta"]


@dataclass(frozen=True, slots=True)
class UpstreamProfile:
    """What upstream is configured with; plain JSON values, in the shapes of the GA session object."""

    model: str
    instructions: str
    voice: str = "marin"
    speed: float = 1.0
    turn_detection: Json | None = None
    transcription: Json | None = None
    noise_reduction: Json | None = None
    tools: tuple[Json, ...] = ()
    reasoning_effort: str | None = None
    truncation: Json | str | None = None
    """How upstream shortens a context that is full; null: its own default."""
    max_output_tokens: int | None = None
    dialect: Dialect = "ga"
    """``beta``: the flat shapes that legacy Azure deployments still speak."""


# -- reading --------------------------------------------------------------------------------------


class _AudioDelta(msgspec.Struct):
    """The hot frame: base64 is decoded straight into bytes."""

    response_id: str
    item_id: str
    content_index: int
    delta: bytes


_AUDIO_PREFIXES = (b'{"type":"response.output_audio.delta"', b'{"type": "response.output_audio.delta"')
_audio_decoder = msgspec.json.Decoder(_AudioDelta)
_decoder = msgspec.json.Decoder()


def decode(frame: bytes | str) -> ev.Event:
    """Return what a frame of upstream says. Never raises."""
    raw = frame.encode() if isinstance(frame, str) else frame
    try:
        if raw.startswith(_AUDIO_PREFIXES):
            return _audio(_audio_decoder.decode(raw))
        return decode_event(_decoder.decode(raw))
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError, ValueError):
        return ev.UpstreamUnknown("malformed")


def decode_event(event: Json) -> ev.Event:
    """Return what a parsed event says; raises KeyError and the like on a malformed one."""
    kind = event["type"]
    handler = _HANDLERS.get(kind) or _HANDLERS.get(realtime_beta.NAMES.get(kind, ""))
    if handler is not None:
        return handler(event)
    return ev.UpstreamNoted(kind) if kind in _NOTED else ev.UpstreamUnknown(str(kind)[:64])


def _audio(delta: _AudioDelta) -> ev.AudioArrived:
    pcm = delta.delta if len(delta.delta) % 2 == 0 else delta.delta[:-1]
    return ev.AudioArrived(delta.response_id, delta.item_id, delta.content_index, pcm)


def _audio_of_event(event: Json) -> ev.AudioArrived:
    return _audio(msgspec.convert(event, _AudioDelta))


def _session_created(event: Json) -> ev.UpstreamOpened:
    session = event["session"]
    return ev.UpstreamOpened(session.get("id") or "", session.get("model") or "")


def _words(event: Json) -> ev.AgentWordsArrived:
    return ev.AgentWordsArrived(
        event["response_id"], event["item_id"], event["content_index"], event["delta"]
    )


def _words_ended(field: str) -> Callable[[Json], ev.Event]:
    def read(event: Json) -> ev.Event:
        return ev.AgentWordsEnded(
            event["response_id"], event["item_id"], event["content_index"], event[field]
        )

    return read


def _item(item: Json) -> ev.UpstreamItem:
    known = ("message", "function_call", "function_call_output")
    content = item.get("content") or []
    texts = [part.get("text") or part.get("transcript") or "" for part in content]
    return ev.UpstreamItem(
        id=item.get("id") or "",
        kind=item["type"] if item["type"] in known else "other",
        role=item.get("role") or "",
        status=item.get("status") or "completed",
        text=" ".join(filter(None, texts)),
        # An item that was cut off before its first part would have been audio, so it counts as such.
        has_audio=not any(part.get("type") in {"output_text", "text"} for part in content),
        name=item.get("name") or "",
        call_id=item.get("call_id") or "",
        arguments=item.get("arguments") or "",
    )


def _response_started(event: Json) -> ev.ResponseStarted:
    response = event["response"]
    return ev.ResponseStarted(response["id"], (response.get("metadata") or {}).get(CREATE_KEY))


def _response_ended(event: Json) -> ev.ResponseEnded:
    response = event["response"]
    details = response.get("status_details") or {}
    error = details.get("error") or {}
    return ev.ResponseEnded(
        response_id=response["id"],
        status=response["status"],
        reason=details.get("reason") or error.get("code") or error.get("type") or "",
        message=error.get("message") or "",
        usage=_usage(response.get("usage")),
        create_id=(response.get("metadata") or {}).get(CREATE_KEY),
        retry_after_ms=retry_after_ms(error.get("message") or ""),
    )


_TRY_AGAIN = re.compile(
    r"try again in (?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?", re.IGNORECASE
)


def retry_after_ms(message: str) -> int | None:
    """Return the wait that an error's sentence names, such as "Please try again in 1m26.4s"; null when it names none."""
    found = _TRY_AGAIN.search(message)
    if found is None or not any(found.groups()):
        return None
    hours, minutes, seconds, ms = (float(part or 0) for part in found.groups())
    return round(((hours * 60 + minutes) * 60 + seconds) * 1000 + ms)


def _usage(usage: Json | None) -> ResponseUsage | None:
    if not usage:
        return None
    read = usage.get("input_token_details") or {}
    cached = read.get("cached_tokens_details") or {}
    wrote = usage.get("output_token_details") or {}
    return ResponseUsage(
        input_text=read.get("text_tokens") or 0,
        input_audio=read.get("audio_tokens") or 0,
        cached_text=cached.get("text_tokens") or 0,
        cached_audio=cached.get("audio_tokens") or 0,
        output_text=wrote.get("text_tokens") or 0,
        output_audio=wrote.get("audio_tokens") or 0,
        input_image=read.get("image_tokens") or 0,
        cached_image=cached.get("image_tokens") or 0,
    )


def _transcribed(event: Json) -> ev.CallerTranscriptEnded:
    usage = event.get("usage") or {}
    if usage.get("type") == "duration":
        billed_ms = round((usage.get("seconds") or 0) * 1000)
    else:
        heard = (usage.get("input_token_details") or {}).get("audio_tokens") or 0
        billed_ms = heard * MS_PER_INPUT_TOKEN
    return ev.CallerTranscriptEnded(event["item_id"], event["transcript"], billed_ms)


def _refused(event: Json) -> ev.UpstreamRefused:
    error = event["error"]
    return ev.UpstreamRefused(
        kind=error.get("type") or "",
        code=error.get("code") or "",
        message=error.get("message") or "",
        event_id=error.get("event_id"),
        param=error.get("param"),
        retry_after_ms=retry_after_ms(error.get("message") or ""),
    )


_HANDLERS: dict[str, Callable[[Json], ev.Event]] = {
    "session.created": _session_created,
    "session.updated": lambda _: ev.UpstreamConfigured(),
    "error": _refused,
    "input_audio_buffer.speech_started": lambda e: ev.CallerSpeechStarted(e["item_id"], e["audio_start_ms"]),
    "input_audio_buffer.speech_stopped": lambda e: ev.CallerSpeechStopped(e["item_id"], e["audio_end_ms"]),
    "input_audio_buffer.committed": lambda e: ev.CallerAudioCommitted(
        e["item_id"], e.get("previous_item_id")
    ),
    "input_audio_buffer.timeout_triggered": lambda e: ev.CallerSilenceTimedOut(e["item_id"]),
    "conversation.item.added": lambda e: ev.ItemAdded(_item(e["item"]), e.get("previous_item_id")),
    "conversation.item.done": lambda e: ev.ItemDone(_item(e["item"])),
    "conversation.item.deleted": lambda e: ev.ItemDeleted(e["item_id"]),
    "conversation.item.truncated": lambda e: ev.ItemTruncated(e["item_id"], e["audio_end_ms"]),
    "conversation.item.input_audio_transcription.delta": lambda e: ev.CallerTranscriptArrived(
        e["item_id"], e.get("delta") or ""
    ),
    "conversation.item.input_audio_transcription.completed": _transcribed,
    "conversation.item.input_audio_transcription.failed": lambda e: ev.CallerTranscriptFailed(
        e["item_id"], (e.get("error") or {}).get("code") or ""
    ),
    "response.created": _response_started,
    "response.done": _response_ended,
    "response.output_item.added": lambda e: ev.OutputItemAdded(e["response_id"], _item(e["item"])),
    "response.output_item.done": lambda e: ev.OutputItemDone(e["response_id"], _item(e["item"])),
    "response.output_audio.delta": _audio_of_event,
    "response.output_audio.done": lambda e: ev.AudioEnded(e["response_id"], e["item_id"], e["content_index"]),
    "response.output_audio_transcript.delta": _words,
    "response.output_audio_transcript.done": _words_ended("transcript"),
    "response.output_text.delta": _words,
    "response.output_text.done": _words_ended("text"),
}

_NOTED = frozenset(
    {
        "conversation.created",
        "conversation.item.retrieved",
        "conversation.item.input_audio_transcription.segment",
        "input_audio_buffer.cleared",
        "input_audio_buffer.dtmf_event_received",
        "output_audio_buffer.started",
        "output_audio_buffer.stopped",
        "output_audio_buffer.cleared",
        "rate_limits.updated",
        "response.content_part.added",
        "response.content_part.done",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.mcp_call_arguments.delta",
        "response.mcp_call_arguments.done",
        "response.mcp_call.in_progress",
        "response.mcp_call.completed",
        "response.mcp_call.failed",
        "mcp_list_tools.in_progress",
        "mcp_list_tools.completed",
        "mcp_list_tools.failed",
        "transcription_session.updated",
    }
)
"""Known types that decide nothing: a function call is taken whole from its output item."""


# -- writing --------------------------------------------------------------------------------------

_APPEND_HEAD = b'{"type":"input_audio_buffer.append","audio":"'
_encoder = msgspec.json.Encoder()


def encode_append(pcm: bytes | memoryview) -> bytes:
    """Return the event that appends caller audio (PCM16 mono 24 kHz)."""
    return _APPEND_HEAD + pybase64.b64encode(pcm) + b'"}'


def encode(effect: ef.Effect, profile: UpstreamProfile) -> bytes | None:
    """Return the client event of an effect; null for effects that are not for upstream."""
    event = _event(effect, profile)
    if event is not None and profile.dialect == "beta":
        event = realtime_beta.to_beta(event)
    return None if event is None else _encoder.encode(event)


def _event(effect: ef.Effect, profile: UpstreamProfile) -> dict[str, Any] | None:  # noqa: PLR0911 - a table
    match effect:
        case ef.ConfigureUpstream():
            return {"type": "session.update", "session": _configuration(effect, profile)}
        case ef.CreateResponse():
            return _create(effect, profile)
        case ef.CancelResponse():
            return {"type": "response.cancel", "response_id": effect.response_id}
        case ef.TruncateItem():
            return {
                "type": "conversation.item.truncate",
                "item_id": effect.item_id,
                "content_index": effect.content_index,
                "audio_end_ms": effect.audio_end_ms,
            }
        case ef.DeleteItem():
            return {"type": "conversation.item.delete", "item_id": effect.item_id}
        case ef.AddCallerText():
            content = [{"type": "input_text", "text": effect.text}]
            return _create_item({"id": effect.item_id, "type": "message", "role": "user", "content": content})
        case ef.AddAgentText():
            content = [{"type": "output_text", "text": effect.text}]
            item = {"id": effect.item_id, "type": "message", "role": "assistant", "content": content}
            return _create_item(item, effect.after)
        case ef.AddSystemText():
            content = [{"type": "input_text", "text": effect.text}]
            return _create_item(
                {"id": effect.item_id, "type": "message", "role": "system", "content": content}
            )
        case ef.AddToolCall():
            return _create_item(
                {
                    "id": effect.item_id,
                    "type": "function_call",
                    "call_id": effect.call_id,
                    "name": effect.name,
                    "arguments": effect.arguments,
                }
            )
        case ef.CommitCallerAudio():
            return {"type": "input_audio_buffer.commit"}
        case ef.ClearCallerAudio():
            return {"type": "input_audio_buffer.clear"}
        case ef.AddToolOutput():
            return _create_item(
                {
                    "id": effect.item_id,
                    "type": "function_call_output",
                    "call_id": effect.call_id,
                    "output": effect.output,
                }
            )
        case _:
            return None


def _create_item(item: dict[str, Any], after: str | None = None) -> dict[str, Any]:
    event = {"type": "conversation.item.create", "item": item}
    return event if after is None else {**event, "previous_item_id": after}


def _configuration(effect: ef.ConfigureUpstream, profile: UpstreamProfile) -> dict[str, Any]:
    session = session_object(profile, effect.mode)
    if effect.part == "mode":
        return {key: session[key] for key in ("type", "output_modalities")}
    turns = session["audio"]["input"]["turn_detection"]
    if effect.part == "turns":
        return {"type": "realtime", "audio": {"input": {"turn_detection": turns}}}
    if effect.holds_turns and turns is not None:
        held = {**turns, "create_response": False, "interrupt_response": False}
        session["audio"]["input"]["turn_detection"] = held
    return session


def _create(effect: ef.CreateResponse, profile: UpstreamProfile) -> dict[str, Any]:
    response: dict[str, Any] = {"metadata": {CREATE_KEY: effect.create_id}}
    if effect.instructions:
        # A response's instructions replace the session's, so they are said together.
        response["instructions"] = f"{profile.instructions}\n\n{effect.instructions}"
    if not effect.may_call_tools:
        response["tool_choice"] = "none"
    return {"type": "response.create", "event_id": effect.create_id, "response": response}


def session_object(profile: UpstreamProfile, mode: str) -> dict[str, Any]:
    """Return the GA session object of a profile. Source: realtime.md section 3."""
    pcm = {"type": "audio/pcm", "rate": 24_000}
    session: dict[str, Any] = {
        "type": "realtime",
        "output_modalities": ["audio" if mode == "voice" else "text"],
        "instructions": profile.instructions,
        "tools": list(profile.tools),
        "tool_choice": "auto",
        "audio": {
            "input": {
                "format": pcm,
                "transcription": profile.transcription,
                "noise_reduction": profile.noise_reduction,
                "turn_detection": profile.turn_detection,
            },
            "output": {"format": pcm, "voice": profile.voice, "speed": profile.speed},
        },
    }
    if profile.reasoning_effort:
        session["reasoning"] = {"effort": profile.reasoning_effort}
    if profile.truncation is not None:
        session["truncation"] = profile.truncation
    if profile.max_output_tokens is not None:
        session["max_output_tokens"] = profile.max_output_tokens
    return session
