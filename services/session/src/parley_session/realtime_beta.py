"""The beta dialect: its event names read as GA ones, and GA client events written in its flat shapes.

The beta interface is gone from OpenAI since 2026-05-12; legacy Azure deployments and old recordings speak it.
Pure. Source: realtime.md sections 1.3, 2.1 and 3.

Law: what has no place in the beta shape is left out, never sent in a shape that it would refuse.
"""

from __future__ import annotations

from typing import Any

NAMES = {
    "conversation.item.created": "conversation.item.added",
    "response.audio.delta": "response.output_audio.delta",
    "response.audio.done": "response.output_audio.done",
    "response.audio_transcript.delta": "response.output_audio_transcript.delta",
    "response.audio_transcript.done": "response.output_audio_transcript.done",
    "response.text.delta": "response.output_text.delta",
    "response.text.done": "response.output_text.done",
}
"""Server events by their beta name."""

_FORMATS = {"audio/pcm": "pcm16", "audio/pcmu": "g711_ulaw", "audio/pcma": "g711_alaw"}
_CONTENT = {"output_text": "text", "output_audio": "audio"}
_KEPT = ("instructions", "tools", "tool_choice")


def to_beta(event: dict[str, Any]) -> dict[str, Any]:
    """Return a GA client event in the beta shape."""
    match event["type"]:
        case "session.update":
            return {**event, "session": _session(event["session"])}
        case "response.create":
            return {**event, "response": _response(event.get("response", {}))}
        case "conversation.item.create":
            return {**event, "item": _item(event["item"])}
        case _:
            return event


def _session(session: dict[str, Any]) -> dict[str, Any]:
    flat = {key: session[key] for key in _KEPT if key in session}
    if "output_modalities" in session:
        flat["modalities"] = _modalities(session["output_modalities"])
    if "max_output_tokens" in session:
        flat["max_response_output_tokens"] = session["max_output_tokens"]
    heard = session.get("audio", {}).get("input", {})
    spoken = session.get("audio", {}).get("output", {})
    for key, name in (
        ("turn_detection", "turn_detection"),
        ("transcription", "input_audio_transcription"),
        ("noise_reduction", "input_audio_noise_reduction"),
    ):
        if key in heard:
            flat[name] = heard[key]
    for side, name in ((heard, "input_audio_format"), (spoken, "output_audio_format")):
        if "format" in side:
            flat[name] = _FORMATS[side["format"]["type"]]
    return flat | {key: spoken[key] for key in ("voice", "speed") if key in spoken}


def _response(response: dict[str, Any]) -> dict[str, Any]:
    kept = {key: response[key] for key in (*_KEPT, "metadata", "conversation") if key in response}
    if "output_modalities" in response:
        kept["modalities"] = _modalities(response["output_modalities"])
    return kept


def _modalities(wanted: list[str]) -> list[str]:
    """Beta knows text alone, or both."""
    return ["text", "audio"] if "audio" in wanted else ["text"]


def _item(item: dict[str, Any]) -> dict[str, Any]:
    if "content" not in item:
        return item
    content = [{**part, "type": _CONTENT.get(part["type"], part["type"])} for part in item["content"]]
    return {**item, "content": content}
