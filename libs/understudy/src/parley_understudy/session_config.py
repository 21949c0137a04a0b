"""The session object: what a fresh one holds, what an update may change, and how it is merged.

It does not act on the configuration. ``session.update`` is taken whole or refused whole.

Law: an update changes only the fields it carries; a refused one changes nothing.
Source: the GA session object as recorded 2026-07 to 2026-09 (key order included).
"""

from __future__ import annotations

import copy
from typing import Any, TypeAlias

from parley_understudy import checks as c
from parley_understudy.flavours import Flavour
from parley_understudy.wire import Refused

Config: TypeAlias = dict[str, Any]

DEFAULT_INSTRUCTIONS = (
    "You are a helpful, friendly voice assistant. Answer briefly, as people speak. Use a function whenever one "
    "fits what was asked."
)
"""Stands where the API shows its own default instructions."""

VOICES = ("alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar")
EFFORTS = ("minimal", "low", "medium", "high", "xhigh")

_FORMAT = c.tagged(
    {
        "audio/pcm": c.fields({"type": c.anything, "rate": c.integer(24_000, 24_000)}),
        "audio/pcmu": c.fields({"type": c.anything}),
        "audio/pcma": c.fields({"type": c.anything}),
    }
)
_VOICE = c.either(c.one_of(*VOICES), c.fields({"id": c.text(128)}, ["id"]))
_TURN_DETECTION = c.tagged(
    {
        "server_vad": c.fields(
            {
                "type": c.anything,
                "threshold": c.number(0, 1),
                "prefix_padding_ms": c.integer(0, 10_000),
                "silence_duration_ms": c.integer(0, 60_000),
                "idle_timeout_ms": c.nullable(c.integer(5_000, 30_000)),
                "create_response": c.boolean,
                "interrupt_response": c.boolean,
            }
        ),
        "semantic_vad": c.fields(
            {
                "type": c.anything,
                "eagerness": c.one_of("low", "medium", "high", "auto"),
                "create_response": c.boolean,
                "interrupt_response": c.boolean,
            }
        ),
    }
)
_TRANSCRIPTION = c.fields(
    {
        "model": c.text(128),
        "language": c.nullable(c.text(32)),
        "prompt": c.nullable(c.text(1024)),
        "keywords": c.items(c.text(128)),
        "languages": c.items(c.text(32)),
        "delay": c.one_of(*EFFORTS),
    }
)
_INPUT = c.fields(
    {
        "format": _FORMAT,
        "transcription": c.nullable(_TRANSCRIPTION),
        "noise_reduction": c.nullable(
            c.fields({"type": c.one_of("near_field", "far_field"), "strength": c.number()})
        ),
        "turn_detection": c.nullable(_TURN_DETECTION),
    }
)
_OUTPUT = c.fields({"format": _FORMAT, "voice": _VOICE, "speed": c.number(0.25, 1.5)})
TOOLS = c.items(
    c.tagged(
        {
            "function": c.fields(
                {
                    "type": c.anything,
                    "name": c.pattern("^[a-zA-Z0-9_-]+$", 64),
                    "description": c.nullable(c.text()),
                    "parameters": c.nullable(c.mapping),
                },
                ["name"],
            ),
            "mcp": c.mapping,
        }
    ),
    128,
)
TOOL_CHOICE = c.either(
    c.one_of("none", "auto", "required"),
    c.tagged({"function": c.fields({"type": c.anything, "name": c.text(64)}, ["name"]), "mcp": c.mapping}),
)
MAX_OUTPUT_TOKENS = c.either(
    lambda value, path: (
        c.one_of("inf")(value, path) if isinstance(value, str) else c.integer(1, 4096)(value, path)
    ),
    c.integer(),
)
MODALITIES = c.items(c.one_of("text", "audio"), 2)
REASONING = c.nullable(c.fields({"effort": c.one_of(*EFFORTS)}))
_TRUNCATION = c.either(
    c.one_of("auto", "disabled"),
    c.tagged(
        {
            "retention_ratio": c.fields(
                {
                    "type": c.anything,
                    "retention_ratio": c.number(0, 1),
                    "token_limits": c.nullable(c.mapping),
                },
                ["retention_ratio"],
            )
        }
    ),
)
_TRACING = c.nullable(
    c.either(
        c.one_of("auto"),
        c.fields({"workflow_name": c.text(), "group_id": c.text(), "metadata": c.anything}),
    )
)
_INCLUDE = c.nullable(c.items(c.one_of("item.input_audio_transcription.logprobs")))
_REALTIME = c.fields(
    {
        "type": c.one_of("realtime"),
        "model": c.text(256),
        "output_modalities": MODALITIES,
        "instructions": c.text(),
        "tools": TOOLS,
        "tool_choice": TOOL_CHOICE,
        "max_output_tokens": MAX_OUTPUT_TOKENS,
        "tracing": _TRACING,
        "truncation": _TRUNCATION,
        "prompt": c.nullable(c.mapping),
        "audio": c.fields({"input": _INPUT, "output": _OUTPUT}),
        "include": _INCLUDE,
        "reasoning": REASONING,
        "parallel_tool_calls": c.boolean,
    },
    ["type"],
)
_TRANSCRIPTION_ONLY = c.fields(
    {"type": c.one_of("transcription"), "audio": c.fields({"input": _INPUT}), "include": _INCLUDE}, ["type"]
)
RESPONSE_OUTPUT = c.fields({"output": c.fields({"format": _FORMAT, "voice": _VOICE})})


def fresh(flavour: Flavour, session_id: str, expires_at: int, *, transcription_only: bool = False) -> Config:
    """Return the configuration of a session that has just been created."""
    listening: Config = {
        "format": {"type": "audio/pcm", "rate": 24_000},
        "transcription": None,
        "noise_reduction": None,
        "turn_detection": _completed_turn_detection({"type": "server_vad"}, flavour),
    }
    if transcription_only:
        for field in ("idle_timeout_ms", "create_response", "interrupt_response"):
            del listening["turn_detection"][field]
        return {
            "type": "transcription",
            "object": "realtime.transcription_session",
            "id": session_id,
            "expires_at": expires_at,
            "audio": {"input": listening},
            "include": None,
        }
    return {
        "type": "realtime",
        "object": "realtime.session",
        "id": session_id,
        "model": flavour.model,
        "output_modalities": ["audio"],
        "instructions": DEFAULT_INSTRUCTIONS,
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "tracing": None,
        "truncation": "auto",
        "prompt": None,
        "expires_at": expires_at,
        "audio": {
            "input": listening,
            "output": {
                "format": {"type": "audio/pcm", "rate": 24_000},
                "voice": flavour.voice,
                "speed": 1.0,
            },
        },
        "include": None,
    }


def updated(config: Config, change: Any, flavour: Flavour, *, voice_in_use: bool) -> Config:
    """Return the configuration with ``change`` merged in, or raise ``Refused`` and change nothing."""
    _check(config, change, flavour, voice_in_use=voice_in_use)
    result = copy.deepcopy(config)
    for name, value in change.items():
        if name == "audio":
            _merge_audio(result["audio"], value, flavour)
        elif name not in ("type", "model"):
            result[name] = _function_tools(value) if name == "tools" else copy.deepcopy(value)
    if change.get("instructions") == "":
        result["instructions"] = DEFAULT_INSTRUCTIONS  # an empty one brings the default back (recorded)
    _check_whole(result)
    return result


def check_modalities(modalities: list[str], path: str) -> None:
    """Refuse anything but audio (which always has a transcript) or text."""
    if modalities not in (["audio"], ["text"]):
        raise Refused(
            f"Invalid modalities: {modalities}. Supported combinations are: ['text'] and ['audio'].",
            "invalid_value",
            path,
        )


def _check(config: Config, change: Any, flavour: Flavour, *, voice_in_use: bool) -> None:
    c.mapping(change, "session")
    if "type" not in change:
        raise c.missing("session.type")
    (_TRANSCRIPTION_ONLY if config["type"] == "transcription" else _REALTIME)(change, "session")
    if "output_modalities" in change:
        check_modalities(change["output_modalities"], "session.output_modalities")
    if change.get("model", flavour.model) != flavour.model:
        raise Refused("Cannot update a conversation's model.", "cannot_update_model", "session.model")
    for field in ("reasoning", "parallel_tool_calls"):
        if field in change and not flavour.reasons:
            raise Refused(
                f"Unsupported parameter: '{field}' is not supported with this model.",
                "unsupported_parameter",
                f"session.{field}",
            )
    if config.get("tracing") is not None and change.get("tracing", config["tracing"]) != config["tracing"]:
        raise Refused(
            "Cannot update a conversation's tracing once it is enabled.",
            "cannot_update_tracing",
            "session.tracing",
        )
    _check_voice(config, change, voice_in_use=voice_in_use)


def _check_whole(config: Config) -> None:
    """Refuse what only the merged configuration shows: this transcription model wants turns marked by the client."""
    listening = config["audio"]["input"]
    model = (listening["transcription"] or {}).get("model")
    if (
        config["type"] == "transcription"
        and model == "gpt-realtime-whisper"
        and listening["turn_detection"] is not None
    ):
        raise Refused(
            f"Turn detection is not supported with the transcription model '{model}'.",
            "invalid_value",
            "session.audio.input.turn_detection",
        )


def _check_voice(config: Config, change: Config, *, voice_in_use: bool) -> None:
    output = (change.get("audio") or {}).get("output") or {}
    if (
        voice_in_use
        and output.get("voice", config["audio"]["output"]["voice"]) != config["audio"]["output"]["voice"]
    ):
        raise Refused(
            "Cannot update a conversation's voice if assistant audio is present.", "cannot_update_voice"
        )


def _merge_audio(audio: Config, change: Config, flavour: Flavour) -> None:
    for side, values in change.items():
        for name, value in values.items():
            audio[side][name] = _completed(name, copy.deepcopy(value), audio[side].get(name), flavour)


def _completed(name: str, value: Any, old: Any, flavour: Flavour) -> Any:
    """Return a field as the API echoes it: with the defaults and nulls that were not sent."""
    if value is None:
        return None
    if name == "turn_detection":
        kept = old if old and old["type"] == value["type"] else {}
        return _completed_turn_detection({**kept, **value}, flavour)
    if name == "transcription":
        merged = {"model": "whisper-1", "language": None, "prompt": None, **(old or {}), **value}
        return {key: merged[key] for key in ("model", "language", "prompt")}  # keywords, delay: never echoed
    if name == "format" and value["type"] == "audio/pcm":
        return {"type": "audio/pcm", "rate": 24_000}
    return float(value) if name == "speed" else value


def _completed_turn_detection(value: Config, flavour: Flavour) -> Config:
    both = {"create_response": True, "interrupt_response": True}
    if value["type"] == "semantic_vad":
        return {"type": "semantic_vad", "eagerness": "auto", **both, **value}
    return {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": flavour.silence_duration_ms,
        "idle_timeout_ms": None,
        **both,
        **value,
    }


def _function_tools(tools: list[Config]) -> list[Config]:
    """Return tools with their keys in the echoed order: type, name, description, parameters."""
    order = ("type", "name", "description", "parameters")
    return [
        {
            key: copy.deepcopy(tool[key])
            for key in (*order, *(k for k in tool if k not in order))
            if key in tool
        }
        for tool in tools
    ]
