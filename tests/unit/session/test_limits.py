"""Silence, time, tokens and money: asked after, wrapped up, ended; and what a session is said to cost."""

from __future__ import annotations

import pytest

from fakes.core_driver import MS, Driver, call
from parley_session.core import effects as ef
from parley_session.core import events as ev
from parley_session.core.config import Limits, LocalAudio, Prices
from parley_session.core.meter import cost_usd
from parley_session.core.state import ResponseUsage

GPT_REALTIME = Prices(
    input_text=4, input_audio=32, cached_text=0.4, cached_audio=0.4, output_text=16, output_audio=64
)


def ended(d: Driver) -> ef.EndSession:
    (end,) = [e for e in d.all if isinstance(e, ef.EndSession)]
    return end


# -- silence --------------------------------------------------------------------------------------


def test_a_silent_caller_is_asked_once_and_then_hung_up_on() -> None:
    d = Driver(limits=Limits(idle_nudge_ms=10_000, idle_hangup_ms=30_000)).start()
    d.wait(9_999)
    assert not d.state.is_over
    d.wait(1)
    (create,) = d.only(ef.CreateResponse)
    assert not create.may_call_tools  # type: ignore[union-attr]
    d.answer("R1", "A1", 2_000, "Are you still there?", create=create.create_id)  # type: ignore[union-attr]
    d.report(d.number_of("A1"), 2_000)
    d.wait(19_999)
    assert not [e for e in d.all if isinstance(e, ef.EndSession)]
    d.wait(1)
    assert (ended(d).reason, d.now_ms) == ("idle", 30_000)


def test_a_caller_who_answers_is_asked_again_after_another_silence() -> None:
    d = Driver(limits=Limits(idle_nudge_ms=10_000, idle_hangup_ms=60_000)).start()
    d.wait(10_000)
    d.answer("R1", "A1", 1_000, "Still there?", create="create_1")
    d.report(d.number_of("A1"), 1_000)
    d.say("U1")
    d.answer("R2", "A2", 1_000, "Fine.")
    d.report(d.number_of("A2"), 1_000)
    d.wait(11_000)
    assert len([e for e in d.all if isinstance(e, ef.CreateResponse)]) == 2


def test_a_tool_that_runs_is_not_silence() -> None:
    d = Driver(limits=Limits(idle_nudge_ms=500, idle_hangup_ms=800, tool_attempts_max=10)).start()
    d.say("U1")
    d.on(ev.ResponseStarted("R1", None), ev.OutputItemDone("R1", call("F1", "c1")))
    d.on(ev.ResponseEnded("R1", "completed"))
    d.wait(5_000)
    assert not d.state.is_over
    assert not d.only(ef.CreateResponse)


# -- time, tokens, money --------------------------------------------------------------------------


def test_before_its_longest_time_the_agent_is_told_to_wrap_up_once() -> None:
    d = Driver(limits=Limits(idle_hangup_ms=None, session_max_ms=300_000, wrap_up_ms=60_000)).start()
    d.wait(240_000)
    assert [e.code for e in d.only(ef.ShowNotice)] == ["wrap_up"]  # type: ignore[union-attr]
    assert len(d.only(ef.AddSystemText)) == 1
    d.wait(60_000)
    assert (ended(d).reason, ended(d).code) == ("limit", "session_too_long")
    assert len([e for e in d.all if isinstance(e, ef.AddSystemText)]) == 1


def test_tokens_wrap_up_at_their_share_and_end_when_they_are_spent_and_heard() -> None:
    d = Driver(limits=Limits(idle_hangup_ms=None, tokens_max=1_000)).start()
    d.say("U1")
    d.on(ev.ResponseStarted("R1", None), *d.deltas("R1", "A1", 1_000, "words"))
    d.on(ev.ResponseEnded("R1", "completed", usage=ResponseUsage(input_text=700, output_audio=150)))
    assert [e.code for e in d.only(ef.ShowNotice)] == ["wrap_up"]  # type: ignore[union-attr]
    d.on(ev.ResponseStarted("R2", None), *d.deltas("R2", "A2", 1_000, "bye"))
    d.on(ev.ResponseEnded("R2", "completed", usage=ResponseUsage(output_audio=150)))
    assert not d.state.is_over, "what was paid for is heard"
    d.report(d.number_of("A2"), 1_000)
    assert (ended(d).reason, ended(d).code) == ("limit", "budget_spent")


def test_money_is_spent_like_tokens() -> None:
    d = Driver(limits=Limits(idle_hangup_ms=None, usd_max=0.01), prices=GPT_REALTIME).start()
    d.say("U1")
    usage = ResponseUsage(input_text=14, input_audio=27, output_text=28, output_audio=136)
    d.on(ev.ResponseStarted("R1", None), ev.ResponseEnded("R1", "completed", usage=usage))
    assert ended(d).code == "budget_spent"
    assert ended(d).cost_usd == pytest.approx(0.010_072)


def test_a_voice_turn_costs_what_the_reference_says() -> None:
    usage = ResponseUsage(input_text=14, input_audio=27, output_text=28, output_audio=136)
    assert cost_usd(usage, GPT_REALTIME) == pytest.approx(10_072e-6)


def test_cached_tokens_are_charged_once_and_at_their_own_price() -> None:
    fresh = ResponseUsage(input_text=1_000, input_audio=1_000)
    cached = ResponseUsage(input_text=1_000, input_audio=1_000, cached_text=640, cached_audio=960)
    assert cost_usd(fresh, GPT_REALTIME) == pytest.approx(0.036)
    expected = (360 * 4 + 640 * 0.4 + 40 * 32 + 960 * 0.4) / 1e6
    assert cost_usd(cached, GPT_REALTIME) == pytest.approx(expected)


def test_transcription_is_charged_by_the_minute() -> None:
    d = Driver(prices=Prices(transcription_minute=0.006)).start()
    d.say("U1")
    d.on(ev.CallerTranscriptEnded("U1", "hello", 30_000), ev.CallerHungUp())
    assert ended(d).cost_usd == pytest.approx(0.003)


def test_a_model_without_a_price_costs_nobody_knows_what() -> None:
    d = Driver().start()
    d.say("U1")
    d.on(ev.ResponseStarted("R1", None))
    d.on(ev.ResponseEnded("R1", "completed", usage=ResponseUsage(output_text=10)))
    (turn,) = d.only(ef.RecordTurn)
    assert turn.cost_usd is None  # type: ignore[union-attr]


def test_a_turn_tells_its_latency_in_parts() -> None:
    d = Driver().start()
    d.say("U1", silence_ms=500)
    d.wait(80)
    d.on(ev.ResponseStarted("R1", None))
    d.wait(300)
    d.on(*d.deltas("R1", "A1", 1_000, "Yes."), ev.ResponseEnded("R1", "completed"))
    d.report(d.number_of("A1"), 1_000)
    (turn,) = d.only(ef.RecordTurn)
    parts = (turn.turn_detection_ms, turn.response_ms, turn.first_audio_ms)  # type: ignore[union-attr]
    assert parts == (500, 80, 300)
    assert turn.voice_to_voice_ms == sum(parts)  # type: ignore[union-attr, arg-type]


# -- upstream's own limits ------------------------------------------------------------------------


def test_a_rate_limit_is_waited_out_as_told_and_said() -> None:
    d = Driver().start()
    d.say("U1")
    d.on(ev.ResponseStarted("R1", None))
    d.on(ev.ResponseEnded("R1", "failed", "rate_limit_exceeded", retry_after_ms=8_000))
    assert [e.code for e in d.only(ef.ShowNotice)] == ["rate_limited"]  # type: ignore[union-attr]
    assert not [e for e in d.wait(7_999) if isinstance(e, ef.CreateResponse)]
    d.wait(1)
    assert len(d.only(ef.CreateResponse)) == 1


def test_a_rate_limit_that_cannot_be_waited_out_is_told() -> None:
    d = Driver().start()
    d.say("U1")
    d.on(ev.ResponseStarted("R1", None))
    d.on(ev.ResponseEnded("R1", "failed", "rate_limit_exceeded", retry_after_ms=86_400))
    assert [(e.code, e.fatal) for e in d.only(ef.ShowError)] == [("upstream_rate_limit_exceeded", False)]  # type: ignore[union-attr]
    assert d.state.creates == ()


def test_a_rate_limit_is_not_waited_out_for_ever() -> None:
    d = Driver().start()
    d.on(ev.CallerTyped("hello"))
    for n in range(4):
        (create,) = d.only(ef.CreateResponse)
        d.on(ev.ResponseStarted(f"R{n}", create.create_id))  # type: ignore[union-attr]
        d.on(ev.ResponseEnded(f"R{n}", "failed", "rate_limit_exceeded", retry_after_ms=1_000))
        if n < 3:
            d.wait(1_000)
    assert [e.code for e in d.only(ef.ShowError)] == ["upstream_rate_limit_exceeded"]  # type: ignore[union-attr]


def test_an_answer_cut_off_by_its_token_limit_is_brought_to_an_end_once() -> None:
    d = Driver().start()
    d.say("U1")
    d.on(ev.ResponseStarted("R1", None), ev.ResponseEnded("R1", "incomplete", "max_output_tokens"))
    (create,) = d.only(ef.CreateResponse)
    assert "Finish it" in str(create.instructions)  # type: ignore[union-attr]
    d.on(ev.ResponseStarted("R2", create.create_id))  # type: ignore[union-attr]
    d.on(ev.ResponseEnded("R2", "incomplete", "max_output_tokens"))
    assert not d.only(ef.CreateResponse)


def test_an_answer_the_filter_stopped_is_told_and_not_asked_again() -> None:
    d = Driver().start()
    d.say("U1")
    d.on(ev.ResponseStarted("R1", None), ev.ResponseEnded("R1", "incomplete", "content_filter"))
    assert [e.code for e in d.only(ef.ShowError)] == ["upstream_content_filter"]  # type: ignore[union-attr]
    assert not d.only(ef.CreateResponse)


# -- local audio ----------------------------------------------------------------------------------

HELLO = LocalAudio("greeting", "Hello, this is Cap.", 1_000 * MS)
LOOKING = LocalAudio("filler", "One moment.", 500 * MS)
EPOCH = 1 << 16 | 1


def test_a_rendered_greeting_costs_no_response_and_is_told_upstream_when_heard() -> None:
    d = Driver(greet_first=True, greeting=HELLO.text, local=(HELLO,)).start()
    assert not d.only(ef.CreateResponse)
    assert ef.PlayLocal(EPOCH, 1, "greeting") in d.did
    d.report(1, 1_000)
    assert d.only(ef.AddAgentText) == [ef.AddAgentText("parley_local_1", "Hello, this is Cap.", "root")]
    d.on(ev.CallerHungUp())
    assert ended(d).local_ms == 1_000


def test_a_rendered_greeting_barged_in_upon_enters_history_as_far_as_it_was_heard() -> None:
    d = Driver(greet_first=True, local=(HELLO,)).start()
    d.on(ev.CallerSpeechStarted("U1", 0), ev.FlushAnswered(EPOCH + 1, 1, 400 * MS))
    assert d.only(ef.AddAgentText) == [ef.AddAgentText("parley_local_1", "Hello,", "root")]
    assert d.only(ef.TruncateItem, ef.DeleteItem) == []


def test_a_greeting_nobody_heard_was_never_said() -> None:
    d = Driver(greet_first=True, local=(HELLO,)).start()
    d.on(ev.CallerSpeechStarted("U1", 0), ev.FlushAnswered(EPOCH + 1, 0, 0))
    assert d.only(ef.AddAgentText) == []
    assert [i.item_id for i in d.state.history] == ["U1"]


def test_a_slow_tool_is_covered_by_one_filler() -> None:
    d = Driver(local=(LOOKING,), limits=Limits(idle_hangup_ms=None, tool_attempts_max=10)).start()
    d.say("U1")
    d.on(ev.ResponseStarted("R1", None), ev.OutputItemDone("R1", call("F1", "c1")))
    d.on(ev.ResponseEnded("R1", "completed"))
    assert not [e for e in d.wait(1_199) if isinstance(e, ef.PlayLocal)]
    d.wait(1)
    assert len(d.only(ef.PlayLocal)) == 1
    d.wait(5_000)
    assert not d.only(ef.PlayLocal)


def test_a_quick_tool_and_a_speaking_agent_need_no_filler() -> None:
    d = Driver(local=(LOOKING,)).start()
    d.say("U1")
    d.on(ev.ResponseStarted("R1", None), *d.deltas("R1", "A1", 3_000, "Let me look."))
    d.on(ev.OutputItemDone("R1", call("F1", "c1")), ev.ResponseEnded("R1", "completed"))
    d.wait(900)
    d.on(ev.ToolAnswered("c1", "ok", "{}"))
    d.wait(3_000)
    assert not [e for e in d.all if isinstance(e, ef.PlayLocal)]


def test_in_text_mode_nothing_local_is_played() -> None:
    d = Driver(mode="text", greet_first=True, local=(HELLO,)).start()
    assert not d.only(ef.PlayLocal)
    assert len(d.only(ef.CreateResponse)) == 1


# -- operators ------------------------------------------------------------------------------------


def test_a_tool_switched_off_is_refused_and_the_model_told() -> None:
    d = Driver().start()
    d.say("U1")
    d.on(ev.ToolsSwitched(("lookup",)), ev.ResponseStarted("R1", None))
    d.on(ev.OutputItemDone("R1", call("F1", "c1")))
    assert not d.only(ef.RequestTool)
    assert [(e.status, e.code) for e in d.only(ef.RecordToolUse)] == [("refused", "switched_off")]  # type: ignore[union-attr]


def test_what_cannot_be_undone_and_was_not_answered_may_have_happened() -> None:
    d = Driver(limits=Limits(idle_hangup_ms=None, tool_attempts_max=1)).start()
    d.say("U1")
    d.on(ev.ResponseStarted("R1", None), ev.OutputItemDone("R1", call("F1", "c1", "save")))
    d.on(ev.ResponseEnded("R1", "completed"))
    d.wait(1_000)
    (output,) = d.only(ef.AddToolOutput)
    assert "unknown_outcome" in output.output  # type: ignore[union-attr]
    assert [e.status for e in d.only(ef.RecordToolUse)] == ["unknown_outcome"]  # type: ignore[union-attr]
