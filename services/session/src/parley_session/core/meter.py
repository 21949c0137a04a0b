"""The meter: turns, tokens, idle time and limits; and the one way a session ends.

Does not know prices: the shell puts a cost on usage.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from parley_session.core import history, playout
from parley_session.core.effects import Effect, EndSession, RecordToolUse, RecordTurn, ShowError
from parley_session.core.state import (
    SAMPLES_PER_MS,
    Idle,
    LedgerItem,
    ResponseUsage,
    SessionState,
    Silent,
    Turn,
)

Change = tuple[SessionState, list[Effect]]
EndReason = Literal["caller", "agent", "idle", "limit", "lost", "failed", "drained"]

AUTO_RESPONSE_MS = 1_500
"""How long after a commit upstream's own response may take to start; recorded ones take under 0.1 s."""

_ENDED_WORDS = {
    "lost": "The connection was lost.",
    "failed": "The agent is not available. Please try again later.",
    "limit": "This session has reached its longest time.",
    "idle": "Nothing was said for a while, so the session was ended.",
}


def on_usage(state: SessionState, usage: ResponseUsage | None) -> SessionState:
    """Count a response's tokens for its turn and for the session."""
    if usage is None:
        return state
    totals = replace(state.totals, usage=state.totals.usage + usage)
    if state.closing is not None:
        return replace(
            state, totals=totals, closing=replace(state.closing, usage=state.closing.usage + usage)
        )
    if state.turn is not None:
        return replace(state, totals=totals, turn=replace(state.turn, usage=state.turn.usage + usage))
    return replace(state, totals=totals)


def begin_turn(
    state: SessionState, now_ms: int, *, caller_item_id: str, speech_ended_ms: int | None
) -> Change:
    """The caller has said something; an earlier turn that nothing more will come of is recorded first."""
    state, effects = record_turn(state, barged_in=False)
    totals = replace(state.totals, turns=state.totals.turns + 1, tool_rounds=0)
    turn = Turn(totals.turns, now_ms, caller_item_id, speech_ended_ms)
    return replace(state, totals=totals, turn=turn), effects


def interrupt_turn(state: SessionState) -> SessionState:
    """The agent was barged in upon: its turn waits for what was heard of it."""
    totals = replace(state.totals, barge_ins=state.totals.barge_ins + 1)
    return replace(state, totals=totals, closing=state.turn, turn=None)


def record_closing(state: SessionState) -> Change:
    """What was heard is settled: record the turn that was barged in upon."""
    if state.closing is None:
        return state, []
    turn, state = state.closing, replace(state, closing=None)
    return state, [_turn_fact(state, turn, barged_in=True)]


def record_turn(state: SessionState, *, barged_in: bool) -> Change:
    """Record the turn under way, if there is one."""
    if state.turn is None:
        return state, []
    turn, state = state.turn, replace(state, turn=None)
    return state, [_turn_fact(state, turn, barged_in=barged_in)]


def close_turn_when_over(state: SessionState) -> Change:
    """Record the turn once it is answered, played, and nothing more is under way."""
    turn = state.turn
    busy = (
        turn is None
        or not turn.answered
        or state.calls
        or state.creates
        or not isinstance(state.response, Idle)
        or not isinstance(state.floor, Silent)
    )
    return (state, []) if busy else record_turn(state, barged_in=False)


def _turn_fact(state: SessionState, turn: Turn, *, barged_in: bool) -> RecordTurn:
    said = playout.entries_of_turn(state.playout, turn.number)
    caller = history.find(state, turn.caller_item_id) if turn.caller_item_id else None
    latency_ms = None
    if turn.speech_ended_ms is not None and turn.first_audio_ms is not None:
        latency_ms = max(0, turn.first_audio_ms - turn.speech_ended_ms)
    return RecordTurn(
        turn=turn.number,
        mode=state.mode,
        barged_in=barged_in,
        lasted_ms=max(0, state.last_activity_ms - turn.started_ms),
        heard_ms=sum(e.played for e in said) // SAMPLES_PER_MS,
        spoken_ms=sum(e.sent for e in said) // SAMPLES_PER_MS,
        voice_to_voice_ms=latency_ms,
        tool_calls=turn.tool_calls,
        usage=turn.usage,
        caller_text=(caller.text or "") if caller else "",
        agent_heard_text=" ".join(filter(None, map(_heard, said))),
    )


def _heard(entry: LedgerItem) -> str:
    return entry.words if entry.sent == 0 and not entry.unheard else history.heard_words(entry)


def idle_deadline_ms(state: SessionState) -> int | None:
    """When the session ends for silence; null while someone speaks or something is under way."""
    limit_ms = state.config.limits.idle_hangup_ms
    busy = state.calls or not isinstance(state.response, Idle) or not isinstance(state.floor, Silent)
    if limit_ms is None or busy:
        return None
    return max(state.last_activity_ms, state.playout.playing_until_ms) + limit_ms


def connect_deadline_ms(state: SessionState) -> int:
    """When a session that upstream has not accepted is given up."""
    return state.started_ms + state.config.limits.connect_ms


def session_deadline_ms(state: SessionState) -> int:
    """When the session ends for its length."""
    return state.started_ms + state.config.limits.session_max_ms


def end(state: SessionState, reason: EndReason, code: str | None = None, now_ms: int | None = None) -> Change:
    """End the session, once: turns, calls and the end are recorded, the client is told why."""
    if state.is_over:
        return state, []
    effects: list[Effect] = []
    state, settled = playout.settle(state, state.playout.epoch + 1, None)
    effects += [e for e in settled if not _is_for_upstream(e)]
    for turn_over in (record_closing, lambda s: record_turn(s, barged_in=False)):
        state, more = turn_over(state)
        effects += more
    ended_ms = now_ms if now_ms is not None else state.last_activity_ms
    for call in state.calls:
        lasted_ms = max(0, ended_ms - call.started_ms)
        effects.append(
            RecordToolUse(
                call.call_id,
                call.target.service,
                call.target.tool,
                "cancelled",
                None,
                call.attempt,
                lasted_ms,
            )
        )
    if reason in _ENDED_WORDS and (code or reason in {"limit", "idle"}):
        effects.append(ShowError(code or reason, _ENDED_WORDS[reason], fatal=True))
    totals = state.totals
    effects.append(
        EndSession(
            reason=reason,
            code=code,
            duration_ms=max(0, ended_ms - state.started_ms),
            turns=totals.turns,
            barge_ins=totals.barge_ins,
            tool_calls=totals.tool_calls,
            usage=totals.usage,
            outcome=state.outcome,
        )
    )
    return replace(state, is_over=True, calls=(), creates=()), effects


def _is_for_upstream(effect: Effect) -> bool:
    return type(effect).__name__ in {"TruncateItem", "DeleteItem"}
