"""Whatever clients send, in whatever order, the session answers, stays whole, and every event is of its GA type."""

from __future__ import annotations

import base64
from collections import Counter
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.ga_types import faults
from parley_common.audio import silence
from parley_understudy.client_events import SHAPES
from parley_understudy.wire import Hear, Speak, Think
from unit.understudy.core_stage import Stage, loud

IDS = st.sampled_from(["a", "b", "root", "", "last", "x" * 600])
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | IDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
TURN_DETECTION = st.sampled_from(
    [
        None,
        {"type": "semantic_vad"},
        {"type": "server_vad", "idle_timeout_ms": 5000},
        {"type": "server_vad", "create_response": False, "interrupt_response": False},
        {"type": "server_vad", "silence_duration_ms": 0, "prefix_padding_ms": 0, "threshold": 1},
        {"type": "server_vad", "threshold": 0},
    ]
)
FORMATS = st.sampled_from(
    [{"type": "audio/pcm"}, {"type": "audio/pcmu"}, {"type": "audio/pcma", "rate": 8000}]
)
SESSIONS = st.fixed_dictionaries(
    {"type": st.sampled_from(["realtime", "transcription"])},
    optional={
        "output_modalities": st.sampled_from([["audio"], ["text"], []]),
        "audio": st.fixed_dictionaries(
            {},
            optional={
                "input": st.fixed_dictionaries(
                    {},
                    optional={
                        "turn_detection": TURN_DETECTION,
                        "format": FORMATS,
                        "transcription": st.sampled_from([None, {"model": "whisper-1"}, {"model": "other"}]),
                    },
                ),
                "output": st.fixed_dictionaries({}, optional={"format": FORMATS, "speed": st.floats(0, 2)}),
            },
        ),
        "tools": st.sampled_from([[], [{"type": "function", "name": "story", "parameters": {"a": [{}]}}]]),
        "anything": JSON,
    },
)
CONTENT = st.lists(
    st.sampled_from(
        [
            {"type": "input_text", "text": "tell me a story"},
            {"type": "input_audio", "audio": base64.b64encode(b"\x01\x02\x03").decode()},
            {"type": "output_text", "text": ""},
            {"type": "input_image", "image_url": "x"},
        ]
    ),
    max_size=2,
)
ITEMS = st.fixed_dictionaries(
    {"type": st.sampled_from(["message", "function_call", "function_call_output", "mcp_call"])},
    optional={
        "id": IDS,
        "role": st.sampled_from(["user", "assistant", "system", "tool"]),
        "content": CONTENT | JSON,
        "call_id": st.sampled_from(["call_1", "?"]),
        "name": st.just("story"),
        "arguments": st.just("{}"),
        "output": st.just("done"),
    },
)
RESPONSES = st.fixed_dictionaries(
    {},
    optional={
        "conversation": st.sampled_from(["auto", "none"]),
        "input": st.lists(ITEMS | st.builds(lambda i: {"type": "item_reference", "id": i}, IDS), max_size=2),
        "max_output_tokens": st.sampled_from([1, 20, "inf"]),
        "metadata": st.sampled_from([None, {"k": "v"}]),
        "tool_choice": st.sampled_from(["none", "auto", {"type": "function", "name": "story"}]),
        "anything": JSON,
    },
)
AUDIO = st.sampled_from([loud(900), silence(700), loud(40), b"", b"\x01", bytes(range(256)) * 40])
EVENTS = st.one_of(
    st.builds(lambda s: {"type": "session.update", "session": s}, SESSIONS | JSON),
    st.builds(
        lambda pcm: {"type": "input_audio_buffer.append", "audio": base64.b64encode(pcm).decode()},
        AUDIO,
    ),
    st.builds(
        lambda item, at: {"type": "conversation.item.create", "item": item, "previous_item_id": at},
        ITEMS,
        st.none() | IDS,
    ),
    st.builds(
        lambda i, at, ms: {
            "type": "conversation.item.truncate",
            "item_id": i,
            "content_index": at,
            "audio_end_ms": ms,
        },
        IDS,
        st.integers(-1, 2**66),
        st.integers(-1, 400),
    ),
    st.builds(
        lambda kind, i: {"type": kind, "item_id": i},
        st.sampled_from(["conversation.item.delete", "conversation.item.retrieve"]),
        IDS,
    ),
    st.builds(lambda r: {"type": "response.create", "response": r}, RESPONSES),
    st.builds(lambda kind: {"type": kind}, st.sampled_from(sorted(SHAPES))),
    st.builds(
        lambda kind, rest: {**rest, "type": kind}, st.sampled_from(sorted(SHAPES)), st.dictionaries(IDS, JSON)
    ),
    JSON,
)
HOLDS = st.sets(st.sampled_from([Hear, Think, Speak]))
MODELS = st.sampled_from(["gpt-realtime", "gpt-realtime-2.1"])


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(events=st.lists(EVENTS, max_size=14), hold=HOLDS, model=MODELS, deaf=st.booleans())
def test_no_client_breaks_a_session(events: list[Any], hold: set[type], model: str, deaf: bool) -> None:
    stage = Stage(model, pace=13)
    stage.hold = set(hold)
    stage.heard.extend([None] * 50 if deaf else [])
    for event in events:
        stage.send_raw(aimed(event, stage))
        stage.advance(7)
    stage.release(Hear, Think, Speak)
    stage.advance(600_000)

    assert faults(msgspec.json.decode(msgspec.json.encode(stage.events))) == []
    assert_whole(stage)


def aimed(event: Any, stage: Stage) -> Any:
    """Return the event with "last" put as the id of the item that came last: so that some of them hit."""
    added = stage.of("conversation.item.added")
    if isinstance(event, dict) and event.get("item_id") == "last" and added:
        return {**event, "item_id": added[-1]["item"]["id"]}
    return event


def assert_whole(stage: Stage) -> None:
    """Every response that was created is done, once, and everything in it was shut before."""
    assert stage.core.due_ms() is None
    created = [event["response"]["id"] for event in stage.of("response.created")]
    assert created == sorted(set(created), key=created.index)
    assert Counter(created) == Counter(event["response"]["id"] for event in stage.of("response.done"))
    opened = Counter(event["item"]["id"] for event in stage.of("response.output_item.added"))
    assert opened == Counter(event["item"]["id"] for event in stage.of("response.output_item.done"))
    for done in stage.of("response.done"):
        used = done["response"]["usage"]
        details = used["input_token_details"]
        assert used["total_tokens"] == used["input_tokens"] + used["output_tokens"]
        assert details["cached_tokens"] <= used["input_tokens"]


def test_json_nested_deeper_than_any_schema_is_refused() -> None:
    deep: Any = {}
    for _ in range(400):
        deep = {"properties": deep}
    tool = {"type": "function", "name": "deep", "parameters": deep}
    stage = Stage()
    (error,) = stage.update(tools=[tool])
    assert error["error"]["code"] == "invalid_value"
    assert "nested" in error["error"]["message"]
    assert stage.core.config["tools"] == []
