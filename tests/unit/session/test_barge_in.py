"""Barge-in: what is flushed, what is truncated and to where, what is deleted, and what the late world changes."""

from __future__ import annotations

from fakes.core_driver import MS, Driver, message, pcm
from parley_session.core import effects as ef
from parley_session.core import events as ev
from parley_session.core.state import Caller, Cancelling, Idle, Silent, Yielding

EPOCH = 1 << 16 | 1


def speaking(ms: int = 4_000, words: str = "one two three four five six seven eight") -> Driver:
    """An agent in the middle of a spoken answer whose generation is over."""
    d = Driver().start()
    d.say("U1")
    d.answer("R1", "A1", ms, words)
    return d


def test_barge_in_flushes_first_and_truncates_to_what_the_client_played() -> None:
    d = speaking()
    number = d.number_of("A1")
    d.report(number, 900, 4_000)
    d.on(ev.CallerSpeechStarted("U2", 0))
    assert d.only(ef.FlushPlayout) == [ef.FlushPlayout(EPOCH + 1)]
    assert not d.only(ef.TruncateItem, ef.CancelResponse)
    assert d.state.floor == Yielding(d.now_ms + 300, EPOCH + 1, "U2")
    d.on(ev.FlushAnswered(EPOCH + 1, number, 1_000 * MS + 23))
    truncations = d.only(ef.TruncateItem)
    assert truncations == [ef.TruncateItem("A1", 0, 1_000)]  # floor(ms): 23 samples are not a whole one
    assert d.only(ef.ShowTranscript) == [
        ef.ShowTranscript(number, "assistant", "one two three four five six seven eight", True, "one two")
    ]
    assert d.state.floor == Caller("U2")


def test_a_flush_answered_never_is_settled_by_the_last_report() -> None:
    d = speaking()
    d.report(d.number_of("A1"), 900, 4_000)
    d.on(ev.CallerSpeechStarted("U2", 0))
    assert d.wait(299) == ()
    d.wait(1)
    assert d.only(ef.TruncateItem) == [ef.TruncateItem("A1", 0, 900)]


def test_a_flush_answered_late_changes_nothing_and_is_counted() -> None:
    d = speaking()
    number = d.number_of("A1")
    d.report(number, 900, 4_000)
    d.on(ev.CallerSpeechStarted("U2", 0))
    d.wait(300)
    before = d.state
    assert d.on(ev.FlushAnswered(EPOCH + 1, number, 1_000 * MS)) == (ef.Ignored("late_flush_answer"),)
    assert d.state == before


def test_a_flush_answered_twice_truncates_once() -> None:
    d = speaking()
    number = d.number_of("A1")
    d.on(ev.CallerSpeechStarted("U2", 0))
    d.on(ev.FlushAnswered(EPOCH + 1, number, 1_000 * MS))
    assert d.on(ev.FlushAnswered(EPOCH + 1, number, 2_000 * MS)) == (ef.Ignored("late_flush_answer"),)


def test_the_answer_to_an_older_flush_does_not_settle_a_newer_one() -> None:
    d = speaking()
    d.report(d.number_of("A1"), 900, 4_000)
    d.on(
        ev.CallerSpeechStarted("U2", 0), ev.CallerSpeechStopped("U2", 0), ev.CallerAudioCommitted("U2", "A1")
    )
    d.on(ev.ResponseStarted("R2", None), *d.deltas("R2", "A2", 2_000, "and more words"))
    d.on(ev.CallerSpeechStarted("U3", 0))
    newer = d.state.floor
    assert isinstance(newer, Yielding)
    assert newer.flush_epoch == EPOCH + 2
    d.on(ev.FlushAnswered(EPOCH + 1, 2, 1_000 * MS))
    assert d.did == (ef.Ignored("late_flush_answer"),)
    assert d.state.floor == newer


def test_played_more_than_was_sent_is_clamped() -> None:
    d = Driver().start()
    d.say("U1")
    d.on(ev.ResponseStarted("R1", None), *d.deltas("R1", "A1", 1_000, "some words"))
    d.on(ev.CallerSpeechStarted("U2", 0))
    d.on(ev.FlushAnswered(EPOCH + 1, d.number_of("A1"), 99_000 * MS))
    assert d.only(ef.TruncateItem) == [ef.TruncateItem("A1", 0, 1_000)]


def test_an_item_heard_to_its_end_stays_whole() -> None:
    d = speaking(1_000)
    d.on(ev.CallerSpeechStarted("U2", 0))
    d.on(ev.FlushAnswered(EPOCH + 1, d.number_of("A1"), 1_000 * MS))
    assert not d.only(ef.TruncateItem, ef.DeleteItem)


def test_an_item_not_heard_at_all_is_deleted_and_never_truncated_at_zero() -> None:
    d = speaking(1_000)
    d.on(ev.CallerSpeechStarted("U2", 0))
    d.on(ev.FlushAnswered(EPOCH + 1, 0, 0))
    assert d.only(ef.TruncateItem, ef.DeleteItem) == [ef.DeleteItem("A1")]


def test_an_unheard_item_is_deleted_only_after_upstream_is_done_with_it() -> None:
    d = Driver().start()
    d.say("U1")
    d.on(ev.ResponseStarted("R1", None), *d.deltas("R1", "A1", 300, "hi"))
    d.on(ev.CallerSpeechStarted("U2", 0), ev.FlushAnswered(EPOCH + 1, 0, 0))
    assert not d.only(ef.DeleteItem)
    d.on(ev.OutputItemDone("R1", message("A1", "incomplete")))
    assert d.only(ef.DeleteItem) == [ef.DeleteItem("A1")]


def test_barge_in_during_generation_leaves_the_cancelling_to_upstream() -> None:
    d = Driver().start()
    d.say("U1")
    d.on(ev.ResponseStarted("R1", None), *d.deltas("R1", "A1", 1_000, "well now"))
    d.on(ev.CallerSpeechStarted("U2", 0))
    assert not d.only(ef.CancelResponse)
    assert d.state.response == Cancelling("R1")
    d.on(ev.ResponseEnded("R1", "cancelled", "turn_detected"))
    assert d.state.response == Idle()


def test_a_delta_of_a_cancelled_response_is_dropped_by_its_id() -> None:
    d = Driver().start()
    d.say("U1")
    d.on(ev.ResponseStarted("R1", None), *d.deltas("R1", "A1", 1_000, "well now"))
    d.on(ev.CallerSpeechStarted("U2", 0))
    late = d.on(ev.AudioArrived("R1", "A1", 0, pcm(250)), ev.AgentWordsArrived("R1", "A1", 0, " and"))
    assert late == (ef.Ignored("late_audio"), ef.Ignored("late_words"))


def test_barge_in_before_first_audio_flushes_nothing_and_drops_what_comes() -> None:
    d = Driver().start()
    d.say("U1")
    d.on(ev.ResponseStarted("R1", None))
    d.on(ev.CallerSpeechStarted("U2", 0))
    assert not d.only(ef.FlushPlayout)
    assert d.state.floor == Caller("U2")
    d.on(*d.deltas("R1", "A1", 250))
    assert d.did == (ef.Ignored("late_audio"),)
    d.on(ev.OutputItemDone("R1", message("A1", "incomplete")))
    assert d.only(ef.DeleteItem) == [ef.DeleteItem("A1")]


def test_barge_in_after_generation_ended_but_playout_goes_on() -> None:
    d = speaking(4_000)
    number = d.number_of("A1")
    d.now_ms += 500
    d.report(number, 500, 4_000)
    d.on(ev.CallerSpeechStarted("U2", 0))
    assert d.only(ef.FlushPlayout)
    assert not d.only(ef.CancelResponse)
    d.on(ev.FlushAnswered(EPOCH + 1, number, 520 * MS))
    assert d.only(ef.TruncateItem) == [ef.TruncateItem("A1", 0, 520)]


def test_twice_in_a_row_settles_the_first_by_its_last_report() -> None:
    d = speaking(4_000)
    first = d.number_of("A1")
    d.report(first, 700, 4_000)
    d.on(
        ev.CallerSpeechStarted("U2", 0), ev.CallerSpeechStopped("U2", 0), ev.CallerAudioCommitted("U2", "A1")
    )
    d.on(ev.ResponseStarted("R2", None), *d.deltas("R2", "A2", 2_000, "second answer"))
    assert isinstance(d.state.floor, Yielding)
    d.on(ev.CallerSpeechStarted("U3", 0))
    assert d.only(ef.TruncateItem) == [ef.TruncateItem("A1", 0, 700)]
    assert d.only(ef.FlushPlayout) == [ef.FlushPlayout(EPOCH + 2)]
    d.on(ev.FlushAnswered(EPOCH + 2, d.number_of("A2"), 40 * MS))
    assert d.only(ef.TruncateItem) == [ef.TruncateItem("A2", 0, 40)]


def test_several_items_are_settled_each_its_own_way() -> None:
    d = Driver().start()
    d.say("U1")
    d.on(ev.ResponseStarted("R1", None))
    for item in ("A1", "A2", "A3"):
        d.on(
            *d.deltas("R1", item, 1_000, f"words of {item}"),
            ev.AudioEnded("R1", item, 0),
            ev.OutputItemDone("R1", message(item)),
        )
    d.on(ev.ResponseEnded("R1", "completed"))
    d.on(ev.CallerSpeechStarted("U2", 0))
    d.on(ev.FlushAnswered(EPOCH + 1, d.number_of("A2"), 400 * MS))
    assert d.only(ef.TruncateItem, ef.DeleteItem) == [ef.TruncateItem("A2", 0, 400), ef.DeleteItem("A3")]


def test_r1_still_plays_r2_already_generates_and_both_are_settled() -> None:
    d = Driver().start()
    d.say("U1")
    d.answer("R1", "A1", 3_000, "let me look that up for you")
    d.on(ev.ResponseStarted("R2", None), *d.deltas("R2", "A2", 500, "it is"))
    d.report(d.number_of("A1"), 1_500, 3_000)
    d.on(ev.CallerSpeechStarted("U2", 0))
    assert d.state.response == Cancelling("R2")
    d.on(ev.FlushAnswered(EPOCH + 1, d.number_of("A1"), 1_600 * MS))
    assert d.only(ef.TruncateItem, ef.DeleteItem) == [ef.TruncateItem("A1", 0, 1_600)]
    d.on(ev.OutputItemDone("R2", message("A2", "incomplete")))
    assert d.only(ef.DeleteItem) == [ef.DeleteItem("A2")]


def test_typed_text_while_the_agent_speaks_is_a_barge_in_and_cancels_by_id() -> None:
    d = Driver().start()
    d.say("U1")
    d.on(ev.ResponseStarted("R1", None), *d.deltas("R1", "A1", 1_000, "well"))
    d.on(ev.CallerTyped("stop please"))
    assert d.only(ef.FlushPlayout, ef.CancelResponse, ef.AddCallerText) == [
        ef.FlushPlayout(EPOCH + 1),
        ef.CancelResponse("R1"),
        ef.AddCallerText("parley_text_1", "stop please"),
    ]
    assert not d.only(ef.CreateResponse)
    d.on(ev.ResponseEnded("R1", "cancelled", "client_cancelled"))
    assert [e.create_id for e in d.only(ef.CreateResponse)] == ["create_2"]  # type: ignore[union-attr]


def test_new_audio_does_not_wait_for_the_flush_answer() -> None:
    d = speaking(4_000)
    d.on(ev.CallerTyped("and now?"))
    create = d.only(ef.CreateResponse)[0]
    d.on(ev.ResponseStarted("R2", create.create_id), *d.deltas("R2", "A2", 250))  # type: ignore[union-attr]
    assert d.only(ef.PlayAudio)[0].epoch == EPOCH + 1  # type: ignore[union-attr]
    assert isinstance(d.state.floor, Yielding)


def test_a_report_of_an_old_epoch_is_ignored() -> None:
    d = speaking(4_000)
    number = d.number_of("A1")
    d.on(ev.CallerSpeechStarted("U2", 0))
    assert d.on(ev.PlayoutReported(EPOCH, number, 10, 10)) == (ef.Ignored("stale_report"),)


def test_reports_that_stop_end_the_playout_without_crediting_more() -> None:
    d = speaking(1_000)
    d.report(d.number_of("A1"), 400, 1_000)
    d.wait(4_000)
    assert d.state.floor == Silent()
    recorded = [e for e in d.all if isinstance(e, ef.RecordTurn)]
    assert [(r.heard_ms, r.spoken_ms) for r in recorded] == [(400, 1_000)]


def test_the_barged_in_turn_is_recorded_with_what_was_heard_of_it() -> None:
    d = speaking(4_000)
    d.on(ev.CallerSpeechStarted("U2", 0))
    d.on(ev.FlushAnswered(EPOCH + 1, d.number_of("A1"), 1_000 * MS))
    (turn,) = d.only(ef.RecordTurn)
    assert (turn.barged_in, turn.heard_ms, turn.spoken_ms, turn.agent_heard_text) == (
        True,
        1_000,
        4_000,
        "one two",
    )  # type: ignore[union-attr]


def test_heard_words_are_never_more_than_the_audio_can_have_said_while_generation_was_cut() -> None:
    d = Driver().start()
    d.say("U1")
    words = "a rather long sentence whose words came well ahead of the audio that says them"
    d.on(ev.ResponseStarted("R1", None), *d.deltas("R1", "A1", 500, words))
    d.on(ev.CallerSpeechStarted("U2", 0), ev.FlushAnswered(EPOCH + 1, d.number_of("A1"), 500 * MS))
    (shown,) = [e for e in d.only(ef.ShowTranscript) if e.role == "assistant"]  # type: ignore[union-attr]
    assert shown.heard == "a"  # type: ignore[union-attr]


def test_merely_receiving_a_later_item_does_not_credit_an_earlier_one() -> None:
    d = Driver().start()
    d.say("U1")
    d.on(ev.ResponseStarted("R1", None))
    for item in ("A1", "A2"):
        d.on(*d.deltas("R1", item, 1_000, "words"), ev.AudioEnded("R1", item, 0))
    d.report(d.number_of("A1"), 200, 1_000)
    d.report(d.number_of("A2"), 0, 1_000)
    d.on(ev.CallerSpeechStarted("U2", 0))
    d.wait(300)
    assert d.only(ef.TruncateItem) == [ef.TruncateItem("A1", 0, 200)]
