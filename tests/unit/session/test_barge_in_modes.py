"""Confirmed and switched-off barge-in, and turns marked by a key: the core interrupts and answers, not upstream."""

from __future__ import annotations

from typing import Any

from fakes.core_driver import MS, Driver
from parley_session.core import effects as ef
from parley_session.core import events as ev
from parley_session.core.config import TurnTaking
from parley_session.core.state import Active, Agent, Caller, Cancelling, Confirming, Idle, Silent, Yielding

EPOCH = 1 << 16 | 1
CONFIRM = TurnTaking(barge_in="confirm", min_speech_ms=300)
OFF = TurnTaking(barge_in="off")
KEY = TurnTaking(push_to_talk=True, silence_ms=0)


def answering(turn_taking: TurnTaking, ms: int = 4_000, **config: Any) -> Driver:
    """An agent in the middle of a spoken answer that the core asked for."""
    d = Driver(turn_taking=turn_taking, **config).start()
    d.on(ev.CallerTyped("hello"))
    (create,) = d.only(ef.CreateResponse)
    d.answer("R1", "A1", ms, "one two three four", create=create.create_id)  # type: ignore[union-attr]
    d.report(d.number_of("A1"), 1_000, ms)
    return d


# -- confirm --------------------------------------------------------------------------------------


def test_the_first_sound_pauses_the_agent_at_once_and_nothing_is_flushed() -> None:
    d = answering(CONFIRM)
    assert d.on(ev.CallerSpeechStarted("U2", 0)) == (ef.PausePlayout(),)
    assert d.state.floor == Confirming("U2", 0, d.now_ms)


def test_a_cough_resumes_the_agent_and_its_item_is_deleted_and_never_answered() -> None:
    d = answering(CONFIRM)
    d.on(ev.CallerSpeechStarted("U2", 0))
    d.wait(200)
    assert d.on(ev.CallerLevelChanged(is_loud=False)) == (ef.ResumePlayout(),)
    d.wait(600)
    d.on(ev.CallerSpeechStopped("U2", 0))
    assert isinstance(d.state.floor, Agent)
    d.on(ev.CallerAudioCommitted("U2", "A1"))
    assert d.did == (ef.DeleteItem("U2"), ef.Ignored("cough"))
    d.on(ev.CallerTranscriptEnded("U2", "ahem"))
    assert d.did == (ef.Ignored("cough_transcript"),)
    d.report(d.number_of("A1"), 4_000)
    assert not [e for e in d.all if isinstance(e, (ef.FlushPlayout, ef.TruncateItem))]
    assert len([e for e in d.all if isinstance(e, ef.CreateResponse)]) == 1


def test_sound_that_lasts_is_a_barge_in_truncated_to_what_was_played() -> None:
    d = answering(CONFIRM)
    number = d.number_of("A1")
    d.on(ev.CallerSpeechStarted("U2", 0))
    assert d.wait(299) == ()
    d.wait(1)
    assert d.only(ef.FlushPlayout) == [ef.FlushPlayout(EPOCH + 1)]
    assert d.state.floor == Yielding(d.now_ms + 300, EPOCH + 1, "U2")
    d.on(ev.FlushAnswered(EPOCH + 1, number, 1_200 * MS))
    assert d.only(ef.TruncateItem) == [ef.TruncateItem("A1", 0, 1_200)]
    d.on(ev.CallerSpeechStopped("U2", 0), ev.CallerAudioCommitted("U2", "A1"))
    assert len(d.only(ef.CreateResponse)) == 1, "the core asks for the answer"


def test_sounds_within_one_item_add_up() -> None:
    d = answering(CONFIRM)
    d.on(ev.CallerSpeechStarted("U2", 0))
    d.wait(200)
    d.on(ev.CallerLevelChanged(is_loud=False))
    d.wait(400)
    assert d.on(ev.CallerLevelChanged(is_loud=True)) == (ef.PausePlayout(),)
    d.wait(99)
    assert isinstance(d.state.floor, Confirming)
    d.wait(1)
    assert d.only(ef.FlushPlayout)


def test_two_short_sounds_long_after_the_session_began_are_still_a_cough() -> None:
    d = answering(CONFIRM, 9_000)
    d.now_ms += 5_000
    d.on(ev.CallerSpeechStarted("U2", 0))
    d.wait(100)
    d.on(ev.CallerLevelChanged(is_loud=False))
    d.wait(100)
    d.on(ev.CallerLevelChanged(is_loud=True))
    d.wait(100)
    assert isinstance(d.state.floor, Confirming)
    d.on(ev.CallerLevelChanged(is_loud=False), ev.CallerSpeechStopped("U2", 0))
    assert isinstance(d.state.floor, Agent)
    assert not [e for e in d.all if isinstance(e, ef.FlushPlayout)]


def test_time_held_does_not_count_as_time_played() -> None:
    d = answering(CONFIRM, 2_000)
    until_ms = d.state.playout.playing_until_ms
    d.on(ev.CallerSpeechStarted("U2", 0))
    d.wait(250)
    d.on(ev.CallerLevelChanged(is_loud=False))
    assert d.state.playout.playing_until_ms == until_ms + 250


def test_a_confirmed_barge_in_cancels_what_is_still_generated_because_upstream_does_not() -> None:
    d = Driver(turn_taking=CONFIRM).start()
    d.on(ev.CallerTyped("hello"))
    (create,) = d.only(ef.CreateResponse)
    d.on(ev.ResponseStarted("R1", create.create_id), *d.deltas("R1", "A1", 800, "one"))  # type: ignore[union-attr]
    d.on(ev.CallerSpeechStarted("U2", 0))
    assert d.state.response == Active("R1", d.state.response.create)  # type: ignore[union-attr]
    d.wait(300)
    assert d.only(ef.CancelResponse) == [ef.CancelResponse("R1")]
    assert d.state.response == Cancelling("R1")


def test_nobody_is_paused_when_nobody_speaks() -> None:
    d = Driver(turn_taking=CONFIRM).start()
    d.on(ev.CallerSpeechStarted("U1", 0))
    assert d.state.floor == Caller("U1")
    assert not d.only(ef.PausePlayout)
    d.on(ev.CallerSpeechStopped("U1", 0), ev.CallerAudioCommitted("U1", None))
    assert len(d.only(ef.CreateResponse)) == 1


def test_text_typed_while_a_sound_is_judged_is_the_barge_in() -> None:
    d = answering(CONFIRM)
    d.on(ev.CallerSpeechStarted("U2", 0))
    d.on(ev.CallerTyped("stop"))
    assert d.only(ef.FlushPlayout)
    assert "U2" in d.state.dismissed


# -- off ------------------------------------------------------------------------------------------


def test_where_barge_in_is_off_the_caller_is_answered_once_the_agent_has_finished() -> None:
    d = answering(OFF)
    number = d.number_of("A1")
    d.on(ev.CallerSpeechStarted("U2", 0))
    assert d.state.floor == Agent("U2")
    d.wait(900)
    d.on(ev.CallerSpeechStopped("U2", 0), ev.CallerAudioCommitted("U2", "A1"))
    assert not [e for e in d.all if isinstance(e, (ef.FlushPlayout, ef.PausePlayout, ef.CancelResponse))]
    assert not d.only(ef.CreateResponse)
    d.report(number, 4_000)
    assert len(d.only(ef.CreateResponse)) == 1


def test_where_barge_in_is_off_a_caller_still_speaking_holds_the_floor_when_the_agent_ends() -> None:
    d = answering(OFF)
    d.on(ev.CallerSpeechStarted("U2", 0))
    d.report(d.number_of("A1"), 4_000)
    assert d.state.floor == Caller("U2")


def test_where_barge_in_is_off_typed_text_waits_too() -> None:
    d = answering(OFF)
    d.on(ev.CallerTyped("and my second question"))
    assert not d.only(ef.FlushPlayout, ef.CreateResponse)
    d.report(d.number_of("A1"), 4_000)
    assert len(d.only(ef.CreateResponse)) == 1


# -- push-to-talk ---------------------------------------------------------------------------------


def test_the_key_opens_the_microphone_and_its_release_commits_and_asks() -> None:
    d = Driver(turn_taking=KEY).start()
    assert d.state.mic == "drop"
    assert d.on(ev.CallerTalked("start", 0)) == (ef.SetMicPolicy("forward"),)
    d.wait(1_500)
    assert d.on(ev.CallerTalked("stop", 1_500)) == (
        ef.CommitCallerAudio(),
        ef.SetMicPolicy("drop"),
    )
    d.on(ev.CallerAudioCommitted("U1", None))
    assert len(d.only(ef.CreateResponse)) == 1


def test_a_key_that_was_only_touched_clears_what_it_sent() -> None:
    d = Driver(turn_taking=KEY).start()
    d.on(ev.CallerTalked("start", 0))
    d.wait(100)
    d.on(ev.CallerTalked("stop", 100))
    assert d.only(ef.ClearCallerAudio, ef.CommitCallerAudio) == [ef.ClearCallerAudio()]
    assert d.state.floor == Silent()


def test_what_was_said_by_key_while_the_line_was_away_arrives_at_once_and_is_committed() -> None:
    d = Driver(turn_taking=KEY).start()
    d.on(ev.CallerTalked("start", 400))
    d.on(ev.CallerTalked("stop", 1_900))
    assert d.only(ef.ClearCallerAudio, ef.CommitCallerAudio) == [ef.CommitCallerAudio()]


def test_the_key_takes_the_floor_from_the_agent() -> None:
    d = answering(KEY)
    d.on(ev.CallerTalked("start", 0))
    assert d.only(ef.FlushPlayout) == [ef.FlushPlayout(EPOCH + 1)]


def test_a_key_in_a_session_without_push_to_talk_is_ignored() -> None:
    d = Driver().start()
    assert d.on(ev.CallerTalked("start", 0)) == (ef.Ignored("not_push_to_talk"),)


def test_no_response_is_asked_for_while_the_key_is_down() -> None:
    d = Driver(turn_taking=KEY).start()
    d.on(ev.CallerTalked("start", 0), ev.CallerTyped("meanwhile"))
    assert not d.only(ef.CreateResponse)
    d.wait(50)
    d.on(ev.CallerTalked("stop", 50))
    assert len(d.only(ef.CreateResponse)) == 1
    assert not isinstance(d.state.response, Idle)
