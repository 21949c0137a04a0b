"""Confirmed barge-in: a cough pauses the agent and no more; speech that lasts takes the floor.

Playout is paused at the first sound. The shell tells when the caller's sound begins and ends; sound that adds
up to ``min_speech_ms`` within one caller item is speech. What ended before is a cough: its item is deleted
when upstream commits it, and the agent goes on where it was held.

Law: an item is dismissed or becomes a turn, never both.
"""

from __future__ import annotations

from parley_session.core import floor as the_floor
from parley_session.core import limits, playout
from parley_session.core.copying import replace
from parley_session.core.effects import Effect, Ignored
from parley_session.core.events import CallerLevelChanged, CallerSpeechStarted
from parley_session.core.state import Agent, Confirming, SessionState

Change = tuple[SessionState, list[Effect]]

DISMISSED_KEPT = 8


def begin(state: SessionState, event: CallerSpeechStarted, now_ms: int) -> Change:
    """The caller made a sound while the agent speaks."""
    state, effects = give_up(state, now_ms)
    state, paused = playout.pause(state, now_ms)
    return replace(state, floor=Confirming(event.item_id, event.audio_start_ms, now_ms)), [*effects, *paused]


def deadline_ms(state: SessionState) -> int | None:
    """When the sound is speech, should it last; null while there is none to confirm."""
    floor = state.floor
    if not isinstance(floor, Confirming) or floor.loud_since_ms is None:
        return None
    return floor.loud_since_ms + max(0, state.config.turn_taking.min_speech_ms - floor.loud_ms)


def on_deadline(state: SessionState, now_ms: int) -> Change:
    """The sound has lasted: it is a barge-in."""
    due_ms, floor = deadline_ms(state), state.floor
    if due_ms is None or now_ms < due_ms or not isinstance(floor, Confirming):
        return state, []
    state = limits.caller_active(replace(state, floor=Agent()), now_ms)
    state, yielded = the_floor.take_floor(state, now_ms, caller_item_id=floor.caller_item_id)
    state, begun = the_floor.begin_caller_item(state, floor.caller_item_id, starts_ms=floor.audio_start_ms)
    return state, [*yielded, *begun]


def on_level(state: SessionState, event: CallerLevelChanged, now_ms: int) -> Change:
    """The caller's sound began or ended."""
    floor = state.floor
    if not isinstance(floor, Confirming):
        return state, [Ignored("level_not_awaited")]
    if event.is_loud and floor.loud_since_ms is None:
        state, paused = playout.pause(state, now_ms)
        return replace(state, floor=replace(floor, loud_since_ms=now_ms)), paused
    if not event.is_loud and floor.loud_since_ms is not None:
        loud_ms = floor.loud_ms + now_ms - floor.loud_since_ms
        state, resumed = playout.resume(state, now_ms)
        return replace(state, floor=replace(floor, loud_since_ms=None, loud_ms=loud_ms)), resumed
    return state, []


def dismiss(state: SessionState, floor: Confirming, now_ms: int) -> Change:
    """The sound is over and was too short: the agent goes on."""
    dismissed = (*state.dismissed, floor.caller_item_id)[-DISMISSED_KEPT:]
    state, resumed = playout.resume(replace(state, floor=Agent(), dismissed=dismissed), now_ms)
    return state, resumed


def give_up(state: SessionState, now_ms: int) -> Change:
    """Something else decides: what was to be confirmed is a cough."""
    return dismiss(state, state.floor, now_ms) if isinstance(state.floor, Confirming) else (state, [])
