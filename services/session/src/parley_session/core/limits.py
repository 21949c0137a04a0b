"""Limits: silence, the longest time, tokens and money. Decides when the agent asks, wraps up, and is ended.

Law: a soft limit is told to the agent once; a hard one ends the session with its own code.
"""

from __future__ import annotations

from parley_session.core import ending, playout, responses
from parley_session.core.copying import replace
from parley_session.core.effects import AddSystemText, Effect, ShowNotice
from parley_session.core.state import Idle, Ready, SessionState, Silent

Change = tuple[SessionState, list[Effect]]

NUDGE = (
    "The caller has said nothing for a while. Ask in one short sentence whether they are still there. "
    "Do not call a tool."
)
WRAP_UP = (
    "This session is about to reach its limit. Tell the caller so in a few words, finish what matters most, "
    "and say goodbye."
)


def caller_active(state: SessionState, now_ms: int) -> SessionState:
    """The caller did something: silence begins anew."""
    return replace(state, last_activity_ms=now_ms, idle_base_ms=None)


# -- silence --------------------------------------------------------------------------------------


def _quiet_since_ms(state: SessionState) -> int | None:
    """Since when nothing happens; null while someone speaks or something is under way."""
    busy = (
        state.calls
        or state.creates
        or state.talk_began_ms is not None
        or not isinstance(state.response, Idle)
        or not isinstance(state.floor, Silent)
    )
    return None if busy else max(state.last_activity_ms, state.playout.playing_until_ms)


def nudge_deadline_ms(state: SessionState) -> int | None:
    """When the agent asks whether the caller is still there; null while it may not, and once it has."""
    after_ms, quiet_ms = state.config.limits.idle_nudge_ms, _quiet_since_ms(state)
    if after_ms is None or quiet_ms is None or state.idle_base_ms is not None:
        return None
    return quiet_ms + after_ms if isinstance(state.upstream, Ready) else None


def idle_deadline_ms(state: SessionState) -> int | None:
    """When the session ends for silence; null while someone speaks or something is under way."""
    limit_ms, quiet_ms = state.config.limits.idle_hangup_ms, _quiet_since_ms(state)
    if limit_ms is None or quiet_ms is None:
        return None
    return (state.idle_base_ms if state.idle_base_ms is not None else quiet_ms) + limit_ms


def nudge(state: SessionState) -> SessionState:
    """Ask whether the caller is still there; the silence goes on counting from where it began."""
    state = replace(state, idle_base_ms=_quiet_since_ms(state))
    return responses.want(state, "nudge", instructions=NUDGE, may_call_tools=False)


# -- time, tokens, money --------------------------------------------------------------------------


def session_deadline_ms(state: SessionState) -> int:
    """When the session ends for its length."""
    return state.started_ms + state.config.limits.session_max_ms


def wrap_up_deadline_ms(state: SessionState) -> int | None:
    """When the agent is told that the session's time is nearly over; null once it was told."""
    limits = state.config.limits
    if state.was_wrapped_up or not state.was_welcomed or limits.wrap_up_ms >= limits.session_max_ms:
        return None
    return session_deadline_ms(state) - limits.wrap_up_ms


def _spent_share(state: SessionState) -> float:
    """Return how much of the tighter budget is spent, 1.0 being all of it."""
    limits, totals = state.config.limits, state.totals
    shares = [0.0]
    if limits.tokens_max:
        shares.append(totals.usage.tokens / limits.tokens_max)
    if limits.usd_max:
        shares.append(totals.cost_usd / limits.usd_max)
    return max(shares)


def keep(state: SessionState, now_ms: int) -> Change:
    """Tell the agent once that a limit is near; end the session when its tokens or money are spent."""
    share = _spent_share(state)
    if share >= 1.0 and isinstance(state.response, Idle) and not playout.is_audible(state.playout):
        return ending.end(state, "limit", "budget_spent", now_ms)
    due_ms = wrap_up_deadline_ms(state)
    near = share >= state.config.limits.wrap_up_share or (due_ms is not None and now_ms >= due_ms)
    if not near or state.was_wrapped_up or not isinstance(state.upstream, Ready):
        return state, []
    item_id = f"parley_note_{state.next_create}"
    state = replace(state, was_wrapped_up=True, next_create=state.next_create + 1)
    return state, [
        AddSystemText(item_id, WRAP_UP),
        ShowNotice("wrap_up", "This session is about to reach its limit."),
    ]
