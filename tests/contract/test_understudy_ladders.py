"""The understudy's events come in the order in which the API sent them in recorded sessions."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from contract.ga_types import faults
from parley_understudy.brain.types import Call, Decision, View
from unit.understudy.core_stage import Stage, kinds

RECORDINGS = Path(__file__).parent / "recordings"
FLOATING = ("conversation.item.input_audio_transcription.", "rate_limits.updated")
"""These have no place of their own: transcription runs beside the response, and rate limits may be missing or be
overtaken by the next turn, in the recordings themselves."""


def recorded(name: str) -> list[dict[str, Any]]:
    lines = (RECORDINGS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def ladder(events: list[dict[str, Any]]) -> list[str]:
    """Return the order of events; how audio and transcript deltas interleave is left to chance by the API."""
    order = []
    for kind in kinds([event for event in events if not event["type"].startswith(FLOATING)]):
        step = "response.deltas" if kind in _SPEECH else kind
        if not (order and step == "response.deltas" == order[-1]):
            order.append(step)
    return order


_SPEECH = ("response.output_audio.delta", "response.output_audio_transcript.delta")


def received(name: str) -> list[dict[str, Any]]:
    return [line["event"] for line in recorded(name) if line["dir"] == "recv"]


def replayed(name: str, stage: Stage) -> list[dict[str, Any]]:
    """Send what the recorded client sent, each event when the client had received as much as then."""
    seen: Counter[str] = Counter()
    for line in recorded(name):
        kind = line["event"]["type"]
        if line["dir"] == "send":
            stage.send_raw(localised(line["event"], stage))
        elif kind in ("response.done", "response.function_call_arguments.done"):
            seen[kind] += 1
            while len(stage.of(kind)) < seen[kind]:
                assert stage.core.due_ms() is not None, f"{kind} will never come"
                stage.advance(1)
    return stage.events


def localised(event: dict[str, Any], stage: Stage) -> dict[str, Any]:
    """Return a recorded client event with our own ids for the server's, and elided text put back."""
    if event.get("item", {}).get("type") == "function_call_output":
        call_id = stage.of("response.function_call_arguments.done")[-1]["call_id"]
        return {**event, "item": {**event["item"], "call_id": call_id}}
    if event["type"] == "conversation.item.truncate":
        return {**event, "item_id": stage.of("response.output_item.done")[-1]["item"]["id"]}
    if "elided" in json.dumps(event):
        return json.loads(json.dumps(event).replace('<256001 x \\"a\\", elided>', "a" * 256_001))
    return event


def weather_brain(view: View) -> Decision:
    if type(view.items[-1]).__name__ == "Answered":
        return Decision("It is foggy and 12 degrees in London.", ())
    return Decision(weather_brain.comment, (Call("get_weather", {"city": "London"}),))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "model", "comment"),
    [
        ("ga_openai_tool_call_round", "gpt-realtime", ""),
        ("ga_openai_tool_call_round_2.1_interleaved", "gpt-realtime-2.1", "I’ll check the current weather."),
    ],
)
def test_a_tool_round_is_laddered_as_recorded(name: str, model: str, comment: str) -> None:
    weather_brain.comment = comment  # type: ignore[attr-defined]
    stage = Stage(model, brain=weather_brain, pace=13)
    ours = replayed(name, stage)

    assert ladder(ours) == ladder(received(name))
    assert faults(ours) == []


@pytest.mark.parametrize(
    "name",
    ["ga_openai_truncate_after_done", "ga_openai_history_seeding_text", "ga_openai_item_too_long_error"],
)
def test_typed_turns_are_laddered_as_recorded(name: str) -> None:
    ours = replayed(name, Stage(pace=13))

    assert ladder(ours) == ladder(received(name))
    assert faults(ours) == []


def test_a_voice_turn_is_laddered_as_recorded() -> None:
    stage = Stage()
    stage.update(audio={"input": {"transcription": {"model": "gpt-realtime-whisper"}}})
    stage.speak(1500)

    ours = ladder(stage.events)
    assert ours == ladder(received("ga_openai_server_vad_voice_turn"))
    assert faults(stage.events) == []


def test_a_caller_who_says_nothing_is_asked_after_as_recorded() -> None:
    stage = Stage("gpt-realtime-2.1-mini")
    detection = {"type": "server_vad", "idle_timeout_ms": 5000}
    stage.update(
        audio={"input": {"turn_detection": detection, "transcription": {"model": "gpt-realtime-whisper"}}}
    )
    stage.heard.append(None)
    stage.say("Say hi in two words.")
    stage.append(bytes(48 * 9000), chunk_ms=100)

    ours, theirs = ladder(stage.events), ladder(received("ga_openai_idle_timeout_2.1mini"))
    assert ours == theirs
    (timeout,) = stage.of("input_audio_buffer.timeout_triggered")
    assert timeout["audio_start_ms"] % 32 == timeout["audio_end_ms"] % 32 == 0
    assert 4900 <= timeout["audio_end_ms"] - timeout["audio_start_ms"] <= 5200
    (heard,) = stage.of("conversation.item.input_audio_transcription.completed")
    assert (heard["transcript"], heard["usage"]) == ("", {"type": "duration", "seconds": 0})


@pytest.mark.parametrize("name", sorted(path.stem for path in RECORDINGS.glob("*.jsonl")))
def test_the_recordings_themselves_pass_the_same_check(name: str) -> None:
    assert faults(received(name)) == []


@pytest.mark.parametrize("name", sorted(path.stem for path in RECORDINGS.glob("*.jsonl")))
def test_the_fields_of_our_events_are_those_of_the_recorded_ones(name: str) -> None:
    stage = Stage("gpt-realtime-2.1" if "2.1" in name else "gpt-realtime")
    stage.update(audio={"input": {"transcription": {"model": "gpt-realtime-whisper"}}})
    stage.speak(1500)
    stage.update(output_modalities=["text"], tools=[{"type": "function", "name": "get_weather"}])
    stage.say("please get weather")
    stage.advance(100)
    ours = {event["type"]: list(event) for event in stage.events}
    for event in received(name):
        if event["type"] in ours:
            assert ours[event["type"]] == list(event), event["type"]
