"""One step of a session: ``step(state, event, now_ms) → (state, effects)``. Total and pure.

Dispatches each event to the file that decides about it, then does what follows from the new state: looks after
the connection and the limits, sends a queued response, closes a turn that is over, tells the client what the
agent does and the shell what to do with caller audio.

Law: any event in any state returns something; a late or foreign one returns the same state and Ignored. What
``more_audio`` returns is what ``step`` would.
"""

from __future__ import annotations

from typing import assert_never

from parley_session.core import (
    caller,
    confirming,
    continuity,
    ending,
    floor,
    limits,
    meter,
    playout,
    responses,
    toolcalls,
)
from parley_session.core import events as ev
from parley_session.core.config import BYTES_PER_SAMPLE, SAMPLES_PER_MS, MicPolicy
from parley_session.core.copying import replace
from parley_session.core.effects import (
    ConfigureUpstream,
    Effect,
    Ignored,
    PlayAudio,
    RecordFeedback,
    SetMicPolicy,
    ShowState,
)
from parley_session.core.state import Agent, Idle, Ready, SessionState, Silent, Yielding

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


def more_audio(
    state: SessionState, event: ev.AudioArrived, now_ms: int
) -> tuple[SessionState, PlayAudio] | None:
    """Return what ``step`` would for audio of an item that sounds already, at a fraction of its cost; else null.

    What is due at ``now_ms`` is left to ``DeadlinePassed``; no deadline comes nearer by it.
    """
    held = state.playout
    entry = held.ledger[-1] if held.ledger else None
    if (
        entry is None
        or entry.item_id != event.item_id
        or entry.content_index != event.content_index
        or entry.epoch != held.epoch
        or entry.settled
        or state.shown != "speaking"
        or not isinstance(state.floor, Agent)
        or not isinstance(state.upstream, Ready)
        or state.is_over
        or state.farewell is not None
        or event.response_id in state.dead_responses
        or (state.turn is not None and state.turn.first_audio_ms is None)
    ):
        return None
    samples = len(event.pcm) // BYTES_PER_SAMPLE
    if not samples:
        return None
    sounding = replace(entry, sent=entry.sent + samples)
    until_ms = max(now_ms, held.playing_until_ms) + samples // SAMPLES_PER_MS
    held = replace(held, ledger=(*held.ledger[:-1], sounding), playing_until_ms=until_ms)
    return (
        replace(state, playout=held, upstream_heard_ms=now_ms),
        PlayAudio(entry.epoch, entry.number, entry.sent, event.pcm),
    )


def next_deadline_ms(state: SessionState) -> int | None:
    """Return when ``DeadlinePassed`` must come next; null once the session is over."""
    if state.is_over:
        return None
    deadlines = (
        state.floor.deadline_ms if isinstance(state.floor, Yielding) else None,
        confirming.deadline_ms(state),
        state.auto_response_due_ms,
        floor.playout_deadline_ms(state),
        continuity.deadline_ms(state),
        state.farewell.deadline_ms if state.farewell else None,
        toolcalls.filler_deadline_ms(state),
        state.creates_held_ms if isinstance(state.response, Idle) and state.creates else None,
        limits.nudge_deadline_ms(state),
        limits.idle_deadline_ms(state),
        limits.wrap_up_deadline_ms(state) if isinstance(state.upstream, Ready) else None,
        limits.session_deadline_ms(state),
        *(call.attempt_deadline_ms for call in state.calls),
    )
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


def mic_policy(state: SessionState) -> MicPolicy:
    """Return what is to be done with caller audio as things stand."""
    if state.muted or state.farewell is not None:
        return "drop"
    if state.config.turn_taking.push_to_talk and state.talk_began_ms is None:
        return "drop"
    return "forward" if isinstance(state.upstream, Ready) else "hold"


def _follow_up(state: SessionState, now_ms: int) -> Change:
    state = floor.follow_playout(state, now_ms)
    state, effects = playout.settle_played_local(state)
    for keep in (ending.keep_farewell, limits.keep, continuity.keep):
        state, kept = keep(state, now_ms)
        effects += kept
        if state.is_over:
            return state, effects
    if mic_policy(state) != state.mic:
        state = replace(state, mic=mic_policy(state))
        effects.append(SetMicPolicy(state.mic))
    state, asked = responses.send_next(state, now_ms)
    effects += asked
    state, recorded = meter.close_turn_when_over(state)
    effects += recorded
    state = playout.forget_played(state)
    doing = agent_state(state)
    if state.was_welcomed and doing != state.shown:
        state = replace(state, shown=doing)
        effects.append(ShowState(doing))  # type: ignore[arg-type]
    return state, effects


def _dispatch(state: SessionState, event: ev.Event, now_ms: int) -> Change:  # noqa: C901, PLR0911, PLR0912 - a table
    """Two tables of equal standing: what upstream says, and what everyone else does."""
    match event:
        case ev.PlayoutReported():
            return playout.on_report(state, event)
        case ev.FlushAnswered():
            return floor.on_flush_answered(state, event)
        case ev.CallerLevelChanged():
            return confirming.on_level(state, event, now_ms)
        case ev.CallerTyped():
            return _on_typed(state, event, now_ms)
        case ev.CallerTalked():
            return caller.on_talked(state, event, now_ms)
        case ev.CallerModeChosen():
            return _on_mode(state, event)
        case ev.CallerMuted():
            return replace(state, muted=event.muted), []
        case ev.CallerRated():
            return state, [RecordFeedback(event.rating, event.comment)]
        case ev.CallerHungUp():
            return ending.end(state, "caller", None, now_ms)
        case ev.LinkLost():
            return ending.end(state, event.reason, None, now_ms)
        case ev.OperatorEnded():
            return ending.end(state, "operator", "ended_by_operator", now_ms)
        case ev.ToolAnswered():
            return toolcalls.on_answer(state, event, now_ms)
        case ev.ToolsSwitched():
            return toolcalls.on_switched(state, event)
        case ev.DeadlinePassed():
            return _on_deadline(state, now_ms)
        case ev.ShellFailed():
            return ending.end(state, "failed", event.code, now_ms)
        case ev.UpstreamLost():
            return continuity.on_lost(state, event, now_ms)
        case _ if state.farewell is not None:
            return state, [Ignored("after_farewell")]
        case _:
            return _on_upstream(replace(state, upstream_heard_ms=now_ms), event, now_ms)


def _on_upstream(state: SessionState, event: ev.Event, now_ms: int) -> Change:  # noqa: C901, PLR0911, PLR0912 - a table
    match event:
        case ev.AudioArrived():
            return playout.on_audio(state, event, now_ms)
        case ev.AgentWordsArrived() | ev.AgentWordsEnded():
            return playout.on_words(state, event)
        case ev.UpstreamOpened():
            return continuity.on_opened(state, event)
        case ev.UpstreamConfigured():
            return continuity.on_configured(state, now_ms)
        case ev.UpstreamRefused():
            return responses.on_refused(state, event, now_ms)
        case ev.CallerSpeechStarted():
            return caller.on_speech_started(state, event, now_ms)
        case ev.CallerSpeechStopped():
            return caller.on_speech_stopped(state, event, now_ms)
        case ev.CallerAudioCommitted():
            return caller.on_committed(state, event, now_ms)
        case ev.CallerTranscriptArrived() | ev.CallerTranscriptEnded() | ev.CallerTranscriptFailed():
            return caller.on_transcript(state, event)
        case ev.ItemAdded():
            return responses.on_item_seen(state, event), []
        case ev.ResponseStarted():
            return responses.on_started(state, event, now_ms)
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
            ev.PlayoutReported()
            | ev.FlushAnswered()
            | ev.CallerLevelChanged()
            | ev.CallerTyped()
            | ev.CallerTalked()
            | ev.CallerModeChosen()
            | ev.CallerMuted()
            | ev.CallerRated()
            | ev.CallerHungUp()
            | ev.LinkLost()
            | ev.OperatorEnded()
            | ev.ToolAnswered()
            | ev.ToolsSwitched()
            | ev.DeadlinePassed()
            | ev.ShellFailed()
            | ev.UpstreamLost()
        ):
            return state, [Ignored("misrouted")]
        case _:
            assert_never(event)


def _on_typed(state: SessionState, event: ev.CallerTyped, now_ms: int) -> Change:
    if not event.text.strip():
        return state, [Ignored("empty_text")]
    if not state.was_welcomed or state.farewell is not None:
        return state, [Ignored("not_ready")]
    return caller.on_typed(state, event, now_ms)


def _on_mode(state: SessionState, event: ev.CallerModeChosen) -> Change:
    if event.mode == state.mode:
        return state, [Ignored("same_mode")]
    state = replace(state, mode=event.mode)
    return state, responses.if_ready(state, ConfigureUpstream(event.mode, "mode"))


def _on_deadline(state: SessionState, now_ms: int) -> Change:
    if now_ms >= limits.session_deadline_ms(state):
        return ending.end(state, "limit", "session_too_long", now_ms)
    idle_ms = limits.idle_deadline_ms(state)
    if idle_ms is not None and now_ms >= idle_ms:
        return ending.end(state, "idle", "idle", now_ms)
    nudge_ms = limits.nudge_deadline_ms(state)
    if nudge_ms is not None and now_ms >= nudge_ms:
        state = limits.nudge(state)
    state = floor.on_silence_deadline(caller.on_auto_response_missing(state, now_ms), now_ms)
    if state.creates_held_ms is not None and now_ms >= state.creates_held_ms:
        state = replace(state, creates_held_ms=None)
    effects: list[Effect] = []
    for due in (
        floor.on_flush_deadline,
        confirming.on_deadline,
        toolcalls.on_deadline,
        toolcalls.on_filler_deadline,
    ):
        state, done = due(state, now_ms)
        effects += done
    return state, effects
