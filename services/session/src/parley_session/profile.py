"""From a business's folder to what upstream is configured with and what the core is told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from parley_common.business import Business, SemanticVad
from parley_common.contracts.audio_link import Attach
from parley_session.catalog import CatalogTool, function, model_names, target
from parley_session.core.state import Limits, SessionConfig, TurnTaking
from parley_session.realtime_codec import UpstreamProfile
from parley_session.settings import SessionSettings


def upstream_profile(
    business: Business, tools: Sequence[CatalogTool], *, default_model: str, now: datetime
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
    )


def _turn_detection(business: Business) -> dict[str, Any]:
    """Upstream interrupts and answers by itself: barge-in is instant."""
    return {
        **business.config.voice.turn_detection.model_dump(),
        "create_response": True,
        "interrupt_response": True,
    }


def _without_nulls(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def core_config(
    business: Business, attach: Attach, tools: Sequence[CatalogTool], settings: SessionSettings
) -> SessionConfig:
    """Return what the core is told of this session."""
    limits = business.config.limits
    vad = business.config.voice.turn_detection
    silence_ms = 0 if isinstance(vad, SemanticVad) else vad.silence_duration_ms
    return SessionConfig(
        session_id=attach.session_id,
        mode=attach.mode,
        greet_first=business.config.agent.greet_first,
        greeting=business.config.agent.greeting,
        fence=attach.fence,
        turn_taking=TurnTaking(flush_answer_ms=settings.flush_answer_ms, silence_ms=silence_ms),
        limits=Limits(
            session_max_ms=limits.session_max_s * 1000,
            idle_hangup_ms=limits.idle_hangup_s * 1000 if limits.idle_hangup_s else None,
            tool_calls_max=limits.tool_calls_max,
            tool_attempts_max=settings.tool_attempts_max,
        ),
        tools=tuple(target(name, tool) for name, tool in model_names(tools)),
    )
