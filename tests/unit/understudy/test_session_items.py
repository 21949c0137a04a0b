"""The conversation: order, retrieval, deletion, truncation, and what of it the brain is shown."""

from __future__ import annotations

from typing import Any

import pybase64
import pytest

from parley_understudy.brain.types import Answered, Called, Said
from parley_understudy.wire import Hear
from unit.understudy.core_stage import Stage, kinds, loud


def error_of(events: list[dict[str, Any]]) -> tuple[Any, Any]:
    assert [event["type"] for event in events] == ["error"]
    return events[0]["error"]["code"], events[0]["error"]["param"]


def spoken_item(stage: Stage) -> dict[str, Any]:
    return next(
        e["item"] for e in reversed(stage.of("conversation.item.done")) if e["item"]["role"] == "assistant"
    )


def test_items_go_to_the_end_the_front_or_after_a_named_one() -> None:
    stage = Stage()
    stage.write("b", id="b")
    stage.send("conversation.item.create", previous_item_id="root", item=message("a", "a"))
    stage.send("conversation.item.create", previous_item_id="b", item=message("d", "d"))
    stage.send("conversation.item.create", previous_item_id="b", item=message("c", "c"))
    added = {event["item"]["id"]: event["previous_item_id"] for event in stage.of("conversation.item.added")}
    assert added == {"b": None, "a": None, "d": "b", "c": "b"}
    stage.send("response.create")
    assert [item.text for item in stage.views[0].items if isinstance(item, Said)] == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("event", "code", "param"),
    [
        ({"previous_item_id": "no"}, "item_create_invalid_previous_item_id", "previous_item_id"),
        ({"item": {"type": "message", "role": "user"}}, "missing_required_parameter", "item.content"),
        ({"item": {"type": "message", "content": []}}, "missing_required_parameter", "item.role"),
        ({"item": {"type": "picture"}}, "invalid_value", "item.type"),
        ({"item": {"role": "user"}}, "missing_required_parameter", "item.type"),
        ({"item": None}, "invalid_type", "item"),
        (
            {"item": {"type": "message", "role": "user", "content": [{"type": "output_text", "text": "x"}]}},
            "invalid_value",
            "item.content[0].type",
        ),
        (
            {
                "item": {
                    "type": "message",
                    "role": "assistant",
                    "content": [{"type": "output_audio", "audio": ""}],
                }
            },
            "missing_required_parameter",
            "item.content[0].text",
        ),
        (
            {"item": {"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": "?"}]}},
            "invalid_value",
            "item.content[0].audio",
        ),
        (
            {"item": {"type": "function_call_output", "call_id": "call_no", "output": "x"}},
            "invalid_tool_call_id",
            None,
        ),
        (
            {"item": {"type": "function_call_output", "call_id": "call/no", "output": "x"}},
            "invalid_value",
            "item.call_id",
        ),
    ],
)
def test_an_item_that_cannot_be_is_refused_and_leaves_the_conversation_as_it_was(
    event: dict[str, Any], code: str, param: str | None
) -> None:
    stage = Stage()
    stage.write("first")
    whole = {"item": message("x", "x"), **event}
    assert error_of(stage.send("conversation.item.create", **whole)) == (code, param)
    stage.send("response.create")
    assert len(stage.views[0].items) == 1


def test_an_id_is_used_once() -> None:
    stage = Stage()
    stage.write("first", id="same")
    assert error_of(stage.write("second", id="same"))[1] == "item.id"


def test_a_text_of_256_000_characters_is_taken_and_one_more_is_not() -> None:
    stage = Stage()
    assert kinds(stage.write("a" * 256_000)) == ["conversation.item.added", "conversation.item.done"]
    (error,) = stage.write("a" * 256_001)
    assert error["error"]["message"] == (
        "Invalid 'item.content[0].text': string too long. Expected a string with maximum length 256000, "
        "but got a string with length 256001 instead."
    )


def test_the_predecessor_in_item_done_is_null_for_a_generated_item_right_after_the_first() -> None:
    stage = Stage()
    stage.say("one")
    stage.say("two")
    done = [(e["item"]["role"], e["previous_item_id"] is None) for e in stage.of("conversation.item.done")]
    assert done == [("user", True), ("assistant", True), ("user", False), ("assistant", False)]
    assert stage.of("conversation.item.added")[1]["previous_item_id"] is not None


def test_truncation_deletes_the_transcript_from_what_the_brain_is_shown() -> None:
    stage = Stage()
    stage.say("tell me a story")
    item = spoken_item(stage)
    (truncated,) = truncate(stage, item["id"], 400)
    assert truncated["audio_end_ms"] == 400
    stage.say("go on")
    assert [item.text for item in stage.views[1].items if isinstance(item, Said)] == [
        "tell me a story",
        "go on",
    ]
    before, after = (event["response"]["usage"]["input_token_details"] for event in stage.of("response.done"))
    assert before["audio_tokens"] == after["audio_tokens"] == 0


def test_truncation_is_legal_while_the_item_is_being_spoken() -> None:
    stage = Stage(pace=10)
    stage.say("tell me a story")
    stage.advance(200)
    item_id = stage.of("response.output_audio.delta")[0]["item_id"]
    assert kinds(truncate(stage, item_id, 100)) == ["conversation.item.truncated"]
    stage.advance(60_000)
    assert stage.of("response.done")[0]["response"]["status"] == "completed"


def test_truncating_past_the_end_says_how_long_the_audio_is() -> None:
    stage = Stage()
    stage.say("hello")
    sent_ms = sum(len(pybase64.b64decode(e["delta"])) for e in stage.of("response.output_audio.delta")) // 48
    item = spoken_item(stage)
    (error,) = truncate(stage, item["id"], sent_ms + 1)
    assert (
        error["error"]["message"] == f"Audio content of {sent_ms}ms is already shorter than {sent_ms + 1}ms"
    )
    assert (error["error"]["code"], error["error"]["param"]) == ("invalid_value", "audio_end_ms")
    assert kinds(truncate(stage, item["id"], sent_ms)) == ["conversation.item.truncated"]
    assert kinds(truncate(stage, item["id"], 0)) == ["conversation.item.truncated"]
    assert error_of(truncate(stage, item["id"], 1))[0] == "invalid_value", "it is 0 ms long now"


def test_only_the_agents_audio_can_be_truncated() -> None:
    stage = Stage()
    stage.write("hello", id="mine")
    assert (
        truncate(stage, "mine", 0)[0]["error"]["message"]
        == "Only model output audio messages can be truncated"
    )
    assert error_of(truncate(stage, "nobody", 0))[0] == "item_truncate_invalid_item_id"
    assert (
        error_of(stage.send("conversation.item.truncate", item_id="mine", content_index=0))[1]
        == "audio_end_ms"
    )


def test_a_deleted_item_is_out_of_the_context_and_cannot_be_deleted_twice() -> None:
    stage = Stage()
    stage.write("wrong", id="gone")
    assert kinds(stage.send("conversation.item.delete", item_id="gone")) == ["conversation.item.deleted"]
    assert (
        error_of(stage.send("conversation.item.delete", item_id="gone"))[0] == "item_delete_invalid_item_id"
    )
    stage.say("right")
    assert len(stage.views[0].items) == 1


def test_deleting_a_turn_frees_the_response_that_waits_for_its_recognition() -> None:
    stage = Stage()
    stage.hold.add(Hear)
    stage.speak(900)
    stage.send("conversation.item.delete", item_id=stage.of("input_audio_buffer.committed")[0]["item_id"])
    assert stage.of("response.done")[0]["response"]["status"] == "completed"


def test_retrieving_brings_back_the_audio_of_both_sides() -> None:
    stage = Stage()
    stage.append(bytes(48 * 400) + loud(900) + bytes(48 * 800))
    caller_id = stage.of("input_audio_buffer.committed")[0]["item_id"]
    (caller,) = stage.send("conversation.item.retrieve", item_id=caller_id)
    (agent,) = stage.send("conversation.item.retrieve", item_id=spoken_item(stage)["id"])
    sent = b"".join(pybase64.b64decode(e["delta"]) for e in stage.of("response.output_audio.delta"))
    assert pybase64.b64decode(agent["item"]["content"][0]["audio"]) == sent
    assert loud(500) in pybase64.b64decode(caller["item"]["content"][0]["audio"])
    assert (
        error_of(stage.send("conversation.item.retrieve", item_id="no"))[0] == "item_retrieve_invalid_item_id"
    )


def test_the_brain_is_shown_calls_outputs_and_words_in_order() -> None:
    stage = Stage()
    stage.write("Be kind.", role="system")
    stage.write("hello")
    call = {"type": "function_call", "name": "look", "call_id": "call_1", "arguments": "{}"}
    stage.send("conversation.item.create", item=call)
    output = {"type": "function_call_output", "call_id": "call_1", "output": "42"}
    stage.send("conversation.item.create", item=output)
    stage.write("It is 42.", role="assistant")
    stage.send("response.create", response={"instructions": "Answer.", "tool_choice": "required"})
    (view,) = stage.views
    assert view.items == (
        Said("system", "Be kind."),
        Said("user", "hello"),
        Called("call_1", "look", "{}"),
        Answered("call_1", "42"),
        Said("assistant", "It is 42."),
    )
    assert (view.instructions, view.tool_choice) == ("Answer.", "required")


def test_audio_that_a_client_writes_is_heard_and_its_pictures_are_taken_without_their_data() -> None:
    stage = Stage()
    stage.heard.append("from a file")
    audio = {"type": "input_audio", "audio": pybase64.b64encode(loud(500)).decode()}
    picture = {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"}
    item = {"type": "message", "role": "user", "content": [audio, picture]}
    (added, _) = stage.send("conversation.item.create", item=item)
    assert added["item"]["content"] == [
        {"type": "input_audio", "transcript": None},
        {"type": "input_image", "detail": "low"},
    ]
    stage.send("response.create")
    assert stage.views[0].items == (Said("user", "from a file"),)


def message(item_id: str, text: str) -> dict[str, Any]:
    return {
        "id": item_id,
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": text}],
    }


def truncate(stage: Stage, item_id: str, audio_end_ms: int) -> list[dict[str, Any]]:
    return stage.send(
        "conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=audio_end_ms
    )
