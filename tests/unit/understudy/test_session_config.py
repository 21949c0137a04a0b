"""The session object: what a fresh one holds, how updates merge, and that a wrong one is refused whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from parley_understudy.flavours import flavour_of
from unit.understudy.core_stage import Stage

RECORDED = (
    Path(__file__).parents[2] / "contract" / "recordings" / "ga_openai_tool_call_round_2.1_interleaved.jsonl"
)


def recorded_session(line: int) -> dict[str, Any]:
    session: dict[str, Any] = json.loads(RECORDED.read_text().splitlines()[line])["event"]["session"]
    return session


def shape(value: Any) -> Any:
    return {name: shape(each) for name, each in value.items()} if isinstance(value, dict) else type(value)


def test_a_fresh_session_has_the_recorded_fields_in_the_recorded_order() -> None:
    (created,) = Stage("gpt-realtime-2.1").events
    assert json.dumps(list(flat(created["session"]))) == json.dumps(list(flat(recorded_session(0))))
    assert shape(created["session"]) == shape(recorded_session(0))
    assert created["session"]["audio"] == recorded_session(0)["audio"]


def flat(value: dict[str, Any], path: str = "") -> list[str]:
    names = []
    for name, each in value.items():
        names.append(path + name)
        if isinstance(each, dict):
            names += flat(each, f"{path}{name}.")
    return names


def test_an_update_is_echoed_as_recorded() -> None:
    sent = json.loads(RECORDED.read_text().splitlines()[1])["event"]
    stage = Stage("gpt-realtime-2.1")
    (updated,) = stage.send_raw(sent)
    ours, theirs = updated["session"], recorded_session(2)
    for name in ("id", "expires_at"):
        ours, theirs = {**ours, name: 0}, {**theirs, name: 0}
    assert json.dumps(ours) == json.dumps(theirs)


@pytest.mark.parametrize(
    ("model", "voice", "silence_ms"),
    [
        ("gpt-realtime", "alloy", 200),
        ("gpt-realtime-2025-08-28", "alloy", 200),
        ("gpt-realtime-mini", "alloy", 200),
        ("gpt-realtime-2", "marin", 500),
        ("gpt-realtime-2.1-mini", "marin", 500),
        ("gpt-realtime-2.1-2026-07-06", "marin", 500),
    ],
)
def test_defaults_follow_the_models_family(model: str, voice: str, silence_ms: int) -> None:
    audio = Stage(model).events[0]["session"]["audio"]
    assert audio["output"]["voice"] == voice
    assert audio["input"]["turn_detection"]["silence_duration_ms"] == silence_ms


@pytest.mark.parametrize(
    "model", ["gpt-nope", "gpt-realtime-whisper", "gpt-realtime-translate", "", "GPT-REALTIME"]
)
def test_models_that_are_not_served_have_no_flavour(model: str) -> None:
    assert flavour_of(model) is None


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"bogus_field": 1}, "unknown_parameter", "session.bogus_field"),
        ({"temperature": 0.8}, "unknown_parameter", "session.temperature"),
        ({"instructions": 5}, "invalid_type", "session.instructions"),
        ({"output_modalities": ["audio", "text"]}, "invalid_value", "session.output_modalities"),
        ({"output_modalities": ["smell"]}, "invalid_value", "session.output_modalities[0]"),
        (
            {"audio": {"input": {"format": {"type": "audio/pcm", "rate": 16000}}}},
            "integer_below_min_value",
            "session.audio.input.format.rate",
        ),
        (
            {"audio": {"input": {"turn_detection": {"type": "server_vad", "idle_timeout_ms": 100}}}},
            "integer_below_min_value",
            "session.audio.input.turn_detection.idle_timeout_ms",
        ),
        (
            {"audio": {"input": {"turn_detection": {"type": "semantic_vad", "threshold": 0.5}}}},
            "unknown_parameter",
            "session.audio.input.turn_detection.threshold",
        ),
        ({"audio": {"output": {"speed": 3}}}, "decimal_above_max_value", "session.audio.output.speed"),
        ({"audio": {"output": {"voice": "nobody"}}}, "invalid_value", "session.audio.output.voice"),
        ({"audio": []}, "invalid_type", "session.audio"),
        ({"tools": [{"type": "function"}]}, "missing_required_parameter", "session.tools[0].name"),
        ({"tools": [{"type": "function", "name": "no spaces"}]}, "invalid_value", "session.tools[0].name"),
        ({"tool_choice": "maybe"}, "invalid_value", "session.tool_choice"),
        ({"max_output_tokens": 5000}, "integer_above_max_value", "session.max_output_tokens"),
        ({"max_output_tokens": "all"}, "invalid_value", "session.max_output_tokens"),
        ({"reasoning": {"effort": "low"}}, "unsupported_parameter", "session.reasoning"),
        ({"type": "transcription"}, "invalid_value", "session.type"),
        ({"model": "gpt-realtime-2.1"}, "cannot_update_model", "session.model"),
    ],
)
def test_one_wrong_field_refuses_the_whole_update(change: dict[str, Any], code: str, param: str) -> None:
    stage = Stage()
    before = json.dumps(stage.core.config)
    event = {
        "type": "session.update",
        "event_id": "mine",
        "session": {"type": "realtime", "voice": 1} | change,
    }
    del event["session"]["voice"]  # type: ignore[attr-defined]
    event["session"] = {"instructions": "New.", **event["session"]}  # type: ignore[dict-item]
    (error,) = stage.send_raw(event)
    assert (error["error"]["code"], error["error"]["param"], error["error"]["event_id"]) == (
        code,
        param,
        "mine",
    )
    assert json.dumps(stage.core.config) == before


def test_a_session_without_its_type_is_refused() -> None:
    (error,) = Stage().send("session.update", session={"instructions": "New."})
    assert error["error"]["message"] == "Missing required parameter: 'session.type'."


def test_only_what_an_update_carries_changes() -> None:
    stage = Stage()
    stage.update(instructions="Be brief.", tools=[{"type": "function", "name": "look"}])
    (updated,) = stage.update(audio={"input": {"noise_reduction": {"type": "near_field"}}})
    session = updated["session"]
    assert stage.events[0]["session"]["tools"] == [], "what was sent before stays as it was"
    assert session["instructions"] == "Be brief."
    assert session["tools"] == [{"type": "function", "name": "look"}]
    assert session["audio"]["input"]["turn_detection"]["type"] == "server_vad"
    assert session["audio"]["input"]["noise_reduction"] == {"type": "near_field"}


def test_fields_are_cleared_with_nothing_of_their_kind() -> None:
    stage = Stage()
    stage.update(instructions="Be brief.", tools=[{"type": "function", "name": "look"}])
    (updated,) = stage.update(instructions="", tools=[], audio={"input": {"turn_detection": None}})
    assert updated["session"]["tools"] == []
    assert updated["session"]["audio"]["input"]["turn_detection"] is None
    assert "helpful" in updated["session"]["instructions"], "an empty one brings the default back (recorded)"


def test_keywords_and_delay_are_taken_and_never_echoed() -> None:
    transcription = {"model": "gpt-transcribe", "keywords": ["DSCR"], "delay": "low"}
    (updated,) = Stage().update(audio={"input": {"transcription": transcription}})
    assert updated["session"]["audio"]["input"]["transcription"] == {
        "model": "gpt-transcribe",
        "language": None,
        "prompt": None,
    }


def test_the_voice_is_frozen_once_the_agent_has_spoken() -> None:
    stage = Stage()
    assert stage.update(audio={"output": {"voice": "cedar"}})[0]["type"] == "session.updated"
    stage.say("hello")
    (error,) = stage.update(audio={"output": {"voice": "marin"}}, instructions="New.")
    assert error["error"]["code"] == "cannot_update_voice"
    assert stage.core.config["instructions"] != "New."
    assert stage.update(audio={"output": {"voice": "cedar"}})[0]["type"] == "session.updated"


def test_tracing_is_fixed_once_it_is_enabled() -> None:
    stage = Stage()
    assert stage.update(tracing="auto")[0]["type"] == "session.updated"
    (error,) = stage.update(tracing=None, instructions="New.")
    assert error["error"]["param"] == "session.tracing"
    assert stage.core.config["instructions"] != "New."
    assert stage.update(tracing="auto", instructions="New.")[0]["type"] == "session.updated"


def test_the_whisper_model_of_a_transcription_session_wants_turns_marked_by_the_client() -> None:
    stage = Stage(transcription_only=True)
    listening: dict[str, Any] = {"transcription": {"model": "gpt-realtime-whisper"}}
    (error,) = stage.send("session.update", session={"type": "transcription", "audio": {"input": listening}})
    assert error["error"]["param"] == "session.audio.input.turn_detection"
    assert stage.core.config["audio"]["input"]["transcription"] is None
    listening["turn_detection"] = None
    (updated,) = stage.send(
        "session.update", session={"type": "transcription", "audio": {"input": listening}}
    )
    assert updated["type"] == "session.updated"


@pytest.mark.parametrize(
    ("event", "code", "param"),
    [
        ({}, "missing_required_parameter", "type"),
        ({"type": 5}, "invalid_type", "type"),
        ({"type": "output_audio_buffer.clear"}, "invalid_value", "type"),
        ({"type": "transcription_session.update"}, "invalid_value", "type"),
        ({"type": "response.cancel", "extra": 1}, "unknown_parameter", "extra"),
        ({"type": "input_audio_buffer.append"}, "missing_required_parameter", "audio"),
        ({"type": "input_audio_buffer.append", "audio": "not base64!"}, "invalid_value", "audio"),
        ({"type": "response.create", "event_id": "x" * 513}, "string_above_max_length", "event_id"),
        (
            {"type": "response.create", "response": {"metadata": {"k" * 65: "v"}}},
            "string_above_max_length",
            None,
        ),
        ({"type": "response.create", "response": []}, "invalid_type", "response"),
        ([], "invalid_event", None),
        (None, "invalid_event", None),
    ],
)
def test_events_that_cannot_be_are_refused_in_the_recorded_shape(
    event: Any, code: str, param: str | None
) -> None:
    (error,) = Stage().send_raw(event)
    assert set(error["error"]) == {"type", "code", "message", "param", "event_id"}
    assert error["error"]["code"] == code
    assert param is None or error["error"]["param"] == param
