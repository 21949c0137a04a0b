"""The beta dialect, in which Azure's preview endpoints and old recordings speak, to and from GA.

It knows shapes and names, nothing of what they mean: the session behind it is GA. Only ``temperature``, which GA has
given up, is kept here.

Law: a GA event becomes the beta events that stood in its place; what beta did not have is left out.
Source: beta recordings of 2024-10 to 2025-12; the table of names in the API's migration notes.
"""

from __future__ import annotations

from typing import Any

from parley_understudy.wire import Event, Ids

_RENAMED = {
    "response.output_text.delta": "response.text.delta",
    "response.output_text.done": "response.text.done",
    "response.output_audio.delta": "response.audio.delta",
    "response.output_audio.done": "response.audio.done",
    "response.output_audio_transcript.delta": "response.audio_transcript.delta",
    "response.output_audio_transcript.done": "response.audio_transcript.done",
    "conversation.item.added": "conversation.item.created",
}
_LEFT_OUT = ("conversation.item.done", "rate_limits.updated")
"""Beta says an item once, and rate limits as a response begins."""
_TO_BETA_PART = {"output_text": "text", "output_audio": "audio"}
_TO_GA_PART = {beta: ga for ga, beta in _TO_BETA_PART.items()}
_TO_BETA_FORMAT = {"audio/pcm": "pcm16", "audio/pcmu": "g711_ulaw", "audio/pcma": "g711_alaw"}
_TO_GA_FORMAT = {beta: ga for ga, beta in _TO_BETA_FORMAT.items()}
_SAME_IN_SESSIONS = ("instructions", "tools", "tool_choice", "tracing", "truncation", "prompt", "include")
_LISTENING = {
    "input_audio_transcription": "transcription",
    "input_audio_noise_reduction": "noise_reduction",
    "turn_detection": "turn_detection",
}
_PLACES = (
    ("session.audio.input.format.type", "session.input_audio_format"),
    ("session.audio.output.format.type", "session.output_audio_format"),
    ("session.audio.input.transcription", "session.input_audio_transcription"),
    ("session.audio.input.noise_reduction", "session.input_audio_noise_reduction"),
    ("session.audio.input.turn_detection", "session.turn_detection"),
    ("session.audio.output.voice", "session.voice"),
    ("session.audio.output.speed", "session.speed"),
    ("session.output_modalities", "session.modalities"),
    ("session.max_output_tokens", "session.max_response_output_tokens"),
    ("response.audio.output.voice", "response.voice"),
    ("response.audio.output.format.type", "response.output_audio_format"),
    ("response.output_modalities", "response.modalities"),
    ("response.max_output_tokens", "response.max_response_output_tokens"),
)
"""Where GA finds a fault, and where the client put what is at fault."""
_RATE_LIMITS = (("requests", 20_000, 1), ("tokens", 15_000_000, 5_000))


class BetaDialect:
    """One client's beta."""

    def __init__(self, ids: Ids, *, azure: bool) -> None:
        self._ids = ids
        self._azure = azure
        self._temperature: Any = 0.8

    def incoming(self, event: Any) -> Any:
        """Return a client's event as GA has it."""
        if not isinstance(event, dict):
            return event
        kind = event.get("type")
        if kind == "session.update" and isinstance(event.get("session"), dict):
            return {**event, "session": self._ga_session(event["session"])}
        if kind == "response.create" and isinstance(event.get("response"), dict):
            return {**event, "response": self._ga_response(event["response"])}
        if kind == "conversation.item.create" and isinstance(event.get("item"), dict):
            return {**event, "item": _ga_item(event["item"])}
        return event

    def outgoing(self, event: Event) -> list[Event]:
        """Return a GA server event as the client knows it: none, one or more."""
        kind = event["type"]
        if kind in _LEFT_OUT:
            return []
        changed = {**event, "type": _RENAMED.get(kind, kind)}
        changed.pop("obfuscation", None)
        if kind.startswith("response.content_part."):
            changed.pop("content", None)
        if "session" in event:
            changed["session"] = self._beta_session(event["session"])
        if "item" in event:
            changed["item"] = _beta_item(event["item"])
        if kind == "error":
            changed["error"] = _beta_error(event["error"])
        if "response" not in event:
            return [changed]
        changed["response"] = self._beta_response(event["response"])
        return [changed, self._rate_limits()] if kind == "response.created" and not self._azure else [changed]

    def _ga_session(self, session: Event) -> Event:
        known = {"type": "realtime"}
        listening, speaking = {}, {}
        for name, value in session.items():
            if name in _LISTENING:
                listening[_LISTENING[name]] = value
            elif name == "input_audio_format":
                listening["format"] = _ga_format(value)
            elif name == "output_audio_format":
                speaking["format"] = _ga_format(value)
            elif name in ("voice", "speed"):
                speaking[name] = value
            elif name == "temperature":
                self._temperature = value
            else:
                known |= _ga_common(name, value)
        sides = {side: values for side, values in (("input", listening), ("output", speaking)) if values}
        return {**known, "audio": sides} if sides else known

    def _ga_response(self, response: Event) -> Event:
        known: Event = {}
        speaking: Event = {}
        for name, value in response.items():
            if name == "voice":
                speaking["voice"] = value
            elif name == "output_audio_format":
                speaking["format"] = _ga_format(value)
            elif name == "input" and isinstance(value, list):
                known["input"] = [_ga_item(each) if isinstance(each, dict) else each for each in value]
            elif name != "temperature":
                known |= _ga_common(name, value)
        return {**known, "audio": {"output": speaking}} if speaking else known

    def _beta_session(self, session: Event) -> Event:
        listening, speaking = session["audio"]["input"], session["audio"].get("output")
        flat = {
            "object": session["object"],
            "id": session["id"],
            "expires_at": session["expires_at"],
            "input_audio_format": _TO_BETA_FORMAT[listening["format"]["type"]],
            **{beta: listening[ga] for beta, ga in _LISTENING.items()},
        }
        if speaking is None:
            return flat
        return {
            **flat,
            "model": session["model"],
            "modalities": _beta_modalities(session["output_modalities"]),
            "voice": speaking["voice"],
            "speed": speaking["speed"],
            "output_audio_format": _TO_BETA_FORMAT[speaking["format"]["type"]],
            "temperature": self._temperature,
            "max_response_output_tokens": session["max_output_tokens"],
            "client_secret": None,
            **{name: session[name] for name in _SAME_IN_SESSIONS},
        }

    def _beta_response(self, response: Event) -> Event:
        speaking = response["audio"]["output"]
        return {
            "object": response["object"],
            "id": response["id"],
            "status": response["status"],
            "status_details": response["status_details"],
            "output": [_beta_item(each) for each in response["output"]],
            "conversation_id": response["conversation_id"],
            "modalities": _beta_modalities(response["output_modalities"]),
            "voice": speaking["voice"],
            "output_audio_format": _TO_BETA_FORMAT[speaking["format"]["type"]],
            "temperature": self._temperature,
            "max_output_tokens": response["max_output_tokens"],
            "usage": _beta_usage(response["usage"]),
            "metadata": response["metadata"],
        }

    def _rate_limits(self) -> Event:
        rows = [
            {
                "name": name,
                "limit": limit,
                "remaining": limit - used,
                "reset_seconds": round(60 * used / limit, 3),
            }
            for name, limit, used in _RATE_LIMITS
        ]
        return {"type": "rate_limits.updated", "event_id": self._ids.new("event_"), "rate_limits": rows}


def _ga_common(name: str, value: Any) -> Event:
    """Return a field that sessions and responses share, under its GA name; an unknown one stays as it is."""
    if name == "modalities":
        known = isinstance(value, list) and set(map(str, value)) <= {"text", "audio"} and value
        return {"output_modalities": (["audio"] if "audio" in value else ["text"]) if known else value}
    if name == "max_response_output_tokens":
        return {"max_output_tokens": value}
    return {name: value}


def _ga_format(value: Any) -> Any:
    return {"type": _TO_GA_FORMAT.get(value, value)} if isinstance(value, str) else value


def _ga_item(item: Event) -> Event:
    content = item.get("content")
    if not isinstance(content, list):
        return item
    return {**item, "content": [_ga_part(part) for part in content]}


def _ga_part(part: Any) -> Any:
    kind = part.get("type") if isinstance(part, dict) else None
    return {**part, "type": _TO_GA_PART.get(kind, kind)} if isinstance(kind, str) else part


def _beta_modalities(modalities: list[str]) -> list[str]:
    return ["audio", "text"] if modalities == ["audio"] else ["text"]


def _beta_item(item: Event) -> Event:
    changed = {"id": item["id"], "object": "realtime.item", **item}
    changed.pop("phase", None)
    if "content" in item:
        changed["content"] = [
            {**part, "type": _TO_BETA_PART.get(part["type"], part["type"])} for part in item["content"]
        ]
    return changed


def _beta_usage(usage: Event | None) -> Event | None:
    if usage is None:
        return None
    read = {name: value for name, value in usage["input_token_details"].items() if name != "image_tokens"}
    cached = {name: value for name, value in read["cached_tokens_details"].items() if name != "image_tokens"}
    written = {name: usage["output_token_details"][name] for name in ("text_tokens", "audio_tokens")}
    return {
        **usage,
        "input_token_details": {**read, "cached_tokens_details": cached},
        "output_token_details": written,
    }


def _beta_error(error: Event) -> Event:
    message, param = error["message"], error["param"]
    for ga, beta in _PLACES:
        message = message.replace(ga, beta)
        param = param.replace(ga, beta) if param else param
    return {**error, "message": message, "param": param}
