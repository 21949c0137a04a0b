"""The known bugs and limits of the Realtime API, one test each: what peers get wrong in their issue trackers.

The rows are those of docs/realtime-hazards.md. Where no recording exists the test says "from SDK types".
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.core_driver import MS, Driver, call, message
from parley_session.core import effects as ef
from parley_session.core import events as ev
from parley_session.core.config import TurnTaking
from parley_session.realtime_codec import UpstreamProfile, decode, encode

EPOCH = 1 << 16 | 1
PAGE = Path(__file__).resolve().parents[3] / "docs" / "realtime-hazards.md"


def speaking(ms: int = 4_000, words: str = "one two three four five six seven eight") -> Driver:
    d = Driver().start()
    d.say("U1")
    d.answer("R1", "A1", ms, words)
    return d


def test_a_truncation_is_never_longer_than_the_item_whatever_the_wall_clock_says() -> None:
    d = speaking(1_000)
    d.now_ms += 60_000  # a wall clock would claim a minute
    d.on(ev.CallerSpeechStarted("U2", 0), ev.FlushAnswered(EPOCH + 1, d.number_of("A1"), 3_760 * MS))
    assert all(t.audio_end_ms <= 1_000 for t in d.only(ef.TruncateItem))  # type: ignore[union-attr]
    assert not d.only(ef.DeleteItem)


def test_nothing_is_truncated_before_its_first_audio_nor_at_zero() -> None:
    d = Driver().start()
    d.say("U1")
    d.on(ev.ResponseStarted("R1", None), ev.OutputItemAdded("R1", message("A1", "in_progress")))
    d.on(ev.CallerSpeechStarted("U2", 0))
    assert not d.only(ef.TruncateItem, ef.FlushPlayout)
    heard_none = speaking()
    heard_none.on(ev.CallerSpeechStarted("U2", 0), ev.FlushAnswered(EPOCH + 1, 0, 0))
    assert heard_none.only(ef.TruncateItem) == []
    assert heard_none.only(ef.DeleteItem) == [ef.DeleteItem("A1")]


def test_parallel_tools_and_a_response_upstream_began_itself_end_in_one_answer_and_no_silence() -> None:
    """From SDK types: no recording of parallel calls exists."""
    d = Driver().start()
    d.say("U1")
    d.on(ev.ResponseStarted("R1", None), ev.OutputItemDone("R1", call("F1", "c1")))
    d.on(ev.OutputItemDone("R1", call("F2", "c2")), ev.ResponseEnded("R1", "completed"))
    d.on(ev.ToolAnswered("c1", "ok", "{}"))
    assert not d.only(ef.CreateResponse)
    d.on(ev.ToolAnswered("c2", "ok", "{}"))
    (create,) = d.only(ef.CreateResponse)
    code = "conversation_already_has_active_response"
    d.on(ev.ResponseStarted("R_vad", None))
    d.on(ev.UpstreamRefused("invalid_request_error", code, "", create.create_id))  # type: ignore[union-attr]
    d.on(ev.ResponseEnded("R_vad", "completed"))
    d.wait(1_500)
    assert len([e for e in d.all if isinstance(e, ef.CreateResponse)]) == 2, "asked again, once"


def test_a_cancel_names_its_response_and_one_too_late_is_fine() -> None:
    """From SDK types: no recording of a client's cancel exists."""
    d = Driver().start()
    d.say("U1")
    d.on(ev.ResponseStarted("R1", None), *d.deltas("R1", "A1", 500, "one"))
    d.on(ev.CallerTyped("stop"))
    assert d.only(ef.CancelResponse) == [ef.CancelResponse("R1")]
    before = d.state
    d.on(ev.UpstreamRefused("invalid_request_error", "response_cancel_not_active", "no active response"))
    assert d.did == (ef.Ignored("response_cancel_not_active"),)
    assert replace(d.state, upstream_heard_ms=0) == replace(before, upstream_heard_ms=0)


def test_a_barge_in_that_upstreams_vad_heard_is_not_cancelled_by_us_too() -> None:
    d = Driver().start()
    d.say("U1")
    d.on(ev.ResponseStarted("R1", None), *d.deltas("R1", "A1", 500, "one"))
    d.on(ev.CallerSpeechStarted("U2", 0))
    assert not d.only(ef.CancelResponse)


def test_the_agents_own_echo_is_a_cough_where_barge_in_is_confirmed() -> None:
    d = Driver(turn_taking=TurnTaking(barge_in="confirm", min_speech_ms=300)).start()
    d.on(ev.CallerTyped("hello"))
    (create,) = d.only(ef.CreateResponse)
    d.answer("R1", "A1", 4_000, "one two", create=create.create_id)  # type: ignore[union-attr]
    d.on(ev.CallerSpeechStarted("echo", 0))
    d.wait(150)
    d.on(ev.CallerLevelChanged(is_loud=False), ev.CallerSpeechStopped("echo", 0))
    d.on(ev.CallerAudioCommitted("echo", "A1"))
    assert d.only(ef.DeleteItem) == [ef.DeleteItem("echo")]
    assert not [e for e in d.all if isinstance(e, ef.FlushPlayout)]


def test_a_turn_that_upstream_split_in_two_is_answered_once() -> None:
    d = Driver().start()
    d.say("U1")
    d.on(ev.ResponseStarted("R1", None), ev.CallerSpeechStarted("U2", 0))
    d.on(ev.ResponseEnded("R1", "cancelled", "turn_detected"))
    d.on(ev.CallerSpeechStopped("U2", 0), ev.CallerAudioCommitted("U2", "U1"), ev.ResponseStarted("R2", None))
    d.on(*d.deltas("R1", "A1", 300, "to the fragment"), *d.deltas("R2", "A2", 300, "to all of it"))
    played = {e.number for e in d.all if isinstance(e, ef.PlayAudio)}
    assert played == {d.number_of("A2")}


def test_transcripts_stand_by_the_item_chain_and_not_by_arrival() -> None:
    d = Driver().start()
    d.say("U1")
    d.answer("R1", "A1", 500, "first answer")
    d.report(d.number_of("A1"), 500)
    d.on(
        ev.CallerSpeechStarted("U2", 0), ev.CallerSpeechStopped("U2", 0), ev.CallerAudioCommitted("U2", "A1")
    )
    d.on(ev.CallerTranscriptEnded("U2", "second"), ev.CallerTranscriptEnded("U1", "first"))
    assert [(i.item_id, i.text) for i in d.state.history] == [
        ("U1", "first"),
        ("A1", "first answer"),
        ("U2", "second"),
    ]


def test_a_response_that_failed_inside_does_not_hang_the_conversation() -> None:
    d = Driver().start()
    d.say("U1")
    d.on(ev.ResponseStarted("R1", None), ev.ResponseEnded("R1", "failed", "server_error"))
    assert len(d.only(ef.CreateResponse)) == 1


def test_audio_after_the_response_is_done_is_still_played() -> None:
    d = Driver().start()
    d.say("U1")
    d.on(ev.ResponseStarted("R1", None), *d.deltas("R1", "A1", 500, "one two"))
    d.on(ev.ResponseEnded("R1", "completed"), *d.deltas("R1", "A1", 200))
    assert [e.first_sample for e in d.only(ef.PlayAudio)] == [500 * MS]  # type: ignore[union-attr]


def test_words_are_never_claimed_beyond_their_share_of_the_audio_heard() -> None:
    d = speaking(8_000, "one two three four five six seven eight")
    d.on(ev.CallerSpeechStarted("U2", 0), ev.FlushAnswered(EPOCH + 1, d.number_of("A1"), 2_000 * MS))
    (shown,) = d.only(ef.ShowTranscript)
    assert len(shown.heard) <= len(shown.text) * 2_000 / 8_000  # type: ignore[union-attr]


def test_an_answer_cut_off_by_its_token_limit_is_finished() -> None:
    d = Driver().start()
    d.say("U1")
    d.on(ev.ResponseStarted("R1", None), ev.ResponseEnded("R1", "incomplete", "max_output_tokens"))
    assert len(d.only(ef.CreateResponse)) == 1


def test_an_expired_session_is_dialled_again_and_told_what_was_said() -> None:
    d = Driver().start()
    d.say("U1")
    d.on(ev.CallerTranscriptEnded("U1", "hello"))
    d.answer("R1", "A1", 500, "hi")
    d.report(d.number_of("A1"), 500)
    d.on(ev.UpstreamRefused("invalid_request_error", "session_expired", ""), ev.UpstreamLost(1001, "expired"))
    d.wait(1_000)
    d.on(ev.UpstreamOpened("s2", "m"), ev.UpstreamConfigured())
    assert [e.text for e in d.only(ef.AddCallerText, ef.AddAgentText)] == ["hello", "hi"]  # type: ignore[union-attr]


def test_a_rate_limit_is_waited_out_as_upstream_says() -> None:
    done = {"id": "R1", "status": "failed", "status_details": {"error": {"code": "rate_limit_exceeded"}}}
    done["status_details"]["error"]["message"] = "Rate limit reached ... Please try again in 1.5s."  # type: ignore[index]
    ended = decode(json.dumps({"type": "response.done", "response": done}))
    d = Driver().start()
    d.say("U1")
    d.on(ev.ResponseStarted("R1", None), ended)
    assert not d.only(ef.CreateResponse)
    d.wait(1_500)
    assert len(d.only(ef.CreateResponse)) == 1


def test_the_voice_is_not_sent_again_once_the_agent_has_spoken() -> None:
    d = speaking()
    d.on(ev.CallerModeChosen("text"))
    (configure,) = d.only(ef.ConfigureUpstream)
    frame = encode(configure, UpstreamProfile(model="m", instructions="i"))
    assert b"voice" not in (frame or b"")


@pytest.mark.parametrize("dialect", ["ga", "beta"])
def test_each_endpoint_is_spoken_to_in_its_own_dialect(dialect: str) -> None:
    profile = UpstreamProfile(model="m", instructions="i", dialect=dialect)  # type: ignore[arg-type]
    session = json.loads(encode(ef.ConfigureUpstream("voice"), profile) or b"")["session"]
    assert ("type" in session) is (dialect == "ga")
    assert ("modalities" in session) is (dialect == "beta")


def test_the_audio_format_is_set_on_both_sides() -> None:
    frame = encode(ef.ConfigureUpstream("voice"), UpstreamProfile(model="m", instructions="i"))
    audio = json.loads(frame or b"")["session"]["audio"]
    assert audio["input"]["format"] == audio["output"]["format"] == {"type": "audio/pcm", "rate": 24_000}


def test_an_error_that_lacks_what_its_type_requires_is_read() -> None:
    read = decode(json.dumps({"type": "error", "error": {"type": "server_error"}}))
    assert read == ev.UpstreamRefused("server_error", "", "")


def test_a_model_that_calls_a_tool_for_ever_is_stopped() -> None:
    d = Driver().start()
    d.say("U1")
    for n in range(337):
        create = next((e for e in reversed(d.did) if isinstance(e, ef.CreateResponse)), None)
        d.on(ev.ResponseStarted(f"R{n}", create.create_id if create else None))
        d.on(ev.OutputItemDone(f"R{n}", call(f"F{n}", f"c{n}")), ev.ResponseEnded(f"R{n}", "completed"))
        d.on(ev.ToolAnswered(f"c{n}", "ok", "{}"))
    assert len([e for e in d.all if isinstance(e, ef.RequestTool)]) <= d.config.limits.tool_rounds_max


def test_every_row_of_the_page_names_a_test_that_exists() -> None:
    tests = {name for name in globals() if name.startswith("test_")}
    root = PAGE.parents[1]
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text(encoding="utf-8")))
    everywhere = {
        found
        for path in root.glob("tests/**/*.py")
        for found in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert named <= everywhere, sorted(named - everywhere)
    own = tests - {"test_every_row_of_the_page_names_a_test_that_exists"}
    assert own <= named, f"not on the page: {sorted(own - named)}"
