"""The Realtime wire: what upstream says is read leniently, what we say is what the GA and beta shapes take."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.realtime import RealtimeSessionCreateRequest

from parley_session import realtime_codec
from parley_session.core import effects as ef
from parley_session.core import events as ev
from parley_session.core.state import ResponseUsage
from parley_session.realtime_codec import UpstreamProfile, decode, encode, retry_after_ms

VAD = {"type": "server_vad", "silence_duration_ms": 500, "create_response": True, "interrupt_response": True}
PROFILE = UpstreamProfile(
    model="gpt-realtime-2.1",
    instructions="You are Cap.",
    turn_detection=VAD,
    transcription={"model": "gpt-transcribe"},
    tools=({"type": "function", "name": "save", "description": "Save.", "parameters": {"type": "object"}},),
    reasoning_effort="low",
    truncation={"type": "retention_ratio", "retention_ratio": 0.8},
    max_output_tokens=900,
)
BETA = UpstreamProfile(model="gpt-4o", instructions="You are Cap.", turn_detection=VAD, dialect="beta")


def sent(effect: ef.Effect, profile: UpstreamProfile = PROFILE) -> dict[str, Any]:
    frame = encode(effect, profile)
    assert frame is not None
    return json.loads(frame)  # type: ignore[no-any-return]


def said(**event: Any) -> ev.Event:
    return decode(json.dumps(event))


# -- reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "wait_ms"),
    [
        ("... Please try again in 1m26.4s. Visit ...", 86_400),
        ("Please try again in 20s.", 20_000),
        ("Please try again in 1.25s.", 1_250),
        ("Please try again in 250ms.", 250),
        ("please Try Again in 1h2m3s", 3_723_000),
        ("Rate limit reached.", None),
        ("Please try again in a moment.", None),
        ("", None),
    ],
)
def test_a_rate_limits_sentence_says_how_long_to_wait(message: str, wait_ms: int | None) -> None:
    assert retry_after_ms(message) == wait_ms


def test_a_failed_response_without_a_message_is_read() -> None:
    """From openapi reports: ``message`` may be missing where the types require it."""
    failed = {
        "id": "R1",
        "status": "failed",
        "status_details": {"type": "failed", "error": {"type": "server_error"}},
    }
    read = said(type="response.done", response=failed)
    assert read == ev.ResponseEnded("R1", "failed", "server_error")


@given(st.binary() | st.text().map(str.encode))
def test_no_frame_raises(frame: bytes) -> None:
    assert decode(frame) == ev.UpstreamUnknown("malformed")


@given(st.dictionaries(st.text(max_size=8), st.none() | st.integers() | st.text(max_size=8), max_size=5))
def test_no_known_type_with_odd_fields_raises(fields: dict[str, Any]) -> None:
    for kind in (
        "response.done",
        "error",
        "session.created",
        "response.output_audio.delta",
        "conversation.item.added",
    ):
        read = decode(json.dumps({**fields, "type": kind}))
        assert isinstance(read, (ev.UpstreamUnknown, ev.UpstreamOpened))


def test_half_a_sample_at_the_end_of_a_delta_is_left_out() -> None:
    read = said(
        type="response.output_audio.delta", response_id="R", item_id="A", content_index=0, delta="AAAA"
    )
    assert read == ev.AudioArrived("R", "A", 0, b"\0\0")


def test_usage_is_read_with_its_cached_parts_and_without_details_counts_nothing() -> None:
    usage = {
        "input_token_details": {
            "text_tokens": 100,
            "audio_tokens": 50,
            "image_tokens": 7,
            "cached_tokens_details": {"text_tokens": 64, "audio_tokens": 0, "image_tokens": 3},
        },
        "output_token_details": {"text_tokens": 9, "audio_tokens": 30},
    }
    done = {"id": "R1", "status": "completed", "usage": usage}
    read = said(type="response.done", response=done)
    assert isinstance(read, ev.ResponseEnded)
    assert read.usage == ResponseUsage(100, 50, 64, 0, 9, 30, 7, 3)
    assert said(type="response.done", response={"id": "R1", "status": "failed"}) == ev.ResponseEnded(
        "R1", "failed"
    )


@pytest.mark.parametrize(
    ("usage", "billed_ms"),
    [
        ({"type": "duration", "seconds": 4.5}, 4_500),
        ({"type": "tokens", "input_token_details": {"audio_tokens": 27}}, 2_700),
        (None, 0),
    ],
)
def test_transcription_is_billed_by_duration_or_by_audio_tokens(usage: Any, billed_ms: int) -> None:
    kind = "conversation.item.input_audio_transcription.completed"
    assert said(type=kind, item_id="U1", transcript="hello", usage=usage) == ev.CallerTranscriptEnded(
        "U1", "hello", billed_ms
    )


# -- writing: GA ----------------------------------------------------------------------------------


def test_the_session_is_of_the_declared_ga_type_and_sets_the_format_on_both_sides() -> None:
    session = sent(ef.ConfigureUpstream("voice"))["session"]
    RealtimeSessionCreateRequest.model_validate(session, strict=True)
    pcm = {"type": "audio/pcm", "rate": 24_000}
    assert session["audio"]["input"]["format"] == session["audio"]["output"]["format"] == pcm
    assert session["output_modalities"] == ["audio"]
    assert (session["truncation"], session["max_output_tokens"]) == (
        {"type": "retention_ratio", "retention_ratio": 0.8},
        900,
    )


def test_while_history_is_put_back_upstream_takes_no_turn_and_is_let_loose_after_it() -> None:
    held = sent(ef.ConfigureUpstream("voice", holds_turns=True))["session"]["audio"]["input"][
        "turn_detection"
    ]
    assert (held["create_response"], held["interrupt_response"]) == (False, False)
    loose = sent(ef.ConfigureUpstream("voice", "turns"))["session"]
    assert loose == {"type": "realtime", "audio": {"input": {"turn_detection": VAD}}}


def test_a_change_of_mode_sends_no_voice_again() -> None:
    assert sent(ef.ConfigureUpstream("text", "mode"))["session"] == {
        "type": "realtime",
        "output_modalities": ["text"],
    }


def test_history_goes_back_in_as_text_the_agents_as_output_text_at_its_place() -> None:
    event = sent(ef.AddAgentText("A1", "It is a ratio.", "root"))
    assert event["previous_item_id"] == "root"
    assert event["item"]["content"] == [{"type": "output_text", "text": "It is a ratio."}]
    assert "previous_item_id" not in sent(ef.AddAgentText("A1", "It is a ratio."))
    assert sent(ef.AddSystemText("N1", "Wrap up."))["item"]["role"] == "system"
    call = sent(ef.AddToolCall("F1", "c1", "save", "{}"))["item"]
    assert (call["type"], call["call_id"], call["name"], call["arguments"]) == (
        "function_call",
        "c1",
        "save",
        "{}",
    )


def test_a_create_carries_its_id_twice_and_keeps_the_sessions_instructions() -> None:
    event = sent(ef.CreateResponse("create_7", "Greet the caller.", may_call_tools=False))
    assert event["event_id"] == event["response"]["metadata"]["parley_create"] == "create_7"
    assert event["response"]["instructions"] == "You are Cap.\n\nGreet the caller."
    assert event["response"]["tool_choice"] == "none"


def test_effects_that_are_not_for_upstream_write_nothing() -> None:
    for effect in (ef.PausePlayout(), ef.SetMicPolicy("drop"), ef.Ignored("x"), ef.OpenUpstream()):
        assert encode(effect, PROFILE) is None


def test_caller_audio_is_appended_as_base64() -> None:
    event = json.loads(realtime_codec.encode_append(b"\1\0\2\0"))
    assert event == {"type": "input_audio_buffer.append", "audio": "AQACAA=="}


# -- writing: beta --------------------------------------------------------------------------------


def test_beta_gets_the_flat_session_without_what_it_would_refuse() -> None:
    session = sent(ef.ConfigureUpstream("voice"), BETA)["session"]
    assert "type" not in session
    assert "audio" not in session
    assert session["modalities"] == ["text", "audio"]
    assert session["input_audio_format"] == session["output_audio_format"] == "pcm16"
    assert session["turn_detection"] == VAD
    assert session["input_audio_transcription"] is None


def test_beta_gets_assistant_history_as_text() -> None:
    item = sent(ef.AddAgentText("A1", "Hello."), BETA)["item"]
    assert item["content"] == [{"type": "text", "text": "Hello."}]


def test_beta_server_events_are_read_like_ga_ones() -> None:
    words = {"response_id": "R", "item_id": "A", "content_index": 0, "delta": "Hi"}
    assert said(type="response.audio_transcript.delta", **words) == said(
        type="response.output_audio_transcript.delta", **words
    )
    item = {"id": "U1", "type": "message", "role": "user", "content": []}
    assert isinstance(said(type="conversation.item.created", item=item), ev.ItemAdded)
