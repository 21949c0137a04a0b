"""The meter: turns, tokens, money. Knows what a response costs, when it is told the model's prices.

Law: cached tokens are part of the input tokens and are charged at their own price, never at both.
"""

from __future__ import annotations

from parley_session.core import history, playout
from parley_session.core.config import SAMPLES_PER_MS, Prices
from parley_session.core.copying import replace
from parley_session.core.effects import Effect, RecordTurn
from parley_session.core.state import Idle, LedgerItem, ResponseUsage, SessionState, Silent, Turn

Change = tuple[SessionState, list[Effect]]

PER_TOKEN = 1e-6
MS_PER_MINUTE = 60_000


def cost_usd(usage: ResponseUsage, prices: Prices | None) -> float:
    """Return what responses cost; 0 without prices. Source: realtime.md section 5."""
    if prices is None:
        return 0.0
    fresh = (
        (usage.input_text - usage.cached_text) * prices.input_text
        + (usage.input_audio - usage.cached_audio) * prices.input_audio
        + (usage.input_image - usage.cached_image) * prices.input_image
    )
    cached = (
        usage.cached_text * prices.cached_text
        + usage.cached_audio * prices.cached_audio
        + usage.cached_image * prices.cached_image
    )
    wrote = usage.output_text * prices.output_text + usage.output_audio * prices.output_audio
    return (fresh + cached + wrote) * PER_TOKEN


def on_usage(state: SessionState, usage: ResponseUsage | None) -> SessionState:
    """Count a response's tokens and money for its turn and for the session."""
    if usage is None:
        return state
    cost = cost_usd(usage, state.config.prices)
    totals = replace(state.totals, usage=state.totals.usage + usage, cost_usd=state.totals.cost_usd + cost)
    state = replace(state, totals=totals)
    turn = state.closing or state.turn
    if turn is None:
        return state
    charged = replace(turn, usage=turn.usage + usage, cost_usd=turn.cost_usd + cost)
    return replace(state, closing=charged) if state.closing else replace(state, turn=charged)


def on_transcribed(state: SessionState, billed_ms: int) -> SessionState:
    """Count what the transcription model charges for."""
    if not billed_ms:
        return state
    minute_usd = state.config.prices.transcription_minute if state.config.prices else 0.0
    totals = replace(
        state.totals,
        transcribed_ms=state.totals.transcribed_ms + billed_ms,
        cost_usd=state.totals.cost_usd + billed_ms / MS_PER_MINUTE * minute_usd,
    )
    return replace(state, totals=totals)


def known_cost_usd(state: SessionState, cost: float) -> float | None:
    """Return a cost as it is told to others: null when nobody knows what this model costs."""
    return round(cost, 6) if state.config.prices is not None else None


# -- turns ----------------------------------------------------------------------------------------


def begin_turn(
    state: SessionState, now_ms: int, *, caller_item_id: str, speech_ended_ms: int | None
) -> Change:
    """The caller has said something; an earlier turn that nothing more will come of is recorded first."""
    state, effects = record_turn(state, barged_in=False)
    totals = replace(state.totals, turns=state.totals.turns + 1, tool_rounds=0)
    turn = Turn(totals.turns, now_ms, caller_item_id, speech_ended_ms)
    return replace(state, totals=totals, turn=turn), effects


def forget_turn(state: SessionState) -> SessionState:
    """What the caller said was lost upstream and is said again: the turn has not happened yet."""
    if state.turn is None:
        return state
    totals = replace(state.totals, turns=state.totals.turns - 1)
    return replace(state, totals=totals, turn=None)


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
    return RecordTurn(
        turn=turn.number,
        mode=state.mode,
        barged_in=barged_in,
        lasted_ms=max(0, state.last_activity_ms - turn.started_ms),
        heard_ms=sum(e.played for e in said) // SAMPLES_PER_MS,
        spoken_ms=sum(e.sent for e in said) // SAMPLES_PER_MS,
        voice_to_voice_ms=_between(turn.speech_ended_ms, turn.first_audio_ms),
        turn_detection_ms=_between(turn.speech_ended_ms, turn.started_ms),
        response_ms=_between(turn.started_ms, turn.response_ms),
        first_audio_ms=_between(turn.response_ms, turn.first_audio_ms),
        tool_calls=turn.tool_calls,
        usage=turn.usage,
        cost_usd=known_cost_usd(state, turn.cost_usd),
        caller_text=(caller.text or "") if caller else "",
        agent_heard_text=" ".join(filter(None, map(_heard, said))),
    )


def _between(from_ms: int | None, to_ms: int | None) -> int | None:
    return None if from_ms is None or to_ms is None else max(0, to_ms - from_ms)


def _heard(entry: LedgerItem) -> str:
    return entry.words if entry.sent == 0 and not entry.unheard else history.heard_words(entry)
