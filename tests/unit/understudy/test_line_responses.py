"""What a fault script makes of responses: failed, incomplete, cut off, late after a cancel, colliding, overruled."""

from __future__ import annotations

import json
from typing import Any

import pytest

from contract.ga_types import faults as type_faults
from parley_common.audio import silence
from parley_understudy.brain.types import Decision
from parley_understudy.wire import Think
from unit.understudy.core_stage import Stage, kinds, loud, transcript
from unit.understudy.test_line import AUDIO, stage, statuses

TOOLS = [{"type": "function", "name": "hang_up"}, {"type": "function", "name": "look_up"}]


def status_error(played: Stage) -> dict[str, Any]:
    error: dict[str, Any] = played.of("response.done")[-1]["response"]["status_details"]["error"]
    return error


@pytest.mark.parametrize(
    ("fail", "kind", "code", "wording"),
    [
        (
            {"code": "rate_limit_exceeded", "retry_after_s": 86.4},
            "rate_limit_exceeded",
            "rate_limit_exceeded",
            "Please try again in 1m26.4s. Visit https://platform.openai.com/account/rate-limits to learn more.",
        ),
        ("insufficient_quota", "insufficient_quota", "insufficient_quota", "You exceeded your current quota"),
        ("server_error", "server_error", None, "We recommend you retry your request."),
        (
            "input_image_safety_violation",
            "invalid_request_error",
            "input_image_safety_violation",
            "safety system",
        ),
        (
            "credit_balance_exhausted",
            "invalid_request_error",
            "credit_balance_exhausted",
            "You have no credits remaining",
        ),
        ({"code": "new", "type": "strange", "message": "So it is."}, "strange", "new", "So it is."),
    ],
)
def test_a_response_fails_as_soon_as_it_is_created_with_no_items_and_no_cost(
    fail: Any, kind: str, code: str | None, wording: str
) -> None:
    played = stage({"when": {"response": 1}, "do": {"fail": fail}})
    played.say("hello")
    assert kinds(played.events)[-2:] == ["response.created", "response.done"]
    done = played.of("response.done")[0]["response"]
    assert (done["status"], done["output"], done["usage"]["total_tokens"]) == ("failed", [], 0)
    assert (status_error(played)["type"], status_error(played)["code"]) == (kind, code)
    assert wording in status_error(played)["message"]
    assert type_faults(played.events) == []
    played.say("again")
    assert statuses(played) == ["failed", "completed"]


def test_a_server_error_names_the_session_and_a_rate_limit_the_model() -> None:
    played = stage(
        {"when": {"response": 1}, "do": {"fail": "server_error"}},
        {"when": {"response": 2}, "do": {"fail": {"code": "rate_limit_exceeded", "retry_after_s": 0.864}}},
    )
    played.say("hello")
    assert played.events[0]["session"]["id"] in status_error(played)["message"]
    played.say("again")
    assert "Rate limit reached for gpt-realtime in" in status_error(played)["message"]
    assert "Please try again in 864ms." in status_error(played)["message"]


@pytest.mark.parametrize("pace", [None, 13])
@pytest.mark.parametrize("reason", ["content_filter", "max_output_tokens"])
def test_a_response_is_left_incomplete_after_its_nth_delta(reason: str, pace: float | None) -> None:
    when = {"response": 1, "server": AUDIO, "nth": 2}
    played = stage({"when": when, "do": {"incomplete": reason}}, pace=pace)
    played.say("tell me a story")
    played.advance(60_000)
    done = played.of("response.done")[0]["response"]
    assert done["status_details"] == {"type": "incomplete", "reason": reason}
    assert len(played.of(AUDIO)) == 2
    assert done["output"][0]["status"] == "incomplete"
    assert done["usage"]["output_token_details"]["audio_tokens"] == 10
    assert kinds(played.events)[-2:] == ["response.done", "rate_limits.updated"]


def test_a_call_is_cut_off_in_the_middle_of_its_arguments() -> None:
    arguments = "response.function_call_arguments.delta"
    played = stage(
        {
            "when": {"response": 1},
            "do": {"call": {"name": "look_up", "arguments": {"city": "Bonn", "days": 3}}},
        },
        {"when": {"server": arguments, "nth": 3}, "do": {"cancel": "turn_detected"}},
    )
    played.update(tools=TOOLS)
    played.say("hello")
    done = played.of("response.done")[0]["response"]
    (call,) = done["output"]
    assert done["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
    assert call["status"] == "incomplete"
    with pytest.raises(json.JSONDecodeError):
        json.loads(call["arguments"])
    assert played.of("response.output_item.done")[0]["item"] == call


@pytest.mark.parametrize("late", [0, 1, 4])
def test_late_deltas_come_after_a_cancel_and_before_the_response_is_done(late: int) -> None:
    played = stage({"when": {"response": 1}, "do": {"late_deltas": late}}, pace=10)
    played.say("tell me a story")
    played.advance(100)
    before = len(played.of(AUDIO))
    played.send("response.cancel")
    active = not played.of("response.done")
    assert active == (late > 0)
    if active:
        (error,) = played.send("response.create")
        assert error["error"]["code"] == "conversation_already_has_active_response"
        assert played.send("response.cancel") == [], "it is being cancelled already"
    played.advance(5_000)
    assert len(played.of(AUDIO)) == before + late
    assert played.of("response.done")[0]["response"]["status_details"]["reason"] == "client_cancelled"
    assert kinds(played.events)[-1] == "response.done"


def test_late_deltas_come_after_a_barge_in_too_also_for_a_reply_that_ends_before_they_do() -> None:
    played = stage({"when": {"response": 1}, "do": {"late_deltas": 1000}}, pace=10)
    played.say("tell me a story")
    played.advance(100)
    played.append(silence(100) + loud(300))
    assert played.of("input_audio_buffer.speech_started")
    played.advance(60_000)
    done = played.of("response.done")[0]["response"]
    assert done["status_details"] == {"type": "cancelled", "reason": "turn_detected"}


def test_a_response_of_the_servers_own_collides_with_a_clients_create() -> None:
    played = stage({"when": {"client": "response.create"}, "do": "collide"})
    played.hold.add(Think)
    played.write("hello")
    created, error = played.send("response.create", event_id="mine")
    assert created["type"] == "response.created"
    assert error["error"]["code"] == "conversation_already_has_active_response"
    assert error["error"]["event_id"] == "mine"
    assert created["response"]["id"] in error["error"]["message"]
    assert created["response"]["metadata"] is None
    played.release(Think)
    assert statuses(played) == ["completed"], "one response, not two"


def test_calls_run_away() -> None:
    played = stage({"when": {"response": 2}, "do": {"call": {"name": "hang_up"}}, "times": 40})
    played.update(tools=TOOLS, output_modalities=["text"])
    played.say("hello")
    for _ in range(41):
        played.send("response.create")
        for call in played.of("response.function_call_arguments.done")[-1:]:
            output = {"type": "function_call_output", "call_id": call["call_id"], "output": "No."}
            played.send("conversation.item.create", item=output)
    calls = played.of("response.function_call_arguments.done")
    assert len(calls) == len({call["call_id"] for call in calls}) == 40
    assert {call["name"] for call in calls} == {"hang_up"}


def test_what_is_said_and_called_can_be_scripted_also_two_calls_at_once() -> None:
    calls = [{"name": "look_up", "arguments": {"city": "Bonn"}}, {"name": "hang_up"}]
    played = stage(
        {"when": {"response": 1}, "do": [{"say": "One moment."}, {"call": calls}]}, model="gpt-realtime-2.1"
    )
    played.update(tools=TOOLS)
    played.say("hello")
    message, first, second = played.of("response.done")[0]["response"]["output"]
    assert message["content"][0]["transcript"] == "One moment."
    assert message["phase"] == "commentary"
    assert (first["name"], json.loads(first["arguments"]), second["name"]) == (
        "look_up",
        {"city": "Bonn"},
        "hang_up",
    )
    assert first["call_id"] != second["call_id"]
    order = [(event["type"], event["output_index"]) for event in played.events if "output_index" in event]
    assert order.index(("response.output_item.added", 1)) < order.index(("response.output_item.done", 0)), (
        "interleaved"
    )
    assert order.index(("response.output_item.done", 0)) < order.index(("response.output_item.done", 1))
    assert order.index(("response.output_item.done", 1)) < order.index(("response.output_item.added", 2))
    assert type_faults(played.events) == []


def test_a_long_reply_comes_as_several_spoken_messages_of_one_response() -> None:
    played = stage({"when": {"response": 1}, "do": {"messages": 3}}, model="gpt-realtime-2.1")
    whole = Stage("gpt-realtime-2.1")
    for each in (played, whole):
        each.say("tell me a story")
    output = played.of("response.done")[0]["response"]["output"]
    assert len({item["id"] for item in output}) == 3
    said = "".join(item["content"][0]["transcript"] for item in output)
    assert said == transcript(whole.of("response.done")[0])
    per_item = [
        sum(len(e["delta"]) for e in played.of(AUDIO) if e["item_id"] == item["id"]) for item in output
    ]
    assert all(per_item)
    assert [event["output_index"] for event in played.of("response.output_item.done")] == [0, 1, 2]
    truncated = played.send(
        "conversation.item.truncate", item_id=output[1]["id"], content_index=0, audio_end_ms=500
    )
    assert kinds(truncated) == ["conversation.item.truncated"]
    assert type_faults(played.events) == []


def test_a_response_beside_the_conversation_fails_without_touching_the_default_one() -> None:
    played = stage({"when": {"response": 2}, "do": {"fail": "server_error"}})
    played.hold.add(Think)
    played.say("hello")
    played.send("response.create", response={"conversation": "none", "metadata": {"kind": "outside"}})
    (failed,) = played.of("response.done")
    assert failed["response"]["metadata"] == {"kind": "outside"}
    played.release(Think)
    assert statuses(played) == ["failed", "completed"]


def test_faults_by_time_or_by_a_client_event_strike_the_active_response() -> None:
    played = stage(
        {"when": {"at_ms": 150}, "do": {"fail": "server_error"}},
        {"when": {"client": "input_audio_buffer.clear"}, "do": {"cancel": "client_cancelled"}},
        pace=10,
    )
    played.say("tell me a story")
    played.advance(200)
    assert statuses(played) == ["failed"]
    played.say("tell me a story")
    played.send("input_audio_buffer.clear")
    assert statuses(played) == ["failed", "cancelled"]


def test_a_brain_that_was_overruled_is_not_asked_to_change_its_mind() -> None:
    played = stage(
        {"when": {"response": 1}, "do": {"say": "Scripted."}}, brain=lambda _view: Decision("Own words.", ())
    )
    played.say("hello")
    played.say("hello")
    assert [transcript(done) for done in played.of("response.done")] == ["Scripted.", "Own words."]
