"""Turns of the caller: the 32 ms grid, flags, manual commits, early recognition, and what the ears could not hear."""

from __future__ import annotations

from typing import Any

import pytest

from parley_common.audio import ms_to_bytes, silence
from parley_understudy.sentences import trails_off
from parley_understudy.wire import Hear, Think
from unit.understudy.core_stage import Stage, kinds, loud, transcript

WHISPER = {"transcription": {"model": "gpt-realtime-whisper"}}


def detection(stage: Stage, **fields: Any) -> None:
    stage.update(audio={"input": {"turn_detection": {"type": "server_vad", **fields}, **WHISPER}})


def test_positions_lie_on_the_32_ms_grid_as_recorded() -> None:
    stage = Stage()
    stage.append(silence(1777) + loud(2000) + silence(700))
    (started,) = stage.of("input_audio_buffer.speech_started")
    (stopped,) = stage.of("input_audio_buffer.speech_stopped")
    assert (started["audio_start_ms"] + 300) % 32 == 0
    assert stopped["audio_end_ms"] % 32 == 0
    assert 3777 + 200 <= stopped["audio_end_ms"] <= 3777 + 200 + 64, "the end includes the silence"


def test_a_turn_that_begins_with_the_session_is_clipped_at_its_begin() -> None:
    stage = Stage()
    stage.append(loud(900) + silence(400))
    assert stage.of("input_audio_buffer.speech_started")[0]["audio_start_ms"] == 0


def test_how_audio_is_cut_into_appends_changes_nothing() -> None:
    pcm = silence(500) + loud(900) + silence(400) + loud(1200) + silence(900)
    seen = []
    for chunk_ms in (1, 10, 20, 100, 700, 5000):
        stage = Stage()
        stage.append(pcm, chunk_ms)
        seen.append(
            [
                (event["type"], event.get("audio_start_ms", event.get("audio_end_ms")))
                for event in stage.events
                if "speech_" in event["type"]
            ]
        )
    assert len(seen[0]) == 4
    assert all(each == seen[0] for each in seen)


def test_create_response_false_commits_without_answering() -> None:
    stage = Stage()
    detection(stage, create_response=False)
    stage.speak(900)
    assert stage.of("input_audio_buffer.committed")
    assert stage.of("response.created") == []
    assert stage.of("conversation.item.input_audio_transcription.completed")


def test_interrupt_response_false_lets_the_agent_finish_and_answers_no_overlapping_turn() -> None:
    stage = Stage()
    detection(stage, interrupt_response=False)
    stage.hold.add(Think)
    stage.say("hello")
    stage.speak(900)
    assert len(stage.of("response.created")) == 1
    stage.release(Think)
    assert stage.of("response.done")[0]["response"]["status"] == "completed"
    assert len(stage.of("input_audio_buffer.committed")) == 1


@pytest.mark.parametrize("kind", ["server_vad", "semantic_vad"])
@pytest.mark.parametrize(
    ("create", "interrupt", "responses", "first_status"),
    [
        (True, True, 2, "cancelled"),
        (True, False, 1, "completed"),
        (False, True, 1, "cancelled"),
        (False, False, 1, "completed"),
    ],
)
def test_what_a_turn_over_a_reply_does_is_said_by_two_flags(
    kind: str, create: bool, interrupt: bool, responses: int, first_status: str
) -> None:
    stage = Stage(pace=2)
    turns = {"type": kind, "create_response": create, "interrupt_response": interrupt}
    stage.update(audio={"input": {"turn_detection": turns}})
    stage.say("tell me a story")
    stage.advance(100)
    stage.append(silence(100) + loud(900) + silence(1_500))
    assert len(stage.of("input_audio_buffer.committed")) == 1, "the turn is marked whatever the flags say"
    stage.advance(60_000)
    assert len(stage.of("response.created")) == responses
    assert stage.of("response.done")[0]["response"]["status"] == first_status


def test_create_response_false_leaves_the_create_to_the_client() -> None:
    stage = Stage()
    detection(stage, create_response=False, interrupt_response=False)
    stage.speak(900)
    assert stage.of("response.created") == []
    stage.send("response.create")
    assert transcript(stage.of("response.done")[0]) == "You said: hello"


@pytest.mark.parametrize("create", [True, False])
def test_a_caller_who_says_nothing_is_asked_after_only_if_the_server_may_create_responses(
    create: bool,
) -> None:
    stage = Stage()
    detection(stage, idle_timeout_ms=5_000, create_response=create)
    stage.say("hello")
    stage.append(silence(9_000), chunk_ms=100)
    assert len(stage.of("input_audio_buffer.timeout_triggered")) == 1
    assert len(stage.of("input_audio_buffer.committed")) == 1
    assert len(stage.of("response.created")) == (2 if create else 1)


def semantic(eagerness: str, *texts: str | None) -> Stage:
    stage = Stage()
    turns = {"type": "semantic_vad", "eagerness": eagerness}
    (answer,) = stage.update(audio={"input": {"turn_detection": turns}})
    assert answer["session"]["audio"]["input"]["turn_detection"] == {
        **turns,
        "create_response": True,
        "interrupt_response": True,
    }
    stage.heard.extend(texts)
    return stage


def waited_ms(stage: Stage) -> int:
    (stopped,) = stage.of("input_audio_buffer.speech_stopped")
    return int(stopped["audio_end_ms"]) - 900


@pytest.mark.parametrize(
    ("eagerness", "longest_ms"), [("low", 8000), ("medium", 4000), ("auto", 4000), ("high", 2000)]
)
def test_semantic_detection_waits_for_the_rest_of_a_sentence_as_long_as_its_eagerness_says(
    eagerness: str, longest_ms: int
) -> None:
    whole, half = semantic(eagerness, "I want to book a table."), semantic(eagerness, "My phone number is")
    for stage in (whole, half):
        stage.append(loud(900) + silence(9_000))
    assert waited_ms(whole) <= 1_300
    assert longest_ms <= waited_ms(half) <= longest_ms + 64


def test_semantic_detection_answers_eager_callers_sooner() -> None:
    ends = []
    for eagerness in ("high", "medium", "low"):
        stage = semantic(eagerness)
        stage.append(loud(900) + silence(2_000))
        ends.append(waited_ms(stage))
    assert ends[0] < ends[1] < ends[2]


def test_semantic_detection_hears_the_rest_and_ends_with_it() -> None:
    stage = semantic("auto", "My phone number is", "My phone number is five five five", "unused")
    stage.append(loud(900) + silence(1_500))
    assert stage.of("input_audio_buffer.speech_stopped") == []
    stage.append(loud(900) + silence(1_500))
    assert len(stage.of("input_audio_buffer.committed")) == 1
    assert transcript(stage.of("response.done")[0]) == "You said: My phone number is five five five"


@pytest.mark.parametrize(
    ("text", "open_ended"),
    [
        ("I would like a table for", True),
        ("I would like a table for.", True),
        ("well, um", True),
        ("we could meet on Monday,", True),
        ("my name is", True),
        ("What is it for?", False),
        ("yes", False),
        ("", False),
    ],
)
def test_words_that_want_their_rest_are_told_from_those_that_do_not(text: str, open_ended: bool) -> None:
    assert trails_off(text) == open_ended


def test_without_turn_detection_only_a_commit_makes_an_item() -> None:
    stage = Stage()
    stage.update(audio={"input": {"turn_detection": None}})
    assert stage.append(loud(900) + silence(900)) == []
    assert kinds(stage.send("input_audio_buffer.commit")) == [
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
    ]
    stage.send("response.create")
    assert transcript(stage.of("response.done")[0]) == "You said: hello"


@pytest.mark.parametrize(("held_ms", "shown"), [(0, "0.00ms"), (80, "80.00ms")])
def test_a_commit_of_less_than_100_ms_is_refused(held_ms: int, shown: str) -> None:
    stage = Stage()
    stage.update(audio={"input": {"turn_detection": None}})
    stage.append(loud(held_ms))
    (error,) = stage.send("input_audio_buffer.commit")
    assert error["error"]["code"] == "input_audio_buffer_commit_empty"
    assert error["error"]["message"].endswith(f"buffer only has {shown} of audio.")


def test_a_commit_after_the_server_committed_the_turn_is_refused_when_nothing_came_since() -> None:
    stage = Stage()
    stage.append(loud(960) + silence(224), chunk_ms=32)
    assert len(stage.of("input_audio_buffer.committed")) == 1
    (error,) = stage.send("input_audio_buffer.commit")
    assert error["error"]["code"] == "input_audio_buffer_commit_empty"


def test_a_commit_while_the_caller_speaks_ends_the_turn_under_its_own_id() -> None:
    stage = Stage()
    stage.append(silence(400) + loud(900))
    stage.send("input_audio_buffer.commit")
    (started,) = stage.of("input_audio_buffer.speech_started")
    (committed,) = stage.of("input_audio_buffer.committed")
    assert committed["item_id"] == started["item_id"]
    assert stage.of("response.created") == []


def test_clearing_drops_the_turn_that_is_open() -> None:
    stage = Stage()
    stage.append(silence(400) + loud(900))
    assert kinds(stage.send("input_audio_buffer.clear")) == ["input_audio_buffer.cleared"]
    stage.append(silence(900))
    assert stage.of("input_audio_buffer.committed") == []


def test_recognition_begins_after_200_ms_of_silence_and_is_used_when_nothing_more_is_said() -> None:
    stage = Stage("gpt-realtime-2.1")
    stage.hold.add(Hear)
    stage.append(loud(900) + silence(300))
    (early,) = stage.jobs
    assert isinstance(early, Hear)
    assert not early.final
    assert stage.of("input_audio_buffer.committed") == []
    stage.release(Hear)
    stage.append(silence(400))
    assert transcript(stage.of("response.done")[0]) == "You said: hello"
    assert stage.of("input_audio_buffer.committed")[0]["item_id"] == early.item_id
    assert not stage.heard


def test_an_early_recognition_is_forgotten_when_the_caller_goes_on() -> None:
    stage = Stage("gpt-realtime-2.1")
    stage.hold.add(Hear)
    stage.append(loud(900) + silence(300) + loud(600) + silence(700))
    first, second = stage.jobs
    assert isinstance(first, Hear)
    assert isinstance(second, Hear)
    assert [(each.item_id, each.attempt) for each in stage.forgotten] == [(first.item_id, first.attempt)]
    assert len(second.pcm) > len(first.pcm)
    stage.heard.extend(["too early", "the whole of it"])
    stage.release(Hear)
    assert transcript(stage.of("response.done")[0]) == "You said: the whole of it"


def test_an_early_recognition_that_fails_is_tried_again_at_the_end_of_the_turn() -> None:
    stage = Stage("gpt-realtime-2.1")
    stage.heard.extend([None, "now it is clear"])
    stage.speak(900)
    assert transcript(stage.of("response.done")[0]) == "You said: now it is clear"


def test_audio_that_cannot_be_made_out_fails_its_transcription_and_is_shown_as_such_to_the_brain() -> None:
    stage = Stage()
    stage.update(audio={"input": WHISPER})
    stage.heard.append(None)
    stage.speak(900)
    (failed,) = stage.of("conversation.item.input_audio_transcription.failed")
    assert failed["error"]["code"] == "audio_unintelligible"
    assert transcript(stage.of("response.done")[0]) == "You said: (unintelligible)"


@pytest.mark.parametrize(
    ("model", "usage"),
    [
        ("gpt-realtime-whisper", {"type": "duration", "seconds": 2}),
        (
            "gpt-4o-mini-transcribe",
            {
                "type": "tokens",
                "total_tokens": 18,
                "input_tokens": 14,
                "input_token_details": {"text_tokens": 0, "audio_tokens": 14},
                "output_tokens": 4,
            },
        ),
    ],
)
def test_transcription_is_billed_as_its_model_is(model: str, usage: dict[str, Any]) -> None:
    stage = Stage()
    stage.update(audio={"input": {"transcription": {"model": model}}})
    stage.heard.append("Hello there")
    stage.append(silence(400) + loud(896) + silence(400))
    (completed,) = stage.of("conversation.item.input_audio_transcription.completed")
    assert completed["usage"] == usage


def test_a_transcription_session_transcribes_and_never_answers() -> None:
    stage = Stage(transcription_only=True)
    assert stage.events[0]["session"]["object"] == "realtime.transcription_session"
    stage.send(
        "session.update",
        session={
            "type": "transcription",
            "audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}}},
        },
    )
    stage.speak(900)
    assert stage.of("conversation.item.input_audio_transcription.completed")
    assert stage.of("response.created") == []
    assert [event["type"] for event in stage.send("response.create")] == ["error"]


def test_an_odd_byte_does_not_shift_the_samples_after_it() -> None:
    stage = Stage()
    stage.update(audio={"input": {"turn_detection": None}})
    pcm = loud(200)
    for piece in (pcm[:4801], pcm[4800:]):
        stage.append(piece, chunk_ms=10_000)
    stage.hold.add(Hear)
    stage.send("input_audio_buffer.commit")
    (job,) = stage.jobs
    assert isinstance(job, Hear)
    assert job.pcm == pcm


def test_a_client_that_never_commits_costs_a_bounded_amount_of_memory() -> None:
    stage = Stage()
    for _ in range(12):
        stage.append(silence(30_000), chunk_ms=30_000)
    held = stage.core.caller._listener._audio
    assert len(held) <= ms_to_bytes(42_000)
