"""Messages of the link ↔ events and effects of the core. Pure.

Law: what is not for the client has no message, and what the shell keeps to itself has no event.
"""

from __future__ import annotations

from parley_common.contracts import audio_link
from parley_session.core import effects as ef
from parley_session.core import events as ev
from parley_session.core.config import SessionConfig


def event_of(message: audio_link.UpLink) -> ev.Event | None:
    """Return the core event of a link message; null for those the shell keeps to itself."""
    match message:
        case audio_link.Playout():
            return ev.PlayoutReported(message.epoch, message.item, message.received, message.played)
        case audio_link.Flushed():
            return ev.FlushAnswered(message.epoch, message.item, message.played)
        case audio_link.Text():
            return ev.CallerTyped(message.text[: audio_link.TEXT_MAX_CHARS])
        case audio_link.SetMode():
            return ev.CallerModeChosen(message.mode)
        case audio_link.Mute():
            return ev.CallerMuted(message.muted)
        case audio_link.Feedback():
            return ev.CallerRated(min(5, max(1, message.rating)), message.comment)
        case audio_link.Hangup():
            return ev.CallerHungUp()
        case _:
            return None


def message_of(effect: ef.Effect, config: SessionConfig) -> audio_link.DownLink | None:
    """Return the client message of an effect; null for effects that are not for the client."""
    match effect:
        case ef.WelcomeClient():
            limits = audio_link.Limits(
                session_max_s=config.limits.session_max_ms // 1000,
                flush_answer_ms=config.turn_taking.flush_answer_ms,
            )
            return audio_link.Ready(session=config.session_id, resume="", limits=limits, epoch=effect.epoch)
        case ef.BeginItem():
            return audio_link.Item(effect.number, effect.role, "begins", effect.epoch)
        case ef.EndItem():
            return audio_link.Item(effect.number, effect.role, "ends", effect.epoch, effect.samples)
        case ef.ShowTranscript():
            return audio_link.Transcript(effect.number, effect.role, effect.text, effect.final, effect.heard)
        case ef.PausePlayout():
            return audio_link.Pause()
        case ef.ResumePlayout():
            return audio_link.Resume()
        case ef.ShowState():
            return audio_link.State(effect.state)
        case ef.ShowTool():
            return audio_link.Tool(effect.name, effect.phase, effect.call_id, effect.outcome)
        case ef.ShowNotice():
            return audio_link.Notice(effect.code, effect.message)
        case ef.ShowError():
            return audio_link.Error(effect.code, effect.message, fatal=effect.fatal)
        case _:
            return None
