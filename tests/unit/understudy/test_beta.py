"""The beta dialect: recorded ladders and fields, and what beta clients send."""

from __future__ import annotations

from typing import Any

import pytest

from contract.ga_types import beta_faults
from parley_understudy.brain.types import Call, Decision, View
from unit.understudy.core_stage import Stage, kinds

MODEL = "gpt-4o-realtime-preview-2024-12-17"
SESSION_FIELDS = {
    *(
        "object",
        "id",
        "model",
        "modalities",
        "instructions",
        "voice",
        "output_audio_format",
        "tools",
        "tool_choice",
    ),
    *(
        "temperature",
        "max_response_output_tokens",
        "turn_detection",
        "speed",
        "tracing",
        "truncation",
        "prompt",
    ),
    *("expires_at", "input_audio_noise_reduction", "input_audio_format", "input_audio_transcription"),
    *("client_secret", "include"),
}
"""Of ``session.created`` as recorded from a beta endpoint in 2025-12."""
RESPONSE_FIELDS = [
    *("object", "id", "status", "status_details", "output", "conversation_id", "modalities", "voice"),
    *("output_audio_format", "temperature", "max_output_tokens", "usage", "metadata"),
]
"""As recorded in 2025-02 and 2025-07, in this order."""


def beta(**options: Any) -> Stage:
    return Stage(MODEL, beta=True, **options)


def update(stage: Stage, **session: Any) -> list[dict[str, Any]]:
    return stage.send("session.update", session=session)


def calling(view: View) -> Decision:
    return Decision("", (Call("look", {"city": "Bonn"}),))


def test_a_session_is_flat_with_the_recorded_fields() -> None:
    (created,) = beta().events
    session = created["session"]
    assert set(session) == SESSION_FIELDS
    assert (session["modalities"], session["temperature"]) == (["audio", "text"], 0.8)
    assert session["turn_detection"]["silence_duration_ms"] == 200


def test_a_voice_turn_is_laddered_as_recorded() -> None:
    stage = beta()
    stage.speak(900)
    stage.advance(1_000)
    assert kinds(stage.events)[1:] == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.created",
        "response.created",
        "rate_limits.updated",
        "response.output_item.added",
        "conversation.item.created",
        "response.content_part.added",
        "response.audio_transcript.delta",
        "response.audio.delta",
        "response.audio.done",
        "response.audio_transcript.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.done",
    ]
    assert beta_faults(stage.events) == []


def test_a_response_has_the_recorded_fields_and_a_usage_without_pictures() -> None:
    stage = beta()
    stage.speak(900)
    done = stage.of("response.done")[0]["response"]
    assert list(done) == RESPONSE_FIELDS
    assert done["output"][0]["object"] == "realtime.item"
    assert done["output"][0]["content"][0]["type"] == "audio"
    assert list(done["usage"]["input_token_details"]["cached_tokens_details"]) == [
        "text_tokens",
        "audio_tokens",
    ]
    assert [limit["name"] for limit in stage.of("rate_limits.updated")[0]["rate_limits"]] == [
        "requests",
        "tokens",
    ]


def test_no_delta_is_padded() -> None:
    stage = beta()
    update(stage, input_audio_transcription={"model": "whisper-1"})
    stage.speak(900)
    assert stage.of("conversation.item.input_audio_transcription.delta")
    assert not any("obfuscation" in event for event in stage.events)


def test_a_flat_update_is_merged_and_echoed_flat() -> None:
    stage = beta()
    (updated,) = update(
        stage,
        modalities=["text"],
        instructions="Be brief.",
        voice="echo",
        input_audio_format="g711_ulaw",
        output_audio_format="g711_alaw",
        input_audio_transcription={"model": "whisper-1"},
        turn_detection=None,
        temperature=0.7,
        max_response_output_tokens=300,
        tools=[{"type": "function", "name": "look", "parameters": {}}],
    )
    session = updated["session"]
    assert (session["modalities"], session["voice"], session["turn_detection"]) == (["text"], "echo", None)
    assert (session["input_audio_format"], session["output_audio_format"]) == ("g711_ulaw", "g711_alaw")
    assert (session["temperature"], session["max_response_output_tokens"]) == (0.7, 300)
    assert stage.core.config["audio"]["input"]["format"] == {"type": "audio/pcmu"}
    assert beta_faults(stage.events) == []


@pytest.mark.parametrize(
    ("session", "code", "param"),
    [
        ({"bogus": 1}, "unknown_parameter", "session.bogus"),
        ({"voice": "nobody"}, "invalid_value", "session.voice"),
        ({"input_audio_format": "mp3"}, "invalid_value", "session.input_audio_format"),
        ({"modalities": ["smell"]}, "invalid_value", "session.modalities[0]"),
        (
            {"turn_detection": {"type": "server_vad", "threshold": 7}},
            None,
            "session.turn_detection.threshold",
        ),
    ],
)
def test_a_fault_is_named_where_the_client_put_it(
    session: dict[str, Any], code: str | None, param: str
) -> None:
    stage = beta()
    before = stage.core.config
    (error,) = update(stage, instructions="New.", **session)
    assert error["error"]["param"] == param
    assert code is None or error["error"]["code"] == code
    assert "audio.input" not in error["error"]["message"]
    assert stage.core.config == before


def test_text_turns_and_written_history_use_the_names_of_the_time() -> None:
    stage = beta()
    content = [{"type": "text", "text": "Earlier I said this."}]
    (created,) = stage.send(
        "conversation.item.create", item={"type": "message", "role": "assistant", "content": content}
    )
    assert created["type"] == "conversation.item.created"
    assert created["item"]["content"] == content
    stage.write("hello")
    stage.send("response.create", response={"modalities": ["text"], "temperature": 0.9, "voice": "ash"})
    assert kinds(stage.events)[-6:] == [
        "response.content_part.added",
        "response.text.delta",
        "response.text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.done",
    ]
    assert stage.of("response.done")[0]["response"]["modalities"] == ["text"]
    assert stage.of("response.done")[0]["response"]["voice"] == "ash"
    assert beta_faults(stage.events) == []


def test_a_call_keeps_its_events() -> None:
    stage = beta(brain=calling)
    update(stage, tools=[{"type": "function", "name": "look"}])
    stage.say("hello")
    assert kinds(stage.events)[-7:] == [
        "rate_limits.updated",
        "response.output_item.added",
        "conversation.item.created",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.done",
    ]
    assert stage.of("response.output_item.done")[0]["item"]["object"] == "realtime.item"
    assert beta_faults(stage.events) == []


def test_a_barge_in_is_laddered_as_recorded() -> None:
    stage = beta(pace=10)
    stage.say("tell me a story")
    stage.advance(200)
    stage.append(bytes(4800) + b"\x00\x30" * 9600)
    assert kinds(stage.events)[-6:] == [
        "response.audio.delta",
        "response.audio.done",
        "response.audio_transcript.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.done",
    ]
    assert stage.of("response.done")[0]["response"]["status_details"]["reason"] == "turn_detected"


def test_a_session_lasts_30_minutes_and_says_so() -> None:
    stage = beta()
    stage._take(stage.line.expire(0))
    assert stage.events[-1]["error"]["message"] == "Your session hit the maximum duration of 30 minutes."


def test_azures_preview_sends_no_rate_limits_and_does_not_repeat_parts() -> None:
    stage = beta(azure=True)
    stage.say("hello")
    assert stage.of("rate_limits.updated") == []
    assert "content" not in stage.of("response.content_part.added")[0]


@pytest.mark.parametrize(
    "event",
    [
        None,
        {"type": "session.update", "session": []},
        {"type": "session.update", "session": {"modalities": 5, "voice": [], "input_audio_format": {}}},
        {"type": "conversation.item.create", "item": {"type": "message", "content": [5, {"type": []}]}},
        {"type": "response.create", "response": {"input": [None]}},
        {"type": "response.create", "response": {"modalities": [{}]}},
    ],
)
def test_nonsense_is_refused_and_the_session_goes_on(event: Any) -> None:
    stage = beta()
    (error,) = stage.send_raw(event)
    assert error["type"] == "error"
    stage.say("hello")
    assert stage.of("response.done")
