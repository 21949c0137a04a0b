"""What the caller does: speaks, is heard, types, presses the key; and the turn that it makes.

Instant barge-in is upstream's: its VAD interrupts and answers. Where a barge-in is to be confirmed
(``confirming.py``), is off, or turns are marked by a key, the core asks for each answer after the commit.

Law: everything the caller says becomes one turn, or is dismissed as a cough.
"""

from __future__ import annotations

from parley_session.core import confirming, floor, history, limits, meter, playout, responses
from parley_session.core.copying import replace
from parley_session.core.effects import (
    AddCallerText,
    BeginItem,
    ClearCallerAudio,
    CommitCallerAudio,
    DeleteItem,
    Effect,
    EndItem,
    Ignored,
    ShowTranscript,
)
from parley_session.core.events import (
    CallerAudioCommitted,
    CallerSpeechStarted,
    CallerSpeechStopped,
    CallerTalked,
    CallerTranscriptArrived,
    CallerTranscriptEnded,
    CallerTranscriptFailed,
    CallerTyped,
)
from parley_session.core.state import Agent, Caller, Confirming, HistoryItem, Idle, SessionState

Change = tuple[SessionState, list[Effect]]

AUTO_RESPONSE_MS = 1_500
"""How long after a commit upstream's own response may take to start; recorded ones take under 0.1 s."""
TALK_MIN_MS = 150
"""Upstream refuses to commit less than 100 ms (realtime.md 1.6)."""
TALK_ITEM = "parley_talk"
"""Stands for what is being said while the key is down: upstream names the item at the commit."""


def on_speech_started(state: SessionState, event: CallerSpeechStarted, now_ms: int) -> Change:
    """The caller speaks. If the agent holds the floor, this is a barge-in, or may be one."""
    barge_in = state.config.turn_taking.barge_in
    holds = isinstance(state.floor, Agent)
    if barge_in == "confirm" and (holds or isinstance(state.floor, Confirming)):
        return confirming.begin(state, event, now_ms)
    state = limits.caller_active(state, now_ms)
    if barge_in == "off":
        speaks = Agent(event.item_id) if holds else Caller(event.item_id)
        state = replace(state, floor=speaks)
        return floor.begin_caller_item(state, event.item_id, starts_ms=event.audio_start_ms)
    state, effects = floor.settle_before_flush(state)
    state = replace(state, auto_response_due_ms=None)
    state, yielded = floor.take_floor(state, now_ms, caller_item_id=event.item_id)
    state, begin = floor.begin_caller_item(state, event.item_id, starts_ms=event.audio_start_ms)
    return state, [*effects, *yielded, *begin]


def on_speech_stopped(state: SessionState, event: CallerSpeechStopped, now_ms: int) -> Change:
    """The caller paused long enough; what follows is upstream's commit, and its own response where it makes them."""
    if isinstance(state.floor, Confirming):
        return confirming.dismiss(state, state.floor, now_ms)
    if event.item_id in state.dismissed:
        return state, []
    state = replace(floor.after_speech(state), last_activity_ms=now_ms)
    if state.config.turn_taking.upstream_answers:
        state = replace(state, auto_response_due_ms=now_ms + AUTO_RESPONSE_MS)
    return state, []


def on_committed(state: SessionState, event: CallerAudioCommitted, now_ms: int) -> Change:
    """What the caller said is an item now: a new turn. A cough is deleted."""
    if event.item_id in state.dismissed:
        return history.remove(state, event.item_id), [DeleteItem(event.item_id), Ignored("cough")]
    state, begin = floor.begin_caller_item(
        state, event.item_id, after=event.previous_item_id, starts_ms=state.talk_from_ms
    )
    spoke_until_ms = now_ms - state.config.turn_taking.silence_ms
    state, recorded = meter.begin_turn(
        state, now_ms, caller_item_id=event.item_id, speech_ended_ms=spoke_until_ms
    )
    known = history.find(state, event.item_id)
    end: list[Effect] = []
    if known is not None:
        end.append(EndItem(known.number, "user", state.playout.epoch, None))
        state = history.put(state, replace(known, committed=True))
    state = replace(state, last_activity_ms=now_ms, talk_from_ms=None)
    if state.config.turn_taking.upstream_answers:
        state = replace(state, auto_response_due_ms=now_ms + AUTO_RESPONSE_MS)
    else:
        state = responses.want(state, "answer", unseen=frozenset({event.item_id}))
    return state, [*begin, *recorded, *end]


def on_auto_response_missing(state: SessionState, now_ms: int) -> SessionState:
    """Upstream should have answered the caller by itself and did not: it is asked to."""
    due_ms = state.auto_response_due_ms
    if due_ms is None or now_ms < due_ms:
        return state
    state = replace(state, auto_response_due_ms=None)
    turn = state.turn
    waits = turn is not None and not turn.answered and turn.speech_ended_ms is not None
    return responses.want(state, "answer") if waits and isinstance(state.response, Idle) else state


def on_typed(state: SessionState, event: CallerTyped, now_ms: int) -> Change:
    """The caller typed: it takes the floor like speech does, and is answered at once; or after the agent has finished."""
    effects: list[Effect] = []
    if state.config.turn_taking.barge_in != "off":
        state, dropped = confirming.give_up(state, now_ms)
        state, settled = floor.settle_before_flush(state)
        state, yielded = floor.take_floor(state, now_ms, caller_item_id=None)
        effects += [*dropped, *settled, *yielded]
    item_id = f"parley_text_{state.next_create}"
    state = limits.caller_active(replace(state, next_create=state.next_create + 1), now_ms)
    state, number = playout.take_number(state)
    state = history.put(state, HistoryItem(item_id, "user", number, event.text, final=True))
    state, recorded = meter.begin_turn(state, now_ms, caller_item_id=item_id, speech_ended_ms=None)
    state = responses.want(state, "answer", unseen=frozenset({item_id}))
    epoch = state.playout.epoch
    return state, [
        *effects,
        *recorded,
        BeginItem(number, "user", epoch),
        ShowTranscript(number, "user", event.text, final=True),
        EndItem(number, "user", epoch, None),
        *responses.if_ready(state, AddCallerText(item_id, event.text)),
    ]


def on_transcript(
    state: SessionState, event: CallerTranscriptArrived | CallerTranscriptEnded | CallerTranscriptFailed
) -> Change:
    """The caller's words; they come whenever they like, also after the turn they belong to."""
    if event.item_id in state.dismissed:
        return state, [Ignored("cough_transcript")]
    state, effects = floor.begin_caller_item(state, event.item_id)
    item = history.find(state, event.item_id)
    if item is None or item.final:
        return state, [Ignored("late_transcript")]
    if isinstance(event, CallerTranscriptArrived):
        item = replace(item, text=((item.text or "") + event.delta).lstrip())
    elif isinstance(event, CallerTranscriptEnded):
        item = replace(item, text=event.text.strip(), final=True)
        state = meter.on_transcribed(state, event.billed_ms)
    else:
        item = replace(item, text=None, final=True)
    shown = ShowTranscript(item.number, "user", item.text or "", item.final)
    return history.put(state, item), [*effects, shown]


def on_talked(state: SessionState, event: CallerTalked, now_ms: int) -> Change:
    """The push-to-talk key went down: the caller takes the floor; or up: what was said is committed."""
    if not state.config.turn_taking.push_to_talk:
        return state, [Ignored("not_push_to_talk")]
    began_ms = state.talk_began_ms
    if event.phase == "start":
        if began_ms is not None:
            return state, [Ignored("already_talking")]
        state, settled = floor.settle_before_flush(limits.caller_active(state, now_ms))
        state, yielded = floor.take_floor(state, now_ms, caller_item_id=TALK_ITEM)
        state = replace(state, talk_began_ms=now_ms, talk_from_ms=event.audio_ms)
        return state, [*settled, *yielded]
    if began_ms is None:
        return state, [Ignored("not_talking")]
    state = replace(floor.after_speech(state), talk_began_ms=None, last_activity_ms=now_ms)
    # What was said while the line was away arrives all at once: the audio is as long as it was.
    audio_ms = event.audio_ms - state.talk_from_ms if state.talk_from_ms is not None else 0
    if max(now_ms - began_ms, audio_ms) < TALK_MIN_MS:
        state = replace(state, talk_from_ms=None)
        return state, [*responses.if_ready(state, ClearCallerAudio()), Ignored("talk_too_short")]
    return state, responses.if_ready(state, CommitCallerAudio())
