"""From the core's records to facts on the topic: adds who, when and which business; spools them.

Law: heard text goes into facts only when the business says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import structlog

from parley_common.clock import Clock
from parley_common.contracts import sessions
from parley_common.contracts.record import Fact
from parley_common.ids import derived_id
from parley_common.telemetry import LATENCY_BUCKETS_MS, Counter, Histogram
from parley_session.core import effects as ef
from parley_session.core.state import ResponseUsage
from parley_session.spool import Spool

log = structlog.get_logger("session")
VOICE_TO_VOICE_MS = Histogram(
    "parley_voice_to_voice_ms",
    "From the caller's last sound to the first agent audio sent, ms",
    buckets=LATENCY_BUCKETS_MS,
)
TURN_DETECTION_MS = Histogram(
    "parley_turn_detection_ms",
    "From the caller's last sound to the turn's beginning",
    buckets=LATENCY_BUCKETS_MS,
)
RESPONSE_MS = Histogram(
    "parley_response_ms",
    "From the turn's beginning to the first response to it",
    buckets=LATENCY_BUCKETS_MS,
)
FIRST_AUDIO_MS = Histogram(
    "parley_first_audio_ms", "From that response to its first audio", buckets=LATENCY_BUCKETS_MS
)
TURNS = Counter("parley_turns", "Turns completed", ["business", "barged_in"])
ENDED = Counter("parley_sessions_ended", "Sessions ended, by why", ["business", "reason"])

Recorded = ef.RecordStarted | ef.RecordTurn | ef.RecordToolUse | ef.RecordFeedback | ef.EndSession


@dataclass(frozen=True, slots=True)
class Subject:
    """What every fact of one session says."""

    session_id: str
    business: str
    business_version: str
    channel: str
    page: str | None
    replica: str
    keep_text: bool


class FactWriter:
    """Writes one session's facts."""

    def __init__(self, subject: Subject, spool: Spool, clock: Clock) -> None:
        self._subject = subject
        self._spool = spool
        self._clock = clock

    def write(self, recorded: Recorded, traceparent: str | None) -> None:
        """Spool the fact of a record; never waits."""
        now = self._clock.now()
        fact = self._fact(recorded, now)
        fact_id = None
        if isinstance(recorded, ef.EndSession):
            fact_id = derived_id(self._subject.session_id, "ended")
        self._spool.record(fact, at=now, fact_id=fact_id, traceparent=traceparent)
        self._tell(recorded)

    def _fact(self, recorded: Recorded, now: datetime) -> Fact:
        who = {"session_id": self._subject.session_id, "business": self._subject.business, "at": now}
        match recorded:
            case ef.RecordStarted():
                return sessions.SessionStarted(
                    **who,  # type: ignore[arg-type]
                    business_version=self._subject.business_version,
                    channel=self._subject.channel,
                    mode=recorded.mode,
                    page=self._subject.page,
                    model=recorded.model,
                    replica=self._subject.replica,
                )
            case ef.RecordTurn():
                keep = self._subject.keep_text
                return sessions.TurnCompleted(
                    **who,  # type: ignore[arg-type]
                    turn=recorded.turn,
                    mode=recorded.mode,
                    barged_in=recorded.barged_in,
                    heard_ms=recorded.heard_ms,
                    spoken_ms=recorded.spoken_ms,
                    voice_to_voice_ms=recorded.voice_to_voice_ms,
                    turn_detection_ms=recorded.turn_detection_ms,
                    response_ms=recorded.response_ms,
                    first_audio_ms=recorded.first_audio_ms,
                    tool_calls=recorded.tool_calls,
                    usage=usage_of(recorded.usage),
                    cost_usd=recorded.cost_usd,
                    caller_text=recorded.caller_text if keep else None,
                    agent_heard_text=recorded.agent_heard_text if keep else None,
                )
            case ef.RecordToolUse():
                return sessions.ToolUsed(
                    **who,  # type: ignore[arg-type]
                    call_id=recorded.call_id,
                    service=recorded.service,
                    tool=recorded.tool,
                    status=recorded.status,
                    code=recorded.code,
                    attempts=recorded.attempts,
                    round_trip_ms=recorded.round_trip_ms,
                )
            case ef.RecordFeedback():
                return sessions.SessionFeedback(**who, rating=recorded.rating, comment=recorded.comment)  # type: ignore[arg-type]
            case ef.EndSession():
                return sessions.SessionEnded(
                    **who,  # type: ignore[arg-type]
                    reason=recorded.reason,
                    code=recorded.code,
                    duration_ms=recorded.duration_ms,
                    turns=recorded.turns,
                    barge_ins=recorded.barge_ins,
                    tool_calls=recorded.tool_calls,
                    usage=usage_of(recorded.usage),
                    cost_usd=recorded.cost_usd,
                    local_audio_ms=recorded.local_ms,
                    reconnects=recorded.reconnects,
                    outcome=recorded.outcome,
                )

    def _tell(self, recorded: Recorded) -> None:
        """One canonical line per turn and per session, and the numbers that rule the house."""
        business = self._subject.business
        if isinstance(recorded, ef.RecordTurn):
            TURNS.labels(business, str(recorded.barged_in).lower()).inc()
            _observe_parts(recorded)
            log.info(
                "turn.completed",
                turn=recorded.turn,
                barged_in=recorded.barged_in,
                heard_ms=recorded.heard_ms,
                spoken_ms=recorded.spoken_ms,
                voice_to_voice_ms=recorded.voice_to_voice_ms,
                tool_calls=recorded.tool_calls,
            )
        elif isinstance(recorded, ef.EndSession):
            ENDED.labels(business, recorded.reason).inc()
            log.info(
                "session.ended",
                reason=recorded.reason,
                code=recorded.code,
                duration_ms=recorded.duration_ms,
                turns=recorded.turns,
                barge_ins=recorded.barge_ins,
                tool_calls=recorded.tool_calls,
            )


def _observe_parts(turn: ef.RecordTurn) -> None:
    """How long the caller waited, and for what; parts that a turn does not have are left out."""
    for histogram, lasted_ms in (
        (VOICE_TO_VOICE_MS, turn.voice_to_voice_ms),
        (TURN_DETECTION_MS, turn.turn_detection_ms),
        (RESPONSE_MS, turn.response_ms),
        (FIRST_AUDIO_MS, turn.first_audio_ms),
    ):
        if lasted_ms is not None:
            histogram.observe(lasted_ms)


def usage_of(usage: ResponseUsage) -> sessions.Usage:
    """Return the contract's usage."""
    return sessions.Usage(
        input_text_tokens=usage.input_text,
        input_audio_tokens=usage.input_audio,
        cached_text_tokens=usage.cached_text,
        cached_audio_tokens=usage.cached_audio,
        output_text_tokens=usage.output_text,
        output_audio_tokens=usage.output_audio,
        input_image_tokens=usage.input_image,
        cached_image_tokens=usage.cached_image,
    )
