"""One step of a session: ``step(state, event, now_ms) → (state, effects)``. Total and pure.

Dispatches each event to the file that decides about it, then does what follows from the new state: sends a
queued response, closes a turn that is over, tells the client what the agent does.

Law: any event in any state returns something; a late or foreign one returns the same state and Ignored.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from parley_session.core import events as ev
from parley_session.core import floor, meter, playout, responses, toolcalls
from parley_session.core.effects import (
    ConfigureUpstream,
    Effect,
    Ignored,
    RecordFeedback,
    RecordStarted,
    SetMicPolicy,
    ShowState,
    WelcomeClient,
)
from parley_session.core.state import Idle, Ready, SessionState, Silent, Yielding

Change = tuple[SessionState, list[Effect]]


def step(state: SessionState, event: ev.Event, now_ms: int) -> tuple[SessionState, tuple[Effect, ...]]:
    """Return what the session is after ``event`` at ``now_ms``, and what is to be done, in order."""
    if state.is_over:
        return state, (Ignored("after_end"),)
    state, effects = _dispatch(state, event, now_ms)
    if not state.is_over:
        state, more = _follow_up(state, now_ms)
        effects += more
    return state, tuple(effects)


def next_deadline_ms(state: SessionState) -> int | None:
    """Return when ``DeadlinePassed`` must come next; null once the session is over."""
    if state.is_over:
        return None
    deadlines = [
        state.floor.deadline_ms if isinstance(state.floor, Yielding) else None,
        state.auto_response_due_ms,
        floor.playout_deadline_ms(state),
        meter.idle_deadline_ms(state),
        meter.session_deadline_ms(state),
        None if state.was_welcomed else meter.connect_deadline_ms(state),
        *(call.attempt_deadline_ms for call in state.calls),
    ]
    return min(deadline for deadline in deadlines if deadline is not None)


def agent_state(state: SessionState) -> str:
    """Return what the agent is doing, in the client's words."""
    if playout.is_audible(state.playout):
        return "speaking"
    if state.calls:
        return "using_tool"
    is_answering = (
        not isinstance(state.response, Idle) or state.creates or state.auto_response_due_ms is not None
    )
    return "thinking" if is_answering and isinstance(state.floor, Silent) else "listening"


def _follow_up(state: SessionState, now_ms: int) -> Change:
    state = floor.follow_playout(state, now_ms)
    state, effects = responses.send_next(state)
    state, recorded = meter.close_turn_when_over(state)
    effects += recorded
    state = playout.forget_played(state)
    doing = agent_state(state)
    if state.was_welcomed and doing != state.shown:
        state = replace(state, shown=doing)
        effects.append(ShowState(doing))  # type: ignore[arg-type]
    return state, effects


def _dispatch(state: SessionState, event: ev.Event, now_ms: int) -> Change:  # noqa: PLR0911 - a table
    """Two tables of equal standing: what upstream says, and what everyone else does."""
    match event:
        case ev.AudioArrived():
            return playout.on_audio(state, event, now_ms)
        case ev.AgentWordsArrived() | ev.AgentWordsEnded():
            return playout.on_words(state, event)
        case ev.PlayoutReported():
            return playout.on_report(state, event)
        case ev.FlushAnswered():
            return floor.on_flush_answered(state, event)
        case ev.CallerTyped():
            return _on_typed(state, event, now_ms)
        case ev.CallerModeChosen():
            return _on_mode(state, event)
        case ev.CallerMuted():
            return replace(state, muted=event.muted), [SetMicPolicy("drop" if event.muted else "forward")]
        case ev.CallerRated():
            return state, [RecordFeedback(event.rating, event.comment)]
        case ev.CallerHungUp():
            return meter.end(state, "caller", now_ms=now_ms)
        case ev.LinkLost():
            return meter.end(state, event.reason, now_ms=now_ms)
        case ev.ToolAnswered():
            return toolcalls.on_answer(state, event, now_ms)
        case ev.DeadlinePassed():
            return _on_deadline(state, now_ms)
        case ev.ShellFailed():
            return meter.end(state, "failed", event.code, now_ms)
        case _:
            return _on_upstream(state, event, now_ms)


def _on_upstream(state: SessionState, event: ev.Event, now_ms: int) -> Change:  # noqa: C901, PLR0911, PLR0912 - a table
    match event:
        case ev.UpstreamOpened():
            return state, [ConfigureUpstream(state.mode), *_started(state, event)]
        case ev.UpstreamConfigured():
            return _on_configured(state)
        case ev.UpstreamLost():
            return meter.end(state, "failed", "upstream_lost", now_ms)
        case ev.UpstreamRefused():
            return responses.on_refused(state, event, now_ms)
        case ev.CallerSpeechStarted():
            return floor.on_speech_started(state, event, now_ms)
        case ev.CallerSpeechStopped():
            return floor.on_speech_stopped(state, now_ms)
        case ev.CallerAudioCommitted():
            return floor.on_committed(state, event, now_ms)
        case ev.CallerTranscriptArrived() | ev.CallerTranscriptEnded() | ev.CallerTranscriptFailed():
            return floor.on_transcript(state, event)
        case ev.ItemAdded():
            return responses.on_item_seen(state, event), []
        case ev.ResponseStarted():
            return responses.on_started(state, event)
        case ev.ResponseEnded():
            return responses.on_ended(state, event, now_ms)
        case ev.OutputItemDone():
            if event.item.kind == "function_call":
                return toolcalls.on_call(state, event, now_ms)
            return playout.on_item_done(state, event)
        case ev.AudioEnded():
            return playout.on_audio_ended(state, event)
        case ev.UpstreamUnknown():
            return state, [Ignored("unknown_upstream_event")]
        case (
            ev.UpstreamNoted()
            | ev.ItemDone()
            | ev.ItemDeleted()
            | ev.ItemTruncated()
            | ev.OutputItemAdded()
            | ev.CallerSilenceTimedOut()
        ):
            return state, []
        case (
            ev.AudioArrived()
            | ev.AgentWordsArrived()
            | ev.AgentWordsEnded()
            | ev.PlayoutReported()
            | ev.FlushAnswered()
            | ev.CallerTyped()
            | ev.CallerModeChosen()
            | ev.CallerMuted()
            | ev.CallerRated()
            | ev.CallerHungUp()
            | ev.LinkLost()
            | ev.ToolAnswered()
            | ev.DeadlinePassed()
            | ev.ShellFailed()
        ):
            return state, [Ignored("misrouted")]
        case _:
            assert_never(event)


def _started(state: SessionState, event: ev.UpstreamOpened) -> list[Effect]:
    return [] if state.was_welcomed else [RecordStarted(state.mode, event.model)]


def _on_configured(state: SessionState) -> Change:
    if state.was_welcomed:
        return replace(state, upstream=Ready()), []
    state = replace(state, upstream=Ready(), was_welcomed=True)
    config = state.config
    if config.greet_first:
        words = f'\nSay exactly: "{config.greeting}"' if config.greeting else ""
        state = responses.want(
            state, "greeting", instructions=f"Greet the caller.{words}", may_call_tools=False
        )
    return state, [WelcomeClient(state.playout.epoch), SetMicPolicy("drop" if state.muted else "forward")]


def _on_typed(state: SessionState, event: ev.CallerTyped, now_ms: int) -> Change:
    if not event.text.strip():
        return state, [Ignored("empty_text")]
    if not isinstance(state.upstream, Ready):
        return state, [Ignored("not_ready")]
    return floor.on_typed(state, event, now_ms)


def _on_mode(state: SessionState, event: ev.CallerModeChosen) -> Change:
    if event.mode == state.mode:
        return state, [Ignored("same_mode")]
    return replace(state, mode=event.mode), [ConfigureUpstream(event.mode, only_mode=True)]


def _on_deadline(state: SessionState, now_ms: int) -> Change:
    if not state.was_welcomed and now_ms >= meter.connect_deadline_ms(state):
        return meter.end(state, "failed", "upstream_timed_out", now_ms)
    if now_ms >= meter.session_deadline_ms(state):
        return meter.end(state, "limit", "session_too_long", now_ms)
    idle_ms = meter.idle_deadline_ms(state)
    if idle_ms is not None and now_ms >= idle_ms:
        return meter.end(state, "idle", "idle", now_ms)
    state, effects = floor.on_deadline(state, now_ms)
    if state.auto_response_due_ms is not None and now_ms >= state.auto_response_due_ms:
        state = replace(state, auto_response_due_ms=None)
    state = floor.on_silence_deadline(state, now_ms)
    state, retried = toolcalls.on_deadline(state, now_ms)
    return state, [*effects, *retried]
