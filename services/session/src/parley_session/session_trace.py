"""The spans of one session, begun and ended as its events and effects come by. Decides nothing about it.

All are below ``session.open``, whose context the gateway sends: the attach; each turn, its responses under it, and
under a response the tool calls that it asked for. A response of no turn, such as the greeting, is right below.

Law: nothing per audio frame, and no word of caller or agent in an attribute.
"""

from __future__ import annotations

from dataclasses import dataclass

from parley_common.clock import Clock
from parley_common.telemetry import Span, SpanKind, mark_failed, start_span, traceparent_of
from parley_session.core import effects as ef
from parley_session.core import events as ev
from parley_session.core.state import Active, ResponseUsage, SessionState

NS_PER_MS = 1_000_000
Recorded = ef.RecordStarted | ef.RecordTurn | ef.RecordToolUse | ef.RecordFeedback | ef.EndSession


@dataclass(frozen=True, slots=True)
class Traced:
    """What the spans of one session say of it."""

    session_id: str
    business: str
    model: str
    provider: str
    """As the gen_ai conventions name who serves the model."""
    traceparent: str | None
    """The context of ``session.open``."""


class SessionTrace:
    """The open spans of one session."""

    def __init__(self, traced: Traced, clock: Clock) -> None:
        self._traced = traced
        self._clock = clock
        self._attach: Span | None = None
        self._turns: dict[int, tuple[Span, int]] = {}
        self._responses: dict[str, Span] = {}
        self._asked_by: dict[str, str | None] = {}
        self._calls: dict[str, Span] = {}

    def begin(self) -> None:
        """The session was attached; what follows, up to its welcome, is getting ready."""
        self._attach = start_span(
            "session.attach",
            parent=self._traced.traceparent,
            kind=SpanKind.SERVER,
            attributes=self._session(),
        )

    def welcomed(self) -> None:
        """The client was told that it may begin."""
        if self._attach is not None:
            self._attach.end()
            self._attach = None

    def stepped(self, event: ev.Event, state: SessionState) -> None:
        """Follow one step of the core: ``state`` is what ``event`` led to."""
        turn = state.turn
        if turn is not None and turn.number not in self._turns:
            self._turns[turn.number] = self._turn_span(turn.number, self._now_ns())
        match event:
            case ev.ResponseStarted():
                self._begin_response(event, state)
            case ev.ResponseEnded():
                self._end_response(event)
            case ev.UpstreamLost():
                for span in self._responses.values():
                    mark_failed(span, "upstream_lost")
                    span.end()
                self._responses.clear()

    def requested(self, effect: ef.RequestTool, state: SessionState) -> str | None:
        """A tool is asked, for the first time or again; returns the context that the call carries."""
        span = self._calls.get(effect.call_id)
        if span is None:
            response_id = next((c.response_id for c in state.calls if c.call_id == effect.call_id), "")
            span = start_span(
                f"execute_tool {effect.tool}",
                parent=self._asked_by.get(response_id) or self._traced.traceparent,
                attributes={
                    **self._session(),
                    "gen_ai.operation.name": "execute_tool",
                    "gen_ai.tool.name": effect.tool,
                    "gen_ai.tool.type": "function",
                    "gen_ai.tool.call.id": effect.call_id,
                    "parley.service": effect.service,
                },
            )
            self._calls[effect.call_id] = span
        return traceparent_of(span)

    def recorded(self, recorded: Recorded) -> str | None:
        """End the span of what is recorded; returns the context that the fact carries."""
        match recorded:
            case ef.RecordTurn():
                return self._end_turn(recorded)
            case ef.RecordToolUse():
                return self._end_call(recorded)
            case _:
                return self._traced.traceparent

    def finish(self, end: ef.EndSession) -> None:
        """The session is over, and so is whatever is still open."""
        if self._attach is not None:
            mark_failed(self._attach, end.code or end.reason)
            self.welcomed()
        turns = (span for span, _ in self._turns.values())
        for span in (*self._calls.values(), *self._responses.values(), *turns):
            span.set_attribute("parley.outcome", "session_ended")
            span.end()
        self._calls.clear()
        self._responses.clear()
        self._turns.clear()

    # -- turns ------------------------------------------------------------------------------------

    def _turn_span(self, number: int, start_ns: int) -> tuple[Span, int]:
        attributes = {**self._session(), "parley.turn": number}
        parent = self._traced.traceparent
        return start_span("turn", parent=parent, attributes=attributes, start_ns=start_ns), start_ns

    def _end_turn(self, turn: ef.RecordTurn) -> str | None:
        lasted_ns = max(turn.lasted_ms, 0) * NS_PER_MS
        found = self._turns.pop(turn.turn, None)
        span, start_ns = found or self._turn_span(turn.turn, self._now_ns() - lasted_ns)
        span.set_attributes(
            {
                "parley.mode": turn.mode,
                "parley.barged_in": turn.barged_in,
                "parley.heard_ms": turn.heard_ms,
                "parley.spoken_ms": turn.spoken_ms,
                "parley.tool_calls": turn.tool_calls,
                **_usage(turn.usage),
            }
        )
        measured = {
            "parley.voice_to_voice_ms": turn.voice_to_voice_ms,
            "parley.turn_detection_ms": turn.turn_detection_ms,
            "parley.response_ms": turn.response_ms,
            "parley.first_audio_ms": turn.first_audio_ms,
            "parley.cost_usd": turn.cost_usd,
        }
        span.set_attributes({name: value for name, value in measured.items() if value is not None})
        span.end(end_time=start_ns + lasted_ns)
        return traceparent_of(span) or self._traced.traceparent

    # -- responses and tool calls -----------------------------------------------------------------

    def _begin_response(self, event: ev.ResponseStarted, state: SessionState) -> None:
        turn = self._turns.get(state.turn.number) if state.turn else None
        parent = traceparent_of(turn[0]) if turn else None
        response = state.response
        kind = response.create.kind if isinstance(response, Active) and response.create else "answer"
        span = start_span(
            f"chat {self._traced.model}",
            parent=parent or self._traced.traceparent,
            kind=SpanKind.CLIENT,
            attributes={
                **self._session(),
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": self._traced.provider,
                "gen_ai.request.model": self._traced.model,
                "gen_ai.response.id": event.response_id,
                "gen_ai.output.type": "speech" if state.mode == "voice" else "text",
                "parley.response.kind": kind,
            },
        )
        self._responses[event.response_id] = span
        self._asked_by = {event.response_id: traceparent_of(span)}

    def _end_response(self, event: ev.ResponseEnded) -> None:
        span = self._responses.pop(event.response_id, None)
        if span is None:
            return
        span.set_attribute("gen_ai.response.finish_reasons", [event.reason or event.status])
        if event.usage is not None:
            span.set_attributes(_usage(event.usage))
        if event.status == "failed":
            mark_failed(span, event.reason or "response_failed")
        span.end()

    def _end_call(self, used: ef.RecordToolUse) -> str | None:
        span = self._calls.pop(used.call_id, None)
        if span is None:
            return self._traced.traceparent
        span.set_attribute("parley.outcome", used.status)
        span.set_attribute("parley.tool.attempt", used.attempts)
        if used.status != "ok":
            mark_failed(span, used.code or used.status)
        span.end()
        return traceparent_of(span) or self._traced.traceparent

    def _session(self) -> dict[str, str | int]:
        return {
            "parley.session_id": self._traced.session_id,
            "parley.business": self._traced.business,
            "gen_ai.conversation.id": self._traced.session_id,
        }

    def _now_ns(self) -> int:
        return int(self._clock.now().timestamp() * 1_000) * NS_PER_MS


def _usage(usage: ResponseUsage) -> dict[str, int]:
    return {
        "gen_ai.usage.input_tokens": usage.input_text + usage.input_audio + usage.input_image,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_text + usage.cached_audio + usage.cached_image,
        "gen_ai.usage.output_tokens": usage.output_text + usage.output_audio,
    }
