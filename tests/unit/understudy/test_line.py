"""What a client meets when a fault script is followed: every fault, as it leaves the session."""

from __future__ import annotations

import json
from typing import Any

import pybase64
import pytest

from contract.ga_types import faults as type_faults
from parley_understudy.fault_plan import plan_of
from parley_understudy.wire import Close, FallSilent, Vanish
from unit.understudy.core_stage import Stage, kinds, transcript

AUDIO = "response.output_audio.delta"
TRANSCRIPTION = "conversation.item.input_audio_transcription"


def stage(*rules: dict[str, Any], model: str = "gpt-realtime", **options: Any) -> Stage:
    return Stage(model, faults=list(rules), **options)


def statuses(played: Stage) -> list[str]:
    return [event["response"]["status"] for event in played.of("response.done")]


# -- the socket ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("do", "ending"),
    [
        ("drop", Vanish()),
        ("silence", FallSilent()),
        ({"close": {"code": 1011, "reason": "server fault"}}, Close(1011, "server fault")),
    ],
)
def test_an_ending_comes_right_after_its_event_and_nothing_comes_after_it(do: Any, ending: Any) -> None:
    played = stage({"when": {"server": AUDIO, "nth": 3}, "do": do})
    played.say("tell me a story")
    assert played.closed == ending
    assert played.events[-1]["type"] == AUDIO
    assert len(played.of(AUDIO)) == 3
    assert played.say("hello") == []
    assert played.advance(60_000) == []
    assert played.line.due_ms() is None


def test_a_client_event_can_end_the_session_before_it_is_answered_to_the_end() -> None:
    played = stage({"when": {"client": "response.create"}, "do": "drop"}, pace=10)
    played.say("tell me a story")
    assert played.closed == Vanish()
    assert played.of("response.created") == []


def test_time_ends_a_session_on_its_own() -> None:
    played = stage({"when": {"at_ms": 5_000}, "do": "expire"}, pace=10)
    assert played.line.due_ms() == 5_000
    played.advance(4_999)
    assert played.closed is None
    played.advance(1)
    assert played.of("error")[0]["error"]["code"] == "session_expired"
    assert played.closed == Close(1001, "Your session hit the maximum duration of 60 minutes.")


@pytest.mark.parametrize(
    ("refuse", "close", "code"),
    [
        ("invalid_api_key", Close(3000, "invalid_request_error.invalid_api_key"), "invalid_api_key"),
        ("missing_authentication", Close(3000, "invalid_request_error"), None),
        ("invalid_model", Close(4000, "invalid_request_error.invalid_model"), "invalid_model"),
        ("insufficient_quota", Close(4000, "insufficient_quota.insufficient_quota"), "insufficient_quota"),
        ({"code": "odd", "message": "No.", "close": 3999}, Close(3999, "invalid_request_error.odd"), "odd"),
    ],
)
def test_a_session_is_refused_after_the_handshake(refuse: Any, close: Close, code: str | None) -> None:
    played = stage({"when": "open", "do": {"refuse": refuse}})
    assert [event["type"] for event in played.events] == ["error"]
    assert played.events[0]["error"]["code"] == code
    assert played.closed == close
    assert type_faults(played.events) == []


def test_a_session_can_be_silent_from_the_start() -> None:
    played = stage({"when": {"server": "session.created"}, "do": ["lose", "silence"]})
    assert (played.events, played.closed) == ([], FallSilent())


# -- single events ---------------------------------------------------------------------------------


def test_a_delayed_event_holds_back_all_that_follow_it_as_a_stream_does() -> None:
    played = stage({"when": {"server": "response.done"}, "do": {"delay_ms": 400}})
    played.say("hello")
    played.update(instructions="New.")
    assert played.of("response.done") == played.of("session.updated") == []
    played.advance(399)
    assert played.of("response.done") == []
    assert kinds(played.advance(1)) == ["response.done", "session.updated", "rate_limits.updated"]


def test_an_event_comes_twice() -> None:
    played = stage({"when": {"server": "conversation.item.added"}, "do": "duplicate"})
    first, second, *_ = played.write("hello")
    assert first == second
    assert played.of("conversation.item.done")


def test_two_events_change_places() -> None:
    played = stage({"when": {"server": "conversation.item.added"}, "do": "swap"})
    assert kinds(played.write("hello")) == ["conversation.item.done", "conversation.item.added"]


def test_an_event_gets_lost_on_its_way_and_one_on_its_way_in() -> None:
    played = stage(
        {"when": {"server": "response.done"}, "do": "lose"},
        {"when": {"client": "response.create", "nth": 2}, "do": "lose"},
    )
    played.say("hello")
    assert played.of("response.done") == []
    assert kinds(played.say("again")) == ["conversation.item.added", "conversation.item.done"]


def test_a_malformed_frame_comes_before_its_event_and_the_session_goes_on() -> None:
    played = stage({"when": {"server": "response.created"}, "do": "malformed"})
    played.say("hello")
    (frame,) = played.raw
    assert frame.startswith('{"type":"response.created"')
    with pytest.raises(json.JSONDecodeError):
        json.loads(frame)
    assert statuses(played) == ["completed"]


def test_audio_of_half_a_sample_is_one_byte_short_and_nothing_else() -> None:
    played = stage({"when": {"server": AUDIO, "nth": 2}, "do": "odd_audio"})
    whole = Stage()
    for each in (played, whole):
        each.say("tell me a story")
    ours = [pybase64.b64decode(event["delta"]) for event in played.of(AUDIO)]
    theirs = [pybase64.b64decode(event["delta"]) for event in whole.of(AUDIO)]
    assert ours[1] == theirs[1][:-1]
    assert ours[0] == theirs[0]
    assert ours[2:] == theirs[2:]


def test_a_type_that_no_client_knows_is_sent_as_it_is_written() -> None:
    played = stage(
        {"when": {"server": "response.created"}, "do": {"send": {"type": "response.mystery", "x": 1}}}
    )
    played.say("hello")
    (mystery,) = played.of("response.mystery")
    assert mystery["event_id"].startswith("event_")
    assert mystery["x"] == 1


def test_an_error_event_of_any_code_follows_a_server_event() -> None:
    played = stage({"when": {"server": "response.created"}, "do": {"error": "billing_hard_limit_reached"}})
    played.say("hello")
    order = kinds(played.events)
    assert order[order.index("response.created") + 1] == "error"
    assert played.of("error")[0]["error"]["code"] == "billing_hard_limit_reached"
    assert statuses(played) == ["completed"]
    assert type_faults(played.events) == []


def test_a_client_event_is_answered_with_an_error_and_has_no_other_effect() -> None:
    wrong = {"code": "unlucky", "message": "Not today.", "param": "session.instructions"}
    played = stage({"when": {"client": "session.update", "nth": 2}, "do": {"error": wrong}})
    played.update(instructions="One.")
    event = {
        "type": "session.update",
        "event_id": "mine",
        "session": {"type": "realtime", "instructions": "Two."},
    }
    (error,) = played.send_raw(event)
    assert error["error"] == {"type": "invalid_request_error", **wrong, "event_id": "mine"}
    assert played.core.config["instructions"] == "One."


# -- transcripts -----------------------------------------------------------------------------------


def transcribed(*rules: dict[str, Any]) -> Stage:
    played = stage(*rules)
    played.update(audio={"input": {"transcription": {"model": "gpt-realtime-whisper"}}})
    return played


def on_turn(number: int, transcript: Any) -> dict[str, Any]:
    return {
        "when": {"server": "input_audio_buffer.committed", "nth": number},
        "do": {"transcript": transcript},
    }


def test_a_transcript_is_late_and_holds_nothing_else_back() -> None:
    played = transcribed(on_turn(1, {"late_ms": 3_000}))
    played.speak(900)
    assert statuses(played) == ["completed"]
    assert played.of(f"{TRANSCRIPTION}.completed") == []
    played.advance(3_000)
    assert kinds(played.events)[-2:] == [f"{TRANSCRIPTION}.delta", f"{TRANSCRIPTION}.completed"]
    played.speak(900)
    assert len(played.of(f"{TRANSCRIPTION}.completed")) == 2, "the next one is in time"


def test_a_transcript_never_comes() -> None:
    played = transcribed(on_turn(1, "missing"))
    played.speak(900)
    played.speak(900)
    assert len(played.of(f"{TRANSCRIPTION}.completed")) == 1


@pytest.mark.parametrize(
    ("failed", "code"),
    [("failed", "audio_unintelligible"), ({"failed": "DeploymentNotFound"}, "DeploymentNotFound")],
)
def test_a_transcription_fails_although_the_model_heard_the_turn(failed: Any, code: str) -> None:
    played = transcribed(on_turn(1, failed))
    played.speak(900)
    (event,) = played.of(f"{TRANSCRIPTION}.failed")
    assert event["error"]["code"] == code
    assert played.of(f"{TRANSCRIPTION}.delta") == played.of(f"{TRANSCRIPTION}.completed") == []
    assert transcript(played.of("response.done")[0]) == "You said: hello"
    assert type_faults(played.events) == []


def test_transcripts_come_in_the_wrong_order() -> None:
    played = transcribed(on_turn(1, "after_next"))
    played.heard.extend(["first", "second"])
    played.speak(900)
    assert played.of(f"{TRANSCRIPTION}.completed") == []
    played.speak(900)
    assert [event["transcript"] for event in played.of(f"{TRANSCRIPTION}.completed")] == ["second", "first"]


# -- scripts -------------------------------------------------------------------------------------


def test_the_same_script_and_seed_give_the_same_events_to_the_last_byte() -> None:
    rules = [
        {"when": {"server": "*"}, "do": "duplicate", "times": "always", "p": 0.2},
        {"when": {"server": AUDIO}, "do": {"delay_ms": 30}, "times": "always", "p": 0.3},
        {"when": {"server": "response.*"}, "do": "swap", "times": "always", "p": 0.1},
    ]

    def run(seed: int) -> list[dict[str, Any]]:
        played = Stage(pace=13, faults={"rules": rules, "seed": seed})
        played.say("tell me a story")
        played.advance(60_000)
        return played.events

    assert run(3) == run(3)
    assert kinds(run(3)) != kinds(run(4))


def test_a_script_that_comes_later_counts_from_then_on_beside_the_first() -> None:
    played = stage({"when": {"response": 3}, "do": {"fail": "insufficient_quota"}})
    played.say("hello")
    played.line.disturb(
        plan_of([{"when": {"response": 1, "server": AUDIO}, "do": {"cancel": "client_cancelled"}}])
    )
    played.say("hello")
    played.say("hello")
    assert statuses(played) == ["completed", "cancelled", "failed"]


def test_without_a_script_nothing_is_different() -> None:
    with_none, with_idle = Stage(pace=13), stage({"when": {"at_ms": 86_000_000}, "do": "drop"}, pace=13)
    for each in (with_none, with_idle):
        each.say("tell me a story")
        each.speak(900)
        each.advance(10_000)
    assert with_none.events == with_idle.events
