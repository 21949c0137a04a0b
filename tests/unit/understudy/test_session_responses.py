"""Responses: created, refused, cancelled, failed, cut at a limit, run beside the conversation."""

from __future__ import annotations

from typing import Any

import pybase64
import pytest

from contract.ga_types import faults
from fakes.brain import LONG_ANSWER
from parley_understudy.brain.types import Call, Decision, View
from parley_understudy.wire import Close, Hear, Speak, Think
from unit.understudy.core_stage import Stage, kinds, loud, transcript

TWO_TOOLS = [{"type": "function", "name": "find_house"}, {"type": "function", "name": "find_bank"}]


def text_stage(model: str = "gpt-realtime", **options: Any) -> Stage:
    stage = Stage(model, **options)
    stage.update(output_modalities=["text"])
    return stage


def test_a_second_create_is_refused_while_one_is_active() -> None:
    stage = Stage()
    stage.hold.add(Think)
    stage.say("hello")
    (error,) = stage.send("response.create", event_id="mine")

    active = stage.of("response.created")[0]["response"]["id"]
    assert error["error"] == {
        "type": "invalid_request_error",
        "code": "conversation_already_has_active_response",
        "message": f"Conversation already has an active response in progress: {active}. Wait until the response is "
        "finished before creating a new one.",
        "param": None,
        "event_id": "mine",
    }
    assert len(stage.of("response.created")) == 1


def test_a_new_response_may_begin_as_soon_as_the_last_one_is_done() -> None:
    stage = Stage()
    stage.say("one")
    stage.say("two")
    assert [transcript(done) for done in stage.of("response.done")] == ["You said: one", "You said: two"]


def test_cancelling_nothing_is_an_error_that_changes_nothing() -> None:
    stage = Stage()
    (error,) = stage.send("response.cancel")
    assert error["error"]["code"] == "response_cancel_not_active"
    assert error["error"]["message"] == "Cancellation failed: no active response found"


def test_a_cancelled_response_sends_one_late_delta_then_shuts_what_is_open() -> None:
    stage = Stage(pace=10)
    stage.say("tell me a story")
    stage.advance(200)
    sent = len(stage.of("response.output_audio.delta"))
    stage.send("response.cancel")

    assert len(stage.of("response.output_audio.delta")) == sent + 1
    ladder = kinds(stage.events)
    assert ladder[-7:] == [
        "response.output_audio.delta",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
    ]
    done = stage.events[-1]["response"]
    assert done["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
    assert done["output"][0]["status"] == "incomplete"
    assert LONG_ANSWER.startswith(transcript(stage.events[-1]))
    assert 0 < done["usage"]["output_token_details"]["audio_tokens"] < len(LONG_ANSWER)


@pytest.mark.parametrize("held", [Think, Hear])
def test_a_response_cancelled_before_it_said_anything_is_empty_and_costs_nothing(held: type) -> None:
    stage = Stage()
    stage.hold.add(held)
    stage.speak(900)
    stage.send("response.cancel")

    done = stage.of("response.done")[0]["response"]
    assert (done["status"], done["output"], done["usage"]["total_tokens"]) == ("cancelled", [], 0)
    assert stage.release(held) == [], "what comes late is dropped"


def test_sentences_are_rendered_two_ahead_so_that_speech_does_not_wait_and_queues_stay_short() -> None:
    stage = Stage()
    stage.hold.add(Speak)
    stage.say("tell me a story")
    assert [job.index for job in stage.jobs if isinstance(job, Speak)] == [0, 1]
    stage.release(Speak)
    assert transcript(stage.of("response.done")[0]) == LONG_ANSWER


def test_no_rate_limits_follow_a_cancelled_response() -> None:
    stage = Stage(pace=10)
    stage.say("tell me a story")
    stage.send("response.cancel")
    stage.advance(500)
    assert stage.of("rate_limits.updated") == []


def test_rate_limits_follow_a_completed_response_after_30_ms_with_tokens_only() -> None:
    stage = Stage()
    stage.say("hello")
    assert kinds(stage.advance(29)) == []
    (limits,) = stage.advance(1)
    assert [limit["name"] for limit in limits["rate_limits"]] == ["tokens"]


@pytest.mark.parametrize(("held", "items"), [(Think, 0), (Speak, 1)])
def test_a_job_that_fails_fails_its_response_and_not_the_session(held: type, items: int) -> None:
    stage = Stage()
    stage.hold.add(held)
    stage.say("hello")
    job = stage.jobs[0]
    assert isinstance(job, (Think, Speak))
    stage.fail(job)

    done = stage.of("response.done")[0]["response"]
    assert done["status"] == "failed"
    assert done["status_details"]["error"]["code"] == "rate_limit_exceeded"
    assert len(done["output"]) == items
    assert done["usage"]["total_tokens"] == 0
    stage.release(held)
    stage.say("again")
    assert stage.of("response.done")[-1]["response"]["status"] == "completed"


def test_a_response_is_cut_at_its_token_limit() -> None:
    stage = text_stage()
    stage.say("tell me a story", response={"max_output_tokens": 12})
    done = stage.of("response.done")[0]["response"]
    assert done["status_details"] == {"type": "incomplete", "reason": "max_output_tokens"}
    assert done["usage"]["output_tokens"] == 12
    assert done["max_output_tokens"] == 12
    assert stage.of("response.output_item.done")[0]["item"]["status"] == "incomplete"


def test_parallel_calls_are_items_of_one_response_with_ids_of_their_own() -> None:
    stage = text_stage()
    stage.update(tools=TWO_TOOLS)
    stage.say("find house and find bank")
    done = stage.of("response.done")[0]["response"]
    assert [item["name"] for item in done["output"]] == ["find_house", "find_bank"]
    assert len({item["call_id"] for item in done["output"]}) == 2
    assert [event["output_index"] for event in stage.of("response.output_item.added")] == [0, 1]
    assert all(len(item["call_id"]) == len("call_") + 16 for item in done["output"])


def test_one_call_at_a_time_when_parallel_calls_are_off() -> None:
    stage = text_stage("gpt-realtime-2.1")
    stage.update(tools=TWO_TOOLS, parallel_tool_calls=False)
    stage.say("find house and find bank")
    assert len(stage.of("response.done")[0]["response"]["output"]) == 1


def test_tool_choice_none_calls_nothing_whatever_the_brain_decides() -> None:
    stage = text_stage(brain=lambda _view: Decision("No.", (Call("find_house", {}),)))
    stage.update(tools=TWO_TOOLS)
    stage.say("find house", response={"tool_choice": "none"})
    assert [item["type"] for item in stage.of("response.done")[0]["response"]["output"]] == ["message"]


def test_deltas_joined_are_the_arguments() -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    stage = text_stage()
    stage.update(tools=[{"type": "function", "name": "get_weather", "parameters": parameters}])
    stage.say('get weather of "München" – now')
    (done,) = stage.of("response.function_call_arguments.done")
    joined = "".join(event["delta"] for event in stage.of("response.function_call_arguments.delta"))
    assert joined == done["arguments"] == '{"city": "get weather of \\"München\\" – now"}'


def test_phases_and_reasoning_tokens_are_for_the_second_family_only() -> None:
    for model, phase in (
        ("gpt-realtime", None),
        ("gpt-realtime-2025-08-28", None),
        ("gpt-realtime-2.1", "final_answer"),
    ):
        stage = text_stage(model)
        stage.say("hello")
        done = stage.of("response.done")[0]["response"]
        assert done["output"][0].get("phase") == phase, model
        assert ("reasoning_tokens" in done["usage"]["output_token_details"]) == bool(phase), model


def test_an_outside_response_leaves_no_items_and_runs_beside_the_default_one() -> None:
    stage = Stage()
    stage.hold.add(Think)
    stage.say("hello")
    stage.send(
        "response.create",
        response={
            "conversation": "none",
            "metadata": {"topic": "classify"},
            "output_modalities": ["text"],
            "input": [
                {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "apart"}]}
            ],
        },
    )
    stage.release(Think)

    outside = next(event["response"] for event in stage.of("response.done") if event["response"]["metadata"])
    assert outside["metadata"] == {"topic": "classify"}
    assert outside["conversation_id"] is None
    assert outside["output"][0]["content"][0]["text"] == "You said: apart"
    assert len(stage.of("conversation.item.added")) == 2, "the user's item and the default answer"


def test_an_empty_input_is_an_empty_context_and_a_reference_brings_one_item() -> None:
    stage = text_stage()
    stage.write("first", id="item_first")
    stage.write("second")
    stage.send("response.create", response={"conversation": "none", "input": []})
    reference = {"type": "item_reference", "id": "item_first"}
    stage.send("response.create", response={"conversation": "none", "input": [reference]})
    assert [len(view.items) for view in stage.views] == [0, 1]
    (error,) = stage.send("response.create", response={"input": [{"type": "item_reference", "id": "no"}]})
    assert error["error"]["param"] == "response.input[0].id"


def test_speech_cancels_the_default_response_but_not_an_outside_one() -> None:
    stage = Stage()
    stage.hold.add(Think)
    stage.say("hello", response={"conversation": "none", "metadata": {"kind": "outside"}})
    stage.send("response.create")
    stage.append(b"".join([bytes(4800), b"\x00\x30" * 24000]))

    cancelled = stage.of("response.done")[0]["response"]
    assert cancelled["status_details"]["reason"] == "turn_detected"
    assert cancelled["metadata"] is None
    stage.release(Think)
    assert stage.of("response.done")[1]["response"]["status"] == "completed"


def test_a_response_by_id_is_cancelled_wherever_it_runs() -> None:
    stage = Stage()
    stage.hold.add(Think)
    stage.send("response.create", response={"conversation": "none"})
    (created,) = stage.of("response.created")
    assert [e["type"] for e in stage.send("response.cancel")] == ["error"], (
        "without an id: the default one only"
    )
    stage.send("response.cancel", response_id=created["response"]["id"])
    assert stage.of("response.done")[0]["response"]["status"] == "cancelled"


def test_usage_counts_audio_history_and_caches_in_steps_of_64() -> None:
    stage = Stage()
    stage.update(instructions="Speak. " * 100)
    stage.speak(2000)
    stage.speak(2000)
    first, second = (event["response"]["usage"] for event in stage.of("response.done"))

    starts = [event["audio_start_ms"] for event in stage.of("input_audio_buffer.speech_started")]
    stops = [event["audio_end_ms"] for event in stage.of("input_audio_buffer.speech_stopped")]
    turns = [(stop - start) // 100 for start, stop in zip(starts, stops, strict=True)]
    assert first["input_token_details"]["audio_tokens"] == turns[0]
    spoken = first["output_token_details"]["audio_tokens"]
    assert second["input_token_details"]["audio_tokens"] == sum(turns) + spoken
    assert first["input_token_details"]["cached_tokens"] == 0
    cached = second["input_token_details"]["cached_tokens_details"]
    assert cached["text_tokens"] > 0
    assert cached["text_tokens"] % 64 == cached["audio_tokens"] % 64 == 0
    assert second["total_tokens"] == second["input_tokens"] + second["output_tokens"]


def test_obfuscation_fills_every_delta_to_a_multiple_of_16() -> None:
    stage = Stage()
    stage.update(audio={"input": {"transcription": {"model": "whisper-1"}}})
    stage.speak(900)
    deltas = [event for event in stage.events if "obfuscation" in event]
    assert deltas
    assert {(len(event["delta"]) + len(event["obfuscation"])) % 16 for event in deltas} == {0}
    assert not any("obfuscation" in event for event in stage.of("response.output_audio.delta"))


def test_the_brain_sees_the_wall_clock_of_the_session() -> None:
    seen: list[View] = []

    def brain(view: View) -> Decision:
        seen.append(view)
        return Decision("Yes.", ())

    stage = Stage(brain=brain)
    stage.advance(90_000)
    stage.say("hello")
    assert seen[0].now.isoformat() == "2026-01-05T17:01:30+00:00"


def azure_stage(brain: Any = None) -> Stage:
    return Stage("my-deployment", azure=True, **({"brain": brain} if brain else {}))


def test_azure_sends_no_rate_limits_and_repeats_content_parts() -> None:
    stage = azure_stage()
    stage.say("hello")
    stage.advance(100)
    assert stage.of("rate_limits.updated") == []
    for kind in ("response.content_part.added", "response.content_part.done"):
        (part,) = stage.of(kind)
        assert part["content"] == part["part"]
    assert faults(stage.events, azure=True) == []
    assert faults(stage.events) != []


def test_azure_prints_arguments_over_several_lines_as_recorded() -> None:
    stage = azure_stage(lambda _view: Decision("", (Call("get_weather", {"city": "London"}),)))
    stage.update(tools=[{"type": "function", "name": "get_weather"}])
    stage.say("hello")
    (done,) = stage.of("response.function_call_arguments.done")
    assert done["arguments"].split() == ["{", '"city":', '"London"', "}"]
    assert done["arguments"].endswith("} \n")
    joined = "".join(event["delta"] for event in stage.of("response.function_call_arguments.delta"))
    assert joined == done["arguments"]


def test_azure_ends_a_session_after_30_minutes() -> None:
    stage = azure_stage()
    stage._take(stage.line.expire(0))
    assert stage.events[-1]["error"]["message"] == "Your session hit the maximum duration of 30 minutes."
    assert stage.closed == Close(1001, "Your session hit the maximum duration of 30 minutes.")


def test_agent_audio_counts_as_history_until_it_is_truncated_or_deleted() -> None:
    stage = Stage()
    stage.say("hello")
    item = stage.of("response.output_item.done")[0]["item"]
    spoken = stage.of("response.done")[0]["response"]["usage"]["output_token_details"]["audio_tokens"]
    stage.say("again")
    read = [
        event["response"]["usage"]["input_token_details"]["audio_tokens"]
        for event in stage.of("response.done")
    ]
    assert read == [0, spoken]
    stage.send("conversation.item.truncate", item_id=item["id"], content_index=0, audio_end_ms=100)
    last = stage.of("response.output_item.done")[1]["item"]["id"]
    stage.send("conversation.item.delete", item_id=last)
    stage.say("again")
    assert stage.of("response.done")[2]["response"]["usage"]["input_token_details"]["audio_tokens"] == 0


@pytest.mark.parametrize("tokens", [1, 27, 51])
def test_caller_audio_costs_a_token_for_every_whole_100_ms(tokens: int) -> None:
    stage = Stage()
    stage.update(audio={"input": {"turn_detection": None}})
    stage.append(loud(tokens * 100 + 96))
    stage.send("input_audio_buffer.commit")
    stage.send("response.create")
    used = stage.of("response.done")[0]["response"]["usage"]
    assert used["input_token_details"]["audio_tokens"] == tokens


def test_a_cancelled_response_costs_what_it_read_and_what_it_had_sent() -> None:
    stage = Stage(pace=10)
    stage.say("tell me a story")
    stage.advance(120)
    stage.send("response.cancel")
    used = stage.of("response.done")[0]["response"]["usage"]
    sent_ms = (
        sum(len(pybase64.b64decode(each["delta"])) for each in stage.of("response.output_audio.delta")) // 48
    )
    assert used["output_token_details"]["audio_tokens"] == sent_ms // 50 > 0
    assert used["input_tokens"] > 0
    assert used["total_tokens"] == used["input_tokens"] + used["output_tokens"]


def test_reasoning_is_counted_among_the_text_that_is_written_and_grows_with_the_effort() -> None:
    written = []
    for effort in ("minimal", "low", "high"):
        stage = text_stage("gpt-realtime-2.1")
        stage.say("hello", response={"reasoning": {"effort": effort}})
        details = stage.of("response.done")[0]["response"]["usage"]["output_token_details"]
        reasoning = details.get("reasoning_tokens", 0)
        assert ("reasoning_tokens" in details) == (reasoning > 0)
        written.append((reasoning, details["text_tokens"] - reasoning))
    assert written[0][0] == 0 < written[1][0] < written[2][0]
    assert len({rest for _, rest in written}) == 1


def test_a_limit_cuts_a_spoken_reply_by_its_audio_tokens_too() -> None:
    stage = Stage()
    stage.say("tell me a story", response={"max_output_tokens": 60})
    done = stage.of("response.done")[0]["response"]
    assert done["status_details"] == {"type": "incomplete", "reason": "max_output_tokens"}
    assert 60 <= done["usage"]["output_tokens"] <= 66, "audio comes in deltas of 5 tokens"


def test_an_outside_response_announces_no_items_and_two_run_at_once() -> None:
    stage = Stage()
    stage.hold.add(Think)
    for topic in ("one", "two"):
        stage.send(
            "response.create", response={"conversation": "none", "metadata": {"topic": topic}, "input": []}
        )
    stage.release(Think)
    assert {event["response"]["metadata"]["topic"] for event in stage.of("response.done")} == {"one", "two"}
    assert not [event for event in stage.events if event["type"].startswith("conversation.item.")]
    stage.say("hello")
    assert len(stage.views[-1].items) == 1, "what was said outside is not in the conversation"
