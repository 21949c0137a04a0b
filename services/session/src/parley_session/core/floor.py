"""The floor: who speaks, and what happens when the caller takes it from the agent.

Barge-in, instant: raise the epoch, flush the client, ask what was heard, and only then truncate. New audio
does not wait for the answer. Typed text while the agent speaks is a barge-in too.

Law: only a flush that was sent is answered; a late or second answer changes nothing.
"""

from __future__ import annotations

from dataclasses import replace

from parley_session.core import history, meter, playout, responses
from parley_session.core.effects import (
    AddCallerText,
    BeginItem,
    Effect,
    EndItem,
    FlushPlayout,
    Ignored,
    ShowTranscript,
)
from parley_session.core.events import (
    CallerAudioCommitted,
    CallerSpeechStarted,
    CallerTranscriptArrived,
    CallerTranscriptEnded,
    CallerTranscriptFailed,
    CallerTyped,
    FlushAnswered,
)
from parley_session.core.state import (
    Agent,
    Caller,
    HistoryItem,
    Idle,
    SessionState,
    Silent,
    Yielding,
)

Change = tuple[SessionState, list[Effect]]


def on_speech_started(state: SessionState, event: CallerSpeechStarted, now_ms: int) -> Change:
    """The caller speaks. If the agent holds the floor, this is a barge-in."""
    state, effects = _settle_now(state)
    state = replace(state, last_activity_ms=now_ms, auto_response_due_ms=None)
    state, yielded = take_floor(state, now_ms, caller_item_id=event.item_id)
    state, begin = _begin_caller_item(state, event.item_id)
    return state, [*effects, *yielded, *begin]


def take_floor(state: SessionState, now_ms: int, *, caller_item_id: str | None) -> Change:
    """Give the caller the floor: flush what the client still holds, stop what upstream still makes.

    ``caller_item_id`` is null when the caller typed.
    """
    was_audible = playout.is_audible(state.playout)
    speaking = caller_item_id or _speaking(state)
    effects: list[Effect] = []
    if was_audible:
        state = playout.raise_epoch(meter.interrupt_turn(state))
        effects.append(FlushPlayout(state.playout.epoch))
    state, cancelled = responses.yield_floor(state, by_vad=caller_item_id is not None)
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


def _speaking(state: SessionState) -> str | None:
    """Return the item that the caller is speaking, also while they type; null when they are quiet."""
    floor = state.floor
    if isinstance(floor, Caller):
        return floor.item_id
    return floor.caller_item_id if isinstance(floor, Yielding) else None


def on_flush_answered(state: SessionState, event: FlushAnswered) -> Change:
    """The client told what was heard before it fell silent."""
    floor = state.floor
    if not isinstance(floor, Yielding) or event.epoch != floor.flush_epoch:
        return state, [Ignored("late_flush_answer")]
    return _settle(state, floor, (event.number, event.played))


def on_deadline(state: SessionState, now_ms: int) -> Change:
    """The client did not answer the flush in time: its last report counts."""
    floor = state.floor
    if isinstance(floor, Yielding) and now_ms >= floor.deadline_ms:
        return _settle(state, floor, None)
    return state, []


def _settle_now(state: SessionState) -> Change:
    """Before a second flush: what is still open of the first is decided by the last report."""
    if isinstance(state.floor, Yielding) and playout.is_audible(state.playout):
        return _settle(state, state.floor, None)
    return state, []


def _settle(state: SessionState, floor: Yielding, answer: tuple[int, int] | None) -> Change:
    state, effects = playout.settle(state, floor.flush_epoch, answer)
    state, recorded = meter.record_closing(state)
    after = Caller(floor.caller_item_id) if floor.caller_item_id else Silent()
    return replace(state, floor=after), [*effects, *recorded]


def on_speech_stopped(state: SessionState, now_ms: int) -> Change:
    """The caller paused long enough; what follows is upstream's commit and its own response."""
    due_ms = now_ms + meter.AUTO_RESPONSE_MS
    floor = state.floor
    if isinstance(floor, Yielding):
        floor = replace(floor, caller_item_id=None)
    elif isinstance(floor, Caller):
        floor = Silent()
    return replace(state, floor=floor, last_activity_ms=now_ms, auto_response_due_ms=due_ms), []


def on_committed(state: SessionState, event: CallerAudioCommitted, now_ms: int) -> Change:
    """What the caller said is an item now: a new turn."""
    state, begin = _begin_caller_item(state, event.item_id, after=event.previous_item_id)
    spoke_until_ms = now_ms - state.config.turn_taking.silence_ms
    state, recorded = meter.begin_turn(
        state, now_ms, caller_item_id=event.item_id, speech_ended_ms=spoke_until_ms
    )
    known = history.find(state, event.item_id)
    end = [EndItem(known.number, "user", state.playout.epoch, None)] if known else []
    state = replace(state, last_activity_ms=now_ms, auto_response_due_ms=now_ms + meter.AUTO_RESPONSE_MS)
    return state, [*begin, *recorded, *end]


def on_typed(state: SessionState, event: CallerTyped, now_ms: int) -> Change:
    """The caller typed: it takes the floor like speech does, and is answered at once."""
    state, effects = _settle_now(state)
    state, yielded = take_floor(state, now_ms, caller_item_id=None)
    item_id = f"parley_text_{state.next_create}"
    state = replace(state, next_create=state.next_create + 1, last_activity_ms=now_ms)
    state, number = playout.take_number(state)
    state = history.put(state, HistoryItem(item_id, "user", number, event.text, final=True))
    state, recorded = meter.begin_turn(state, now_ms, caller_item_id=item_id, speech_ended_ms=None)
    state = responses.want(state, "answer", unseen=frozenset({item_id}))
    epoch = state.playout.epoch
    return state, [
        *effects,
        *yielded,
        *recorded,
        BeginItem(number, "user", epoch),
        ShowTranscript(number, "user", event.text, final=True),
        EndItem(number, "user", epoch, None),
        AddCallerText(item_id, event.text),
    ]


def on_transcript(
    state: SessionState, event: CallerTranscriptArrived | CallerTranscriptEnded | CallerTranscriptFailed
) -> Change:
    """The caller's words; they come whenever they like, also after the turn they belong to."""
    state, effects = _begin_caller_item(state, event.item_id)
    item = history.find(state, event.item_id)
    if item is None or item.final:
        return state, [Ignored("late_transcript")]
    if isinstance(event, CallerTranscriptArrived):
        item = replace(item, text=((item.text or "") + event.delta).lstrip())
    elif isinstance(event, CallerTranscriptEnded):
        item = replace(item, text=event.text.strip(), final=True)
    else:
        item = replace(item, text=None, final=True)
    shown = ShowTranscript(item.number, "user", item.text or "", item.final)
    return history.put(state, item), [*effects, shown]


def _begin_caller_item(state: SessionState, item_id: str, after: str | None = None) -> Change:
    if history.find(state, item_id) is not None:
        return state, []
    state, number = playout.take_number(state)
    state = history.put(state, HistoryItem(item_id, "user", number), after)
    return state, [BeginItem(number, "user", state.playout.epoch)]


def follow_playout(state: SessionState, now_ms: int) -> SessionState:
    """Keep the floor true to what the client still plays."""
    audible = playout.is_audible(state.playout)
    if isinstance(state.floor, Silent) and audible:
        return replace(state, floor=Agent())
    if isinstance(state.floor, Agent) and not audible:
        return replace(state, floor=Silent(), last_activity_ms=max(state.last_activity_ms, now_ms))
    return state


def on_silence_deadline(state: SessionState, now_ms: int) -> SessionState:
    """A client that stopped reporting: when its audio must be over, it is."""
    if playout_deadline_ms(state) is not None and now_ms >= (playout_deadline_ms(state) or 0):
        return playout.give_up_waiting(state)
    return state


def playout_deadline_ms(state: SessionState) -> int | None:
    """When a client that reports nothing is thought to have played everything; null while upstream still makes audio."""
    if not playout.is_audible(state.playout) or not isinstance(state.response, Idle):
        return None
    return state.playout.playing_until_ms + state.config.turn_taking.playout_grace_ms
