"""Responses: one at a time, asked when nothing speaks against it, and what becomes of those that go wrong."""

from __future__ import annotations

import pytest

from fakes.core_driver import Driver, call
from parley_session.core import effects as ef
from parley_session.core import events as ev
from parley_session.core.config import Limits
from parley_session.core.state import Active, Cancelling, Creating, Idle


def greeted() -> tuple[Driver, str]:
    d = Driver(greet_first=True, greeting="Hello there.")
    d.start()
    (create,) = d.only(ef.CreateResponse)
    return d, create.create_id  # type: ignore[union-attr]


def test_the_greeting_is_asked_for_once_upstream_is_configured() -> None:
    d = Driver(greet_first=True, greeting="Hello there.")
    d.on(ev.UpstreamOpened("sess", "m"))
    assert d.kinds() == ["ConfigureUpstream", "RecordStarted"]
    d.on(ev.UpstreamConfigured())
    assert d.kinds() == ["WelcomeClient", "SetMicPolicy", "CreateResponse", "ShowState"]
    (create,) = d.only(ef.CreateResponse)
    assert create == ef.CreateResponse("create_1", 'Greet the caller.\nSay exactly: "Hello there."', False)


def test_our_create_that_starts_after_the_caller_spoke_is_cancelled_and_its_items_deleted() -> None:
    d, create = greeted()
    d.on(ev.CallerSpeechStarted("U1", 0))
    d.on(ev.ResponseStarted("R1", create))
    assert d.only(ef.CancelResponse) == [ef.CancelResponse("R1")]
    assert d.state.response == Cancelling("R1")
    d.on(*d.deltas("R1", "A1", 200))
    assert d.did == (ef.Ignored("late_audio"),)
    d.on(ev.OutputItemDone("R1", ev.UpstreamItem("A1", "message", "assistant", "incomplete", has_audio=True)))
    assert d.only(ef.DeleteItem) == [ef.DeleteItem("A1")]


def test_upstreams_own_response_to_the_new_item_is_kept() -> None:
    d, create = greeted()
    d.say("U1")
    d.on(ev.ResponseStarted("R1", create), ev.ResponseEnded("R1", "cancelled", "client_cancelled"))
    d.on(ev.ResponseStarted("R2", None), *d.deltas("R2", "A2", 200))
    assert d.only(ef.PlayAudio)
    assert d.state.response == Active("R2", None)


def test_a_create_that_collides_with_upstreams_own_is_asked_again_after_it() -> None:
    d = Driver().start()
    d.on(ev.CallerTyped("hello"))
    (create,) = d.only(ef.CreateResponse)
    d.on(ev.ResponseStarted("R1", None))
    assert d.state.response == Active("R1", None)
    d.on(
        ev.UpstreamRefused(
            "invalid_request_error", "conversation_already_has_active_response", "", create.create_id
        )
    )  # type: ignore[union-attr]
    d.on(ev.ResponseEnded("R1", "completed"))
    assert [e.create_id for e in d.only(ef.CreateResponse)] == [create.create_id]  # type: ignore[union-attr]


def test_a_create_whose_items_upstreams_own_response_has_seen_is_not_asked_again() -> None:
    d = Driver().start()
    d.on(ev.CallerTyped("hello"))
    d.on(ev.ItemAdded(ev.UpstreamItem("parley_text_1", "message", "user"), None))
    d.on(ev.ResponseStarted("R1", None), ev.ResponseEnded("R1", "completed"))
    assert not d.only(ef.CreateResponse)
    assert d.state.creates == ()


def test_nothing_is_asked_while_the_caller_speaks_nor_while_upstreams_answer_is_due() -> None:
    d = Driver().start()
    d.say("U1")
    d.on(
        ev.ResponseStarted("R1", None),
        ev.OutputItemDone("R1", call("F1", "c1")),
        ev.ResponseEnded("R1", "completed"),
    )
    d.on(ev.CallerSpeechStarted("U2", 0))
    d.on(ev.ToolAnswered("c1", "ok", "{}"))
    assert d.only(ef.AddToolOutput)
    assert not d.only(ef.CreateResponse)
    d.on(ev.CallerSpeechStopped("U2", 0), ev.CallerAudioCommitted("U2", None))
    assert not d.only(ef.CreateResponse)
    d.on(ev.ItemAdded(ev.UpstreamItem("parley_output_1", "function_call_output"), None))
    d.on(ev.ResponseStarted("R2", None), ev.ResponseEnded("R2", "completed"))
    assert not d.only(ef.CreateResponse)


def test_an_answer_that_upstream_never_makes_is_asked_for_by_us() -> None:
    d = Driver().start()
    d.say("U1")
    d.on(
        ev.ResponseStarted("R1", None),
        ev.OutputItemDone("R1", call("F1", "c1")),
        ev.ResponseEnded("R1", "completed"),
    )
    d.on(ev.CallerSpeechStarted("U2", 0), ev.ToolAnswered("c1", "ok", "{}"), ev.CallerSpeechStopped("U2", 0))
    d.wait(1_500)
    assert d.only(ef.CreateResponse)


def test_a_server_error_is_tried_once_more_and_then_told() -> None:
    d = Driver().start()
    d.say("U1")
    d.on(ev.ResponseStarted("R1", None), ev.ResponseEnded("R1", "failed", "server_error"))
    (create,) = d.only(ef.CreateResponse)
    d.on(ev.ResponseStarted("R2", create.create_id), ev.ResponseEnded("R2", "failed", "server_error"))  # type: ignore[union-attr]
    assert not d.only(ef.CreateResponse)
    assert [(e.code, e.fatal) for e in d.only(ef.ShowError)] == [("upstream_server_error", False)]  # type: ignore[union-attr]


@pytest.mark.parametrize("code", ["insufficient_quota", "invalid_api_key", "invalid_model"])
def test_what_cannot_get_better_ends_the_session_with_a_clear_code(code: str) -> None:
    d = Driver().start()
    d.on(ev.UpstreamRefused("invalid_request_error", code, "no"))
    assert d.state.is_over
    (end,) = d.only(ef.EndSession)
    assert (end.reason, end.code) == ("failed", f"upstream_{code}")  # type: ignore[union-attr]
    assert [e.fatal for e in d.only(ef.ShowError)] == [True]  # type: ignore[union-attr]


def test_cancelling_what_is_not_active_any_more_is_fine() -> None:
    d = Driver().start()
    assert d.on(ev.UpstreamRefused("invalid_request_error", "response_cancel_not_active", "")) == (
        ef.Ignored("response_cancel_not_active"),
    )
    assert d.state.response == Idle()


def test_creates_queue_while_a_response_is_active_and_coalesce() -> None:
    d = Driver().start()
    d.on(ev.CallerTyped("one"))
    assert isinstance(d.state.response, Creating)
    (first,) = d.only(ef.CreateResponse)
    d.on(ev.ResponseStarted("R1", first.create_id), ev.CallerTyped("two"), ev.CallerTyped("three"))  # type: ignore[union-attr]
    d.on(ev.ResponseEnded("R1", "cancelled", "client_cancelled"))
    assert len(d.only(ef.CreateResponse)) == 1
    assert len(d.state.creates) == 0


def test_an_unconfigured_upstream_is_dialled_again_and_given_up_after_its_time() -> None:
    d = Driver()
    d.on(ev.UpstreamOpened("s", "m"))
    d.wait(7_500)
    assert not d.state.is_over
    assert ef.OpenUpstream() in d.did
    d.wait(2_000)
    (end,) = d.only(ef.EndSession)
    assert (end.reason, end.code) == ("failed", "upstream_lost")  # type: ignore[union-attr]


def test_silence_ends_the_session_but_not_while_the_agent_speaks_or_a_tool_runs() -> None:
    d = Driver(limits=Limits(idle_hangup_ms=5_000)).start()
    d.say("U1")
    d.answer("R1", "A1", 20_000, "a long story")
    d.wait(19_000)
    assert not d.state.is_over
    d.wait(9_000)
    (end,) = d.only(ef.EndSession)
    assert end.reason == "idle"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (ev.CallerHungUp(), "caller"),
        (ev.LinkLost("lost"), "lost"),
        (ev.LinkLost("drained"), "drained"),
        (ev.OperatorEnded(), "operator"),
        (ev.UpstreamLost(3000, "invalid_request_error.invalid_api_key"), "failed"),
        (ev.ShellFailed("overloaded", ""), "failed"),
    ],
)
@pytest.mark.parametrize("phase", ["connecting", "listening", "thinking", "speaking", "tool", "yielding"])
def test_whatever_ends_a_session_in_whatever_phase_is_recorded_once(
    event: ev.Event, reason: str, phase: str
) -> None:
    d = Driver()
    if phase != "connecting":
        d.start()
    if phase in {"thinking", "speaking", "tool", "yielding"}:
        d.say("U1")
        d.on(ev.ResponseStarted("R1", None))
    if phase in {"speaking", "yielding"}:
        d.on(*d.deltas("R1", "A1", 1_000, "hello"))
    if phase == "tool":
        d.on(ev.OutputItemDone("R1", call("F1", "c1")))
    if phase == "yielding":
        d.on(ev.CallerSpeechStarted("U2", 0))
    d.on(event)
    assert [e.reason for e in d.only(ef.EndSession)] == [reason]  # type: ignore[union-attr]
    assert [e.status for e in d.only(ef.RecordToolUse)] == (["cancelled"] if phase == "tool" else [])  # type: ignore[union-attr]
    assert (
        d.on(event, ev.DeadlinePassed(), ev.ToolAnswered("c1", "ok", "{}")) == (ef.Ignored("after_end"),) * 3
    )
