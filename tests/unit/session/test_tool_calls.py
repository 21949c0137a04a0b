"""Tool calls in the core: run when complete, answered once, asked again in time, stopped when they run away."""

from __future__ import annotations

from fakes.core_driver import Driver, call, message
from parley_session.core import effects as ef
from parley_session.core import events as ev
from parley_session.core.config import Limits


def called(*items: ev.UpstreamItem, **config: object) -> Driver:
    d = Driver(**config).start()
    d.say("U1")
    d.on(ev.ResponseStarted("R1", None), *(ev.OutputItemDone("R1", item) for item in items))
    return d


def test_a_call_runs_as_soon_as_its_item_is_complete_while_the_response_goes_on() -> None:
    d = called(call("F1", "c1", arguments='{"a": 1}'))
    assert d.only(ef.RequestTool) == [ef.RequestTool("c1", 1, "tools", "lookup", '{"a": 1}', 1_000, ())]


def test_the_output_may_come_before_the_response_ends_but_the_create_only_after() -> None:
    d = called(call("F1", "c1"))
    d.on(ev.ToolAnswered("c1", "ok", '{"say": "yes"}'))
    assert d.only(ef.AddToolOutput) == [ef.AddToolOutput("parley_output_1", "c1", '{"say": "yes"}')]
    assert not d.only(ef.CreateResponse)
    d.on(ev.ResponseEnded("R1", "completed"))
    assert len(d.only(ef.CreateResponse)) == 1


def test_parallel_calls_are_answered_together_by_one_create() -> None:  # from SDK types: no recording exists
    d = called(call("F1", "c1"), call("F2", "c2", "save"))
    d.on(ev.ResponseEnded("R1", "completed"), ev.ToolAnswered("c2", "ok", "{}"))
    assert not d.only(ef.CreateResponse)
    d.on(ev.ToolAnswered("c1", "ok", "{}"))
    assert len(d.only(ef.CreateResponse)) == 1


def test_an_incomplete_call_is_not_executed_but_gets_an_output() -> None:
    d = called(call("F1", "c1", arguments='{"a": ', status="incomplete"))
    assert not d.only(ef.RequestTool)
    (output,) = d.only(ef.AddToolOutput)
    assert "not_executed" in output.output  # type: ignore[union-attr]


def test_an_unknown_tool_is_answered_at_once_and_the_conversation_goes_on() -> None:
    d = called(call("F1", "c1", "teleport"))
    (output,) = d.only(ef.AddToolOutput)
    assert "unknown_tool" in output.output  # type: ignore[union-attr]
    d.on(ev.ResponseEnded("R1", "completed"))
    assert d.only(ef.CreateResponse)


def test_a_barge_in_cancels_no_tool_and_its_output_still_goes_up() -> None:
    d = Driver().start()
    d.say("U1")
    d.on(ev.ResponseStarted("R1", None), *d.deltas("R1", "A1", 2_000, "one moment"))
    d.on(
        ev.OutputItemDone("R1", message("A1")),
        ev.OutputItemDone("R1", call("F1", "c1")),
        ev.ResponseEnded("R1", "completed"),
    )
    d.on(ev.CallerSpeechStarted("U2", 0))
    assert len(d.state.calls) == 1
    d.on(ev.ToolAnswered("c1", "ok", "{}"))
    assert d.only(ef.AddToolOutput)
    assert not d.only(ef.CreateResponse)


def test_a_deadline_asks_again_with_the_same_id_and_then_gives_up() -> None:
    d = called(call("F1", "c1"))
    d.on(ev.ResponseEnded("R1", "completed"))
    d.wait(1_000)
    assert [(r.call_id, r.attempt) for r in d.only(ef.RequestTool)] == [("c1", 2)]  # type: ignore[union-attr]
    d.wait(1_000)
    assert [r.attempt for r in d.only(ef.RequestTool)] == [3]  # type: ignore[union-attr]
    d.wait(1_000)
    assert not d.only(ef.RequestTool)
    (output,) = d.only(ef.AddToolOutput)
    assert "tool_timed_out" in output.output  # type: ignore[union-attr]
    assert [u.status for u in d.only(ef.RecordToolUse)] == ["expired"]  # type: ignore[union-attr]
    assert d.only(ef.CreateResponse)


def test_a_result_that_comes_twice_or_after_giving_up_is_ignored() -> None:
    d = called(call("F1", "c1"))
    d.on(ev.ToolAnswered("c1", "ok", "{}"))
    assert d.on(ev.ToolAnswered("c1", "ok", "{}")) == (ef.Ignored("late_tool_result"),)


def test_what_a_call_established_goes_with_the_next_one() -> None:
    d = called(call("F1", "c1"))
    d.on(ev.ToolAnswered("c1", "ok", "{}", grants=("verified:7",)), ev.OutputItemDone("R1", call("F2", "c2")))
    (request,) = d.only(ef.RequestTool)
    assert request.grants == ("verified:7",)  # type: ignore[union-attr]


def test_what_is_established_again_is_the_newest() -> None:
    d = called(call("F1", "c1"), call("F2", "c2"))
    d.on(ev.ToolAnswered("c1", "ok", "{}", grants=("verified:patient-1", "verified:patient-2")))
    d.on(ev.ToolAnswered("c2", "ok", "{}", grants=("verified:patient-1",)))
    d.on(ev.OutputItemDone("R1", call("F3", "c3")))
    assert d.only(ef.RequestTool)[-1].grants == ("verified:patient-2", "verified:patient-1")  # type: ignore[union-attr]


def test_a_runaway_model_is_told_to_speak_and_then_gets_no_more_tools() -> None:
    d = Driver(limits=Limits(idle_hangup_ms=None, tool_rounds_max=3)).start()
    d.say("U1")
    create: str | None = None
    for n in range(3):
        d.on(ev.ResponseStarted(f"R{n}", create), ev.OutputItemDone(f"R{n}", call(f"F{n}", f"c{n}")))
        d.on(ev.ResponseEnded(f"R{n}", "completed"), ev.ToolAnswered(f"c{n}", "ok", "{}"))
        (asked,) = d.only(ef.CreateResponse)
        create = asked.create_id  # type: ignore[union-attr]
    assert asked.may_call_tools is False  # type: ignore[union-attr]
    d.on(ev.ResponseStarted("R9", create), ev.OutputItemDone("R9", call("F9", "c9")))
    assert not d.only(ef.RequestTool)
    assert "too_many_rounds" in d.only(ef.AddToolOutput)[0].output  # type: ignore[union-attr]


def test_calls_beyond_the_sessions_number_are_refused() -> None:
    d = called(
        *(call(f"F{n}", f"c{n}") for n in range(3)), limits=Limits(idle_hangup_ms=None, tool_calls_max=2)
    )
    assert [r.call_id for r in d.only(ef.RequestTool)] == ["c0", "c1"]  # type: ignore[union-attr]
    assert "too_many_calls" in d.only(ef.AddToolOutput)[0].output  # type: ignore[union-attr]


def test_a_result_too_large_for_upstream_is_cut_and_says_so() -> None:
    d = called(call("F1", "c1"), limits=Limits(idle_hangup_ms=None, tool_output_chars_max=500))
    d.on(ev.ToolAnswered("c1", "ok", "x" * 9_000))
    (output,) = d.only(ef.AddToolOutput)
    assert len(output.output) == 500  # type: ignore[union-attr]
    assert output.output.endswith("(the rest of this result was left out: it was too long)")  # type: ignore[union-attr]


def test_a_used_tool_decides_what_the_session_came_to() -> None:
    d = called(call("F1", "c1", "save"))
    d.on(ev.ToolAnswered("c1", "ok", "{}"), ev.CallerHungUp())
    (end,) = d.only(ef.EndSession)
    assert (end.outcome, end.tool_calls) == ("lead", 1)  # type: ignore[union-attr]
