"""From a business's folder to what upstream is configured with and what the core is told."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from parley_common.business import Business
from parley_common.business_config import PushToTalk, RetentionRatio, ServerVad
from parley_common.contracts.audio_link import Attach
from parley_session.catalog import CatalogTool, function, model_names, target
from parley_session.core.config import Limits, LocalAudio, SessionConfig, TurnTaking
from parley_session.prices import price_table
from parley_session.realtime_codec import Dialect, UpstreamProfile
from parley_session.settings import SessionSettings


def upstream_profile(
    business: Business,
    tools: Sequence[CatalogTool],
    *,
    default_model: str,
    now: datetime,
    dialect: Dialect = "ga",
) -> UpstreamProfile:
    """Return the upstream configuration of a business; the model is told the date, which it cannot know."""
    voice = business.config.voice
    local = now.astimezone(business.zone)
    today = f"Today is {local:%A, %d %B %Y}; it is {local:%H:%M} ({business.config.time_zone})."
    return UpstreamProfile(
        model=voice.model or default_model,
        instructions=f"{business.prompt}\n\n{today}",
        voice=voice.voice,
        speed=voice.speed,
        turn_detection=_turn_detection(business),
        transcription=_without_nulls(voice.transcription.model_dump()) if voice.transcription else None,
        noise_reduction={"type": voice.noise_reduction} if voice.noise_reduction else None,
        tools=tuple(function(name, tool) for name, tool in model_names(tools)),
        reasoning_effort=voice.reasoning_effort,
        truncation=voice.truncation if isinstance(voice.truncation, str) else _dumped(voice.truncation),
        max_output_tokens=voice.max_output_tokens,
        dialect=dialect,
    )


def _dumped(part: RetentionRatio | None) -> dict[str, Any] | None:
    return None if part is None else part.model_dump()


def _turn_detection(business: Business) -> dict[str, Any] | None:
    """Upstream interrupts and answers by itself only where barge-in is instant; null: a key marks turns."""
    voice = business.config.voice
    if isinstance(voice.turn_detection, PushToTalk):
        return None
    instant = voice.barge_in == "instant"
    return {
        **voice.turn_detection.model_dump(),
        "create_response": instant,
        "interrupt_response": instant,
    }


def _without_nulls(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def core_config(
    business: Business,
    attach: Attach,
    tools: Sequence[CatalogTool],
    settings: SessionSettings,
    local: tuple[LocalAudio, ...] = (),
) -> SessionConfig:
    """Return what the core is told of this session."""
    limits, voice = business.config.limits, business.config.voice
    vad = voice.turn_detection
    silence_ms = vad.silence_duration_ms if isinstance(vad, ServerVad) else 0
    heard_by = voice.transcription.model if voice.transcription else None
    return SessionConfig(
        session_id=attach.session_id,
        mode=attach.mode,
        greet_first=business.config.agent.greet_first,
        greeting=business.config.agent.greeting,
        fence=attach.fence,
        turn_taking=TurnTaking(
            barge_in=voice.barge_in,
            push_to_talk=isinstance(vad, PushToTalk),
            min_speech_ms=voice.min_speech_ms,
            flush_answer_ms=settings.flush_answer_ms,
            silence_ms=silence_ms,
        ),
        limits=Limits(
            session_max_ms=limits.session_max_s * 1000,
            idle_nudge_ms=_ms(limits.idle_nudge_s),
            idle_hangup_ms=_ms(limits.idle_hangup_s),
            tool_calls_max=limits.tool_calls_max,
            tool_attempts_max=settings.tool_attempts_max,
            filler_after_ms=limits.filler_after_ms,
            tokens_max=limits.tokens_max,
            usd_max=limits.usd_max,
            reconnect_ms=settings.reconnect_s * 1000,
            rollover_ms=rollover_ms(attach.session_id, settings.rollover_min),
        ),
        tools=tuple(target(name, tool) for name, tool in model_names(tools)),
        local=local,
        prices=price_table().of(voice.model or settings.model, heard_by),
    )


def rollover_ms(session_id: str, most_min: int) -> int:
    """Return when a session's connection is replaced: one tenth earlier at most, so that many do not come due at once."""
    most_ms = most_min * 60_000
    return most_ms - zlib.crc32(session_id.encode()) % (most_ms // 10)


def _ms(seconds: int | None) -> int | None:
    return None if seconds is None else seconds * 1000
