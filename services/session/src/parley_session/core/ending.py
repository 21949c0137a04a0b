"""How a session ends: recorded once, whatever ended it; and the apology that a failed one still owes.

Law: one EndSession, after everything else of the session was recorded; nothing follows it.
"""

from __future__ import annotations

from parley_session.core import meter, playout
from parley_session.core.config import SAMPLES_PER_MS, EndReason
from parley_session.core.copying import replace
from parley_session.core.effects import (
    DeleteItem,
    Effect,
    EndSession,
    RecordToolUse,
    ShowError,
    TruncateItem,
)
from parley_session.core.state import Farewell, SessionState, local_audio

Change = tuple[SessionState, list[Effect]]

FAREWELL_GRACE_MS = 1_500
"""How long after an apology must have been played its client's report is awaited."""

_ENDED_WORDS: dict[EndReason, str] = {
    "lost": "The connection was lost.",
    "failed": "The agent is not available. Please try again later.",
    "limit": "This session has reached its limit.",
    "idle": "Nothing was said for a while, so the session was ended.",
    "operator": "This session was ended by the service.",
}


def fail(state: SessionState, code: str, now_ms: int) -> Change:
    """Upstream cannot go on: say so aloud where an apology was rendered, then end as failed with ``code``."""
    if state.farewell is not None:
        return state, []
    apology = local_audio(state, "apology")
    if apology is None or not state.was_welcomed:
        return end(state, "failed", code, now_ms)
    waits_ms = max(0, state.playout.playing_until_ms - now_ms)
    state, effects = playout.play_local(state, apology, now_ms)
    deadline_ms = now_ms + waits_ms + apology.samples // SAMPLES_PER_MS + FAREWELL_GRACE_MS
    return replace(state, farewell=Farewell(code, deadline_ms), creates=(), calls=()), effects


def keep_farewell(state: SessionState, now_ms: int) -> Change:
    """End a session that has apologised once that was heard, or its time is over."""
    farewell = state.farewell
    if farewell is None or (playout.is_audible(state.playout) and now_ms < farewell.deadline_ms):
        return state, []
    return end(state, "failed", farewell.code, now_ms)


def end(state: SessionState, reason: EndReason, code: str | None, now_ms: int) -> Change:
    """End the session, once: turns, calls and the end are recorded, the client is told why."""
    if state.is_over:
        return state, []
    state, effects = _settle_all(state)
    effects += [
        RecordToolUse(
            call.call_id,
            call.target.service,
            call.target.tool,
            "cancelled",
            None,
            call.attempt,
            max(0, now_ms - call.started_ms),
        )
        for call in state.calls
    ]
    if reason in _ENDED_WORDS and (code or reason in {"limit", "idle", "operator"}):
        effects.append(ShowError(code or reason, _ENDED_WORDS[reason], fatal=True))
    totals = state.totals
    effects.append(
        EndSession(
            reason=reason,
            code=code,
            duration_ms=max(0, now_ms - state.started_ms),
            turns=totals.turns,
            barge_ins=totals.barge_ins,
            tool_calls=totals.tool_calls,
            usage=totals.usage,
            cost_usd=meter.known_cost_usd(state, totals.cost_usd),
            local_ms=totals.local_ms,
            reconnects=totals.reconnects,
            outcome=state.outcome,
        )
    )
    return replace(state, is_over=True, calls=(), creates=(), farewell=None), effects


def _settle_all(state: SessionState) -> Change:
    """Decide what was heard and record the turns; upstream is not told any more."""
    state, settled = playout.settle(state, state.playout.epoch + 1, None)
    effects: list[Effect] = [e for e in settled if not isinstance(e, (TruncateItem, DeleteItem))]
    state, closed = meter.record_closing(state)
    state, recorded = meter.record_turn(state, barged_in=False)
    return state, [*effects, *closed, *recorded]
