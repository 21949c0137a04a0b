"""Tool calls: started when their item is complete, answered exactly once upstream, whatever happens between.

A call's deadline passes: it is asked again with the same id and the next attempt. No barge-in cancels a
call; a barge-in only decides whether our own response follows. Runaway models are told to stop.

Law: arguments of an incomplete item are never executed; every function_call gets one output.
"""

from __future__ import annotations

from typing import Literal

from parley_session.core import history, playout, responses
from parley_session.core.config import ToolTarget
from parley_session.core.copying import replace
from parley_session.core.effects import AddToolOutput, Effect, Ignored, RecordToolUse, RequestTool, ShowTool
from parley_session.core.events import OutputItemDone, ToolAnswered, ToolsSwitched, UpstreamItem
from parley_session.core.state import HistoryItem, Idle, PendingCall, SessionState, Silent, local_audio

Change = tuple[SessionState, list[Effect]]
Outcome = Literal["ok", "refused", "failed", "unknown_outcome", "expired"]

TIMED_OUT = (
    '{"error": {"code": "tool_timed_out", '
    '"message": "The tool did not answer. Apologise, and offer to go on without it."}}'
)
UNKNOWN = (
    '{"status": "unknown_outcome", "error": {"code": "unknown_outcome", "message": "It is not known whether this '
    'was done. Say so, do not try it again, and offer that a person will check."}}'
)
FILLER = "filler"
CUT_NOTE = " ... (the rest of this result was left out: it was too long)"


def on_call(state: SessionState, event: OutputItemDone, now_ms: int) -> Change:
    """A function_call item ended: run it when it is complete, answer it with an error when it cannot be run."""
    item = event.item
    if any(call.call_id == item.call_id for call in state.calls) or history.find(state, item.id):
        return state, [Ignored("repeated_call")]
    called = HistoryItem(
        item.id,
        "tool_call",
        text=item.name,
        final=True,
        call_id=item.call_id,
        arguments=item.arguments if item.status == "completed" else "{}",
    )
    state = history.put(state, called)
    state = _count(state)
    refusal = _refusal(state, item)
    if refusal is not None:
        return _answer_unrun(state, item, *refusal)
    target = _target(state, item.name)
    assert target is not None  # noqa: S101 - _refusal has answered unknown tools
    call = PendingCall(
        item.call_id, event.response_id, target, item.arguments, 1, now_ms, now_ms + target.deadline_ms
    )
    state = replace(state, calls=(*state.calls, call), last_activity_ms=now_ms)
    return state, [_request(state, call), ShowTool(target.tool, "begins", call.call_id)]


def _count(state: SessionState) -> SessionState:
    totals = replace(state.totals, tool_calls=state.totals.tool_calls + 1)
    turn = replace(state.turn, tool_calls=state.turn.tool_calls + 1) if state.turn else None
    return replace(state, totals=totals, turn=turn)


def _refusal(state: SessionState, item: UpstreamItem) -> tuple[str, str] | None:
    """Return (code, sentence) for a call that will not be run; null for one that will."""
    limits = state.config.limits
    if item.status != "completed":
        return "not_executed", "This call was cut off before it was complete. It was not executed."
    if _target(state, item.name) is None:
        return "unknown_tool", f"There is no tool named {item.name[:64]}. Answer without it."
    if item.name in state.switched_off:
        return "switched_off", "This tool is switched off for now. Say that it cannot be done at the moment."
    if state.totals.tool_calls > limits.tool_calls_max:
        return "too_many_calls", "This session has used all its tool calls. Answer without tools."
    if state.totals.tool_rounds >= limits.tool_rounds_max:
        return "too_many_rounds", "Too many tool calls in a row. Speak to the caller before calling another."
    return None


def _target(state: SessionState, model_name: str) -> ToolTarget | None:
    return next((tool for tool in state.config.tools if tool.model_name == model_name), None)


def _request(state: SessionState, call: PendingCall) -> RequestTool:
    target = call.target
    return RequestTool(
        call.call_id,
        call.attempt,
        target.service,
        target.tool,
        call.arguments,
        target.deadline_ms,
        state.grants,
    )


def _answer_unrun(state: SessionState, item: UpstreamItem, code: str, sentence: str) -> Change:
    output = f'{{"error": {{"code": "{code}", "message": "{sentence}"}}}}'
    state, output_id, added = _add_output(state, item.call_id, output)
    if code != "not_executed":  # a call that was cut off belongs to a response that the caller ended
        state = _follow_up(state, output_id, may_call_tools=code != "too_many_rounds")
    service = (target.service if (target := _target(state, item.name)) else "") or "unknown"
    used = RecordToolUse(item.call_id, service, item.name[:64], "refused", code, 0, 0)
    return state, [*added, used]


def on_switched(state: SessionState, event: ToolsSwitched) -> Change:
    """An operator switched tools off or on; calls under way are not touched."""
    return replace(state, switched_off=event.off), []


def on_answer(state: SessionState, event: ToolAnswered, now_ms: int) -> Change:
    """A tool answered: give the model its output, and one response once the whole batch is answered."""
    call = next((c for c in state.calls if c.call_id == event.call_id), None)
    if call is None:
        return state, [Ignored("late_tool_result")]
    # Whoever was verified last is who tools mean, also when it is somebody from before again: so newest last.
    before = tuple(grant for grant in state.grants if grant not in event.grants)
    state = replace(state, grants=(*before, *dict.fromkeys(event.grants)))
    if event.status == "ok" and call.target.outcome != "none":
        state = replace(state, outcome=call.target.outcome)
    return _finish(state, call, event.status, event.output, event.code, now_ms)


def on_deadline(state: SessionState, now_ms: int) -> Change:
    """Ask again for calls whose attempt is over; give up on those that had all of theirs."""
    effects: list[Effect] = []
    for call in state.calls:
        if now_ms < call.attempt_deadline_ms:
            continue
        if call.attempt < state.config.limits.tool_attempts_max:
            again = replace(
                call, attempt=call.attempt + 1, attempt_deadline_ms=now_ms + call.target.deadline_ms
            )
            state = replace(state, calls=tuple(again if c is call else c for c in state.calls))
            effects.append(_request(state, again))
            continue
        state, more = _give_up(state, call, now_ms)
        effects += more
    return state, effects


def _give_up(state: SessionState, call: PendingCall, now_ms: int) -> Change:
    """No attempt was answered. What cannot be undone may have happened all the same: the model is told so."""
    if call.target.tool_class == "irreversible":
        return _finish(state, call, "unknown_outcome", UNKNOWN, "tool_timed_out", now_ms)
    return _finish(state, call, "expired", TIMED_OUT, "tool_timed_out", now_ms)


def filler_deadline_ms(state: SessionState) -> int | None:
    """When the agent says that it is looking; null while it speaks, may not, or has said so for this batch."""
    after_ms = state.config.limits.filler_after_ms
    quiet = isinstance(state.floor, Silent) and isinstance(state.response, Idle)
    waiting = not state.calls or any(call.filled for call in state.calls)
    if after_ms is None or waiting or not quiet or local_audio(state, FILLER) is None:
        return None
    return min(call.started_ms for call in state.calls) + after_ms


def on_filler_deadline(state: SessionState, now_ms: int) -> Change:
    """Tools take long and nobody speaks: the agent says that it is looking."""
    due_ms, audio = filler_deadline_ms(state), local_audio(state, FILLER)
    if due_ms is None or now_ms < due_ms or audio is None:
        return state, []
    state = replace(state, calls=tuple(replace(call, filled=True) for call in state.calls))
    return playout.play_local(state, audio, now_ms)


def _finish(
    state: SessionState, call: PendingCall, outcome: Outcome, output: str, code: str | None, now_ms: int
) -> Change:
    state = replace(state, calls=tuple(c for c in state.calls if c is not call), last_activity_ms=now_ms)
    state, output_id, added = _add_output(state, call.call_id, output)
    if not any(c.response_id == call.response_id for c in state.calls):
        totals = replace(state.totals, tool_rounds=state.totals.tool_rounds + 1)
        may_call_tools = totals.tool_rounds < state.config.limits.tool_rounds_max
        state = _follow_up(replace(state, totals=totals), output_id, may_call_tools=may_call_tools)
    target = call.target
    lasted_ms = max(0, now_ms - call.started_ms)
    used = RecordToolUse(call.call_id, target.service, target.tool, outcome, code, call.attempt, lasted_ms)
    return state, [*added, ShowTool(target.tool, "ends", call.call_id, outcome), used]


def _add_output(state: SessionState, call_id: str, output: str) -> tuple[SessionState, str, list[Effect]]:
    limit = state.config.limits.tool_output_chars_max
    if len(output) > limit:
        output = output[: limit - len(CUT_NOTE)] + CUT_NOTE
    item_id = f"parley_output_{state.next_create}"
    state = replace(state, next_create=state.next_create + 1)
    answered = HistoryItem(item_id, "tool_output", text=output, final=True, call_id=call_id)
    state = history.put(state, answered)
    return state, item_id, responses.if_ready(state, AddToolOutput(item_id, call_id, output))


def _follow_up(state: SessionState, output_id: str, *, may_call_tools: bool) -> SessionState:
    return responses.want(state, "answer", unseen=frozenset({output_id}), may_call_tools=may_call_tools)
