"""The floor: who speaks, and how the caller takes it from the agent.

Barge-in: raise the epoch, flush the client, ask what was heard, and only then truncate. New audio does not
wait for the answer.

Law: only a flush that was sent is answered; a late or second answer changes nothing.
"""

from __future__ import annotations

from parley_session.core import history, meter, playout, responses
from parley_session.core.copying import replace
from parley_session.core.effects import BeginItem, Effect, FlushPlayout, Ignored
from parley_session.core.events import FlushAnswered
from parley_session.core.state import Agent, Caller, HistoryItem, Idle, SessionState, Silent, Yielding

Change = tuple[SessionState, list[Effect]]


def take_floor(state: SessionState, now_ms: int, *, caller_item_id: str | None) -> Change:
    """Give the caller the floor: flush what the client still holds, stop what upstream still makes.

    ``caller_item_id`` is null when the caller typed.
    """
    was_audible = playout.is_audible(state.playout)
    speaking = caller_item_id or speaking_item(state)
    effects: list[Effect] = []
    if was_audible:
        state = playout.raise_epoch(meter.interrupt_turn(state))
        effects.append(FlushPlayout(state.playout.epoch))
    cancels_itself = caller_item_id is not None and state.config.turn_taking.upstream_answers
    state, cancelled = responses.yield_floor(state, by_vad=cancels_itself)
    effects += cancelled
    floor: Caller | Silent | Yielding
    if was_audible:
        deadline_ms = now_ms + state.config.turn_taking.flush_answer_ms
        floor = Yielding(deadline_ms, state.playout.epoch, speaking)
    elif isinstance(state.floor, Yielding):
        floor = replace(state.floor, caller_item_id=speaking)  # the first flush is still to be answered
    else:
        floor = Caller(speaking) if speaking else Silent()
    return replace(state, floor=floor), effects


def speaking_item(state: SessionState) -> str | None:
    """Return the item that the caller is speaking, also while they type; null when they are quiet."""
    match state.floor:
        case Caller(item_id=item):
            return item
        case Yielding(caller_item_id=item):
            return item
        case Agent(aside=aside):
            return aside
        case _:
            return None


def after_speech(state: SessionState) -> SessionState:
    """Take the floor back from a caller who has fallen silent."""
    floor = state.floor
    if isinstance(floor, Yielding):
        floor = replace(floor, caller_item_id=None)
    elif isinstance(floor, Agent):
        floor = Agent()
    elif isinstance(floor, Caller):
        floor = Silent()
    return replace(state, floor=floor)


def begin_caller_item(
    state: SessionState, item_id: str, *, after: str | None = None, starts_ms: int | None = None
) -> Change:
    """Announce a caller item that is not known yet."""
    if history.find(state, item_id) is not None:
        return state, []
    state, number = playout.take_number(state)
    state = history.put(state, HistoryItem(item_id, "user", number, audio_start_ms=starts_ms), after)
    return state, [BeginItem(number, "user", state.playout.epoch)]


# -- the flush and its answer ---------------------------------------------------------------------


def on_flush_answered(state: SessionState, event: FlushAnswered) -> Change:
    """The client told what was heard before it fell silent."""
    floor = state.floor
    if not isinstance(floor, Yielding) or event.epoch != floor.flush_epoch:
        return state, [Ignored("late_flush_answer")]
    return _settle(state, floor, (event.number, event.played))


def on_flush_deadline(state: SessionState, now_ms: int) -> Change:
    """The client did not answer the flush in time: its last report counts."""
    floor = state.floor
    if isinstance(floor, Yielding) and now_ms >= floor.deadline_ms:
        return _settle(state, floor, None)
    return state, []


def settle_open_flush(state: SessionState) -> Change:
    """Do not wait for the client's answer any longer: its last report counts."""
    return _settle(state, state.floor, None) if isinstance(state.floor, Yielding) else (state, [])


def settle_before_flush(state: SessionState) -> Change:
    """Before a second flush: what is still open of the first is decided by the last report."""
    return settle_open_flush(state) if playout.is_audible(state.playout) else (state, [])


def _settle(state: SessionState, floor: Yielding, answer: tuple[int, int] | None) -> Change:
    state, effects = playout.settle(state, floor.flush_epoch, answer)
    state, recorded = meter.record_closing(state)
    after = Caller(floor.caller_item_id) if floor.caller_item_id else Silent()
    return replace(state, floor=after), [*effects, *recorded]


# -- what the client still plays ------------------------------------------------------------------


def follow_playout(state: SessionState, now_ms: int) -> SessionState:
    """Keep the floor true to what the client still plays."""
    audible = playout.is_audible(state.playout)
    floor = state.floor
    if isinstance(floor, Silent) and audible:
        return replace(state, floor=Agent())
    if isinstance(floor, Agent) and not audible:
        after = Caller(floor.aside) if floor.aside else Silent()
        return replace(state, floor=after, last_activity_ms=max(state.last_activity_ms, now_ms))
    return state


def on_silence_deadline(state: SessionState, now_ms: int) -> SessionState:
    """A client that stopped reporting: when its audio must be over, it is."""
    due_ms = playout_deadline_ms(state)
    return playout.give_up_waiting(state) if due_ms is not None and now_ms >= due_ms else state


def playout_deadline_ms(state: SessionState) -> int | None:
    """When a client that reports nothing is thought to have played everything; null while upstream still makes audio."""
    held = state.playout.paused_ms is not None
    if held or not playout.is_audible(state.playout) or not isinstance(state.response, Idle):
        return None
    return state.playout.playing_until_ms + state.config.turn_taking.playout_grace_ms
