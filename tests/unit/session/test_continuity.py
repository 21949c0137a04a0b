"""Upstream connections are lost, refused, expire and are replaced; the conversation goes on."""

from __future__ import annotations

import pytest

from fakes.core_driver import MS, Driver, call
from parley_session.core import effects as ef
from parley_session.core import events as ev
from parley_session.core.config import Limits, LocalAudio, TurnTaking
from parley_session.core.continuity import GO_ON, RESTORED
from parley_session.core.state import Away, Connecting, Idle, Ready

EPOCH = 1 << 16 | 1
LOST = ev.UpstreamLost(1006, "")
FREE = Limits(idle_hangup_ms=None)


def back(d: Driver) -> tuple[ef.Effect, ...]:
    """Let the core dial again; returns what it did once upstream was configured."""
    while not isinstance(d.state.upstream, Connecting):
        d.wait(250)
    return d.on(ev.UpstreamOpened("sess_2", "m"), ev.UpstreamConfigured())


def told(d: Driver, item_id: str, words: str) -> None:
    """The caller said something, was transcribed and answered, and heard all of it."""
    d.say(item_id)
    d.on(ev.CallerTranscriptEnded(item_id, words))


def test_a_lost_connection_is_said_dialled_again_and_told_what_was_heard() -> None:
    d = Driver(limits=FREE).start()
    told(d, "U1", "What is DSCR?")
    d.answer("R1", "A1", 1_000, "It is a ratio.")
    d.report(d.number_of("A1"), 1_000)
    d.on(LOST)
    assert d.only(ef.ShowNotice) == [ef.ShowNotice("reconnecting", "The line was interrupted; one moment.")]
    assert d.state.mic == "hold"
    done = back(d)
    assert done[0] == ef.ConfigureUpstream("voice", "all", holds_turns=True)
    kinds = [type(e).__name__ for e in done]
    assert kinds == [
        "ConfigureUpstream",
        "AddCallerText",
        "AddAgentText",
        "AddSystemText",
        "ConfigureUpstream",
        "ReplayCaller",
        "ShowNotice",
        "SetMicPolicy",
    ]
    assert done[1:3] == (ef.AddCallerText("U1", "What is DSCR?"), ef.AddAgentText("A1", "It is a ratio."))
    assert done[3].text == RESTORED  # type: ignore[union-attr]
    assert done[4:6] == (ef.ConfigureUpstream("voice", "turns"), ef.ReplayCaller(None, since_heard=True))
    assert isinstance(d.state.upstream, Ready)


def test_history_is_put_back_as_it_was_heard_and_not_as_it_was_made() -> None:
    d = Driver(limits=FREE).start()
    told(d, "U1", "Tell me.")
    d.answer("R1", "A1", 4_000, "one two three four five six seven eight")
    d.on(ev.CallerSpeechStarted("U2", 5_000))
    d.on(ev.FlushAnswered(EPOCH + 1, d.number_of("A1"), 1_000 * MS), ev.CallerSpeechStopped("U2", 6_000))
    d.on(ev.CallerAudioCommitted("U2", "A1"), ev.CallerTranscriptEnded("U2", "Stop."), LOST)
    texts = [
        (type(e).__name__, e.text) for e in back(d) if isinstance(e, (ef.AddCallerText, ef.AddAgentText))
    ]
    assert texts == [("AddCallerText", "Tell me."), ("AddAgentText", "one two"), ("AddCallerText", "Stop.")]


def test_a_response_that_went_down_unheard_is_asked_for_again() -> None:
    d = Driver(limits=FREE).start()
    told(d, "U1", "What is DSCR?")
    d.on(ev.ResponseStarted("R1", None), LOST)
    back(d)
    assert len(d.only(ef.CreateResponse)) == 1


def test_an_answer_cut_off_by_the_loss_plays_on_is_remembered_as_heard_and_then_goes_on() -> None:
    d = Driver(limits=FREE).start()
    told(d, "U1", "What is DSCR?")
    d.on(ev.ResponseStarted("R1", None), *d.deltas("R1", "A1", 2_000, "It is the ratio of rent to debt " * 4))
    number = d.number_of("A1")
    d.on(LOST)
    assert not d.only(ef.FlushPlayout)
    done = back(d)
    assert not [e for e in done if isinstance(e, (ef.AddAgentText, ef.CreateResponse))], "it still plays"
    d.report(number, 2_000)
    (heard,) = d.only(ef.AddAgentText)
    assert heard.item_id == "A1"  # type: ignore[union-attr]
    assert heard.after == "U1"  # type: ignore[union-attr]
    assert 0 < len(heard.text) < 32  # type: ignore[union-attr]
    assert [c.instructions for c in d.only(ef.CreateResponse)] == [GO_ON]  # type: ignore[union-attr]


def test_what_plays_on_after_a_loss_can_be_barged_in_upon_and_nothing_is_truncated_upstream() -> None:
    d = Driver(limits=FREE).start()
    told(d, "U1", "What is DSCR?")
    d.answer("R1", "A1", 4_000, "one two three four five six seven eight")
    number = d.number_of("A1")
    d.on(LOST)
    back(d)
    d.on(ev.CallerSpeechStarted("U2", 0))
    d.on(ev.FlushAnswered(EPOCH + 1, number, 1_000 * MS))
    assert d.only(ef.TruncateItem, ef.DeleteItem) == []
    assert d.only(ef.AddAgentText) == [ef.AddAgentText("A1", "one two", "U1")]


def test_speech_that_upstream_took_with_it_is_appended_again_from_where_it_began() -> None:
    d = Driver(limits=FREE).start()
    d.on(ev.CallerSpeechStarted("U1", 7_300))
    d.wait(900)
    d.on(LOST)
    assert [e.number for e in d.only(ef.EndItem)] == [1]  # type: ignore[union-attr]
    assert ef.ReplayCaller(7_300, since_heard=True) in back(d)


def test_a_committed_turn_whose_words_are_unknown_and_unanswered_is_said_again_and_not_asked_for() -> None:
    d = Driver(limits=FREE).start()
    d.on(ev.CallerSpeechStarted("U1", 7_300), ev.CallerSpeechStopped("U1", 9_000))
    d.on(ev.CallerAudioCommitted("U1", None), ev.ResponseStarted("R1", None), LOST)
    done = back(d)
    assert ef.ReplayCaller(7_300, since_heard=True) in done
    assert not [e for e in done if isinstance(e, ef.CreateResponse)], "it is answered when it is heard again"
    assert d.state.totals.turns == 0
    d.say("U1b")
    assert d.state.totals.turns == 1


def test_a_turn_whose_answer_is_being_heard_is_not_said_again() -> None:
    d = Driver(limits=FREE).start()
    d.on(ev.CallerSpeechStarted("U1", 7_300), ev.CallerSpeechStopped("U1", 9_000))
    d.on(ev.CallerAudioCommitted("U1", None), ev.ResponseStarted("R1", None))
    d.on(*d.deltas("R1", "A1", 1_000, "some words"), LOST)
    assert ef.ReplayCaller(None, since_heard=True) in back(d)


def test_a_call_under_way_is_put_back_and_answered_in_the_new_connection() -> None:
    d = Driver(limits=FREE).start()
    told(d, "U1", "Look it up.")
    d.on(ev.ResponseStarted("R1", None), ev.OutputItemDone("R1", call("F1", "c1", arguments='{"a":1}')))
    d.on(ev.ResponseEnded("R1", "completed"), LOST)
    done = back(d)
    assert ef.AddToolCall("F1", "c1", "lookup", '{"a":1}') in done
    assert not [e for e in done if isinstance(e, (ef.AddToolOutput, ef.CreateResponse))]
    d.on(ev.ToolAnswered("c1", "ok", "{}"))
    assert len(d.only(ef.AddToolOutput)) == 1
    assert len(d.only(ef.CreateResponse)) == 1


def test_a_call_answered_while_upstream_was_away_is_put_back_with_its_answer_and_spoken() -> None:
    d = Driver(limits=FREE).start()
    told(d, "U1", "Look it up.")
    d.on(ev.ResponseStarted("R1", None), ev.OutputItemDone("R1", call("F1", "c1")))
    d.on(ev.ResponseEnded("R1", "completed"), LOST, ev.ToolAnswered("c1", "ok", '{"say":"yes"}'))
    assert not d.only(ef.AddToolOutput)
    done = back(d)
    order = [type(e).__name__ for e in done if isinstance(e, (ef.AddToolCall, ef.AddToolOutput))]
    assert order == ["AddToolCall", "AddToolOutput"]
    assert len([e for e in done if isinstance(e, ef.CreateResponse)]) == 1


def test_text_typed_while_upstream_is_away_is_answered_when_it_is_back() -> None:
    d = Driver(limits=FREE).start()
    d.on(LOST, ev.CallerTyped("still there?"))
    assert not d.only(ef.AddCallerText)
    done = back(d)
    assert [e.text for e in done if isinstance(e, ef.AddCallerText)] == ["still there?"]
    assert len([e for e in done if isinstance(e, ef.CreateResponse)]) == 1


def test_dialling_backs_off_and_gives_up_after_its_time_with_a_clear_code() -> None:
    d = Driver(limits=Limits(idle_hangup_ms=None, reconnect_ms=10_000)).start()
    d.on(LOST)
    waits = []
    while not d.state.is_over:
        if isinstance(d.state.upstream, Away):
            waits.append(d.state.upstream.retry_ms - d.now_ms)
            d.wait(waits[-1])
        if isinstance(d.state.upstream, Connecting):
            d.on(LOST)
    assert waits[:4] == sorted(waits[:4])
    assert max(waits) <= 4_000
    (end,) = d.only(ef.EndSession)
    assert (end.reason, end.code) == ("failed", "upstream_lost")  # type: ignore[union-attr]
    assert end.reconnects > 3  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("code", "reason", "said"),
    [
        (3000, "invalid_request_error.invalid_api_key", "upstream_invalid_api_key"),
        (4000, "invalid_request_error.invalid_model", "upstream_invalid_model"),
        (3000, "invalid_request_error", "upstream_invalid_request_error"),
    ],
)
def test_an_upstream_that_refuses_us_is_not_dialled_again(code: int, reason: str, said: str) -> None:
    d = Driver(limits=FREE)
    d.on(ev.UpstreamLost(code, reason))
    (end,) = d.only(ef.EndSession)
    assert (end.reason, end.code) == ("failed", said)  # type: ignore[union-attr]


def test_an_expired_session_is_a_lost_connection_and_not_a_failed_one() -> None:
    d = Driver(limits=FREE).start()
    d.on(ev.UpstreamRefused("invalid_request_error", "session_expired", "60 minutes"))
    assert d.did == (ef.Ignored("session_expired"),)
    d.on(ev.UpstreamLost(1001, "Your session hit the maximum duration of 60 minutes."))
    assert isinstance(d.state.upstream, Away)
    back(d)
    assert not d.state.is_over


def test_an_upstream_that_falls_silent_while_it_should_answer_is_given_up_and_dialled_again() -> None:
    d = Driver(limits=FREE).start()
    told(d, "U1", "What is DSCR?")
    d.on(ev.ResponseStarted("R1", None))
    assert not [e for e in d.wait(19_999) if isinstance(e, ef.CloseUpstream)]
    d.wait(1)
    assert d.did[:2] == (ef.CloseUpstream(), ef.Ignored("upstream_silent"))
    back(d)
    assert len(d.only(ef.CreateResponse)) == 1


def test_a_quiet_upstream_of_which_nothing_is_expected_is_left_alone() -> None:
    d = Driver(limits=FREE).start()
    assert d.wait(600_000) == ()


def test_long_before_it_expires_a_connection_is_replaced_at_a_quiet_moment() -> None:
    d = Driver(limits=Limits(idle_hangup_ms=None, rollover_ms=60_000)).start()
    d.wait(50_000)
    told(d, "U1", "What is DSCR?")
    d.answer("R1", "A1", 15_000, "a long answer")
    number = d.number_of("A1")
    d.wait(12_000)
    assert isinstance(d.state.upstream, Ready), "not while the agent speaks"
    d.report(number, 15_000)
    assert [type(e).__name__ for e in d.only(ef.CloseUpstream, ef.OpenUpstream, ef.ShowNotice)] == [
        "CloseUpstream",
        "OpenUpstream",
    ]
    assert d.state.mic == "hold"
    d.on(ev.UpstreamOpened("sess_2", "m"), ev.UpstreamConfigured())
    assert not d.only(ef.ShowNotice), "the caller notices nothing"
    assert d.only(ef.ReplayCaller) == [ef.ReplayCaller(None)]
    assert d.state.totals.reconnects == 0


def test_a_key_released_while_upstream_was_away_commits_what_is_said_again() -> None:
    d = Driver(limits=FREE, turn_taking=TurnTaking(push_to_talk=True)).start()
    d.on(ev.CallerTalked("start", 4_000))
    d.wait(800)
    d.on(LOST, ev.CallerTalked("stop", 4_800))
    done = back(d)
    assert [e for e in done if isinstance(e, (ef.ReplayCaller, ef.CommitCallerAudio))] == [
        ef.ReplayCaller(4_000, since_heard=True),
        ef.CommitCallerAudio(),
    ]


def test_a_failed_session_says_it_is_sorry_before_it_ends() -> None:
    sorry = LocalAudio("apology", "I am sorry, the line is gone.", 2_000 * MS)
    d = Driver(limits=Limits(idle_hangup_ms=None, reconnect_ms=1_000), local=(sorry,)).start()
    d.on(LOST)
    d.wait(1_000)
    d.on(LOST)
    d.wait(1_500)
    assert ef.PlayLocal(EPOCH, 1, "apology") in d.all
    assert not d.state.is_over
    d.report(1, 2_000)
    (end,) = d.only(ef.EndSession)
    assert (end.reason, end.code) == ("failed", "upstream_lost")  # type: ignore[union-attr]


def test_an_apology_that_nobody_reports_as_heard_ends_all_the_same() -> None:
    sorry = LocalAudio("apology", "I am sorry.", 2_000 * MS)
    d = Driver(limits=FREE, local=(sorry,)).start()
    d.on(ev.UpstreamRefused("invalid_request_error", "insufficient_quota", "no"))
    d.wait(3_499)
    assert not d.state.is_over
    d.wait(1)
    assert d.state.is_over


def test_the_history_that_is_put_back_is_bounded_and_says_so() -> None:
    d = Driver(limits=FREE).start()
    for n in range(150):
        told(d, f"U{n}", f"question {n}")
        d.answer(f"R{n}", f"A{n}", 100, f"answer {n}")
        d.report(d.number_of(f"A{n}"), 100)
    d.on(LOST)
    done = back(d)
    seeds = [e for e in done if isinstance(e, (ef.AddCallerText, ef.AddAgentText))]
    assert len(seeds) == 200
    assert seeds[-1].text == "answer 149"
    (note,) = [e for e in done if isinstance(e, ef.AddSystemText)]
    assert note.text.endswith("is left out.")


def test_what_is_lost_while_nothing_happens_costs_nothing() -> None:
    d = Driver(limits=FREE).start()
    d.on(LOST)
    back(d)
    assert d.state.response == Idle()
    assert d.state.creates == ()
