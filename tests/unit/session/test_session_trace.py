"""The spans of a session, where the world is not kind: responses lost, calls asked twice, sessions that never begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from fakes.core_driver import Driver, call
from parley_common import telemetry
from parley_common.clock import ManualClock
from parley_session.core import effects as ef
from parley_session.core import events as ev
from parley_session.core.state import ResponseUsage
from parley_session.session_trace import SessionTrace, Traced

OPEN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ENDED = ef.EndSession("limit", "too_long", 9, 1, 0, 0, ResponseUsage(), None, 0, 0, "none")


class Kept(SpanExporter):
    """Keeps what is exported."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += spans
        return SpanExportResult.SUCCESS

    def one(self, name: str) -> ReadableSpan:
        (found,) = [span for span in self.spans if span.name == name]
        return found


class Traces(Driver):
    """A core whose steps and effects are traced, as the conductor does."""

    def __init__(self) -> None:
        super().__init__()
        self.trace = SessionTrace(Traced("s1", "cap", "model-1", "openai", OPEN), ManualClock())
        self.carried: list[str | None] = []
        """The context of each tool request and of each fact, in order."""

    def on(self, *events: ev.Event) -> tuple[ef.Effect, ...]:
        done: tuple[ef.Effect, ...] = ()
        for event in events:
            effects = super().on(event)
            self.trace.stepped(event, self.state)
            for effect in effects:
                self._perform(effect)
            done += effects
        self.did = done
        return done

    def _perform(self, effect: ef.Effect) -> None:
        if isinstance(effect, ef.RequestTool):
            self.carried.append(self.trace.requested(effect, self.state))
        elif isinstance(effect, ef.RecordTurn | ef.RecordToolUse):
            self.carried.append(self.trace.recorded(effect))


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    kept = Kept()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    monkeypatch.setattr(telemetry, "_tracer", provider.get_tracer("test"))
    return kept


def parent_of(span: ReadableSpan) -> str:
    assert span.parent is not None
    return f"{span.parent.span_id:016x}"


def id_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.span_id:016x}"


def test_a_repeated_call_is_one_span_below_the_response_that_asked(kept: Kept) -> None:
    d = Traces().start()
    assert isinstance(d, Traces)
    d.say("U1")
    d.on(ev.ResponseStarted("R1", None), ev.OutputItemDone("R1", call("F1", "c1")))
    d.on(ev.ResponseEnded("R1", "completed", usage=ResponseUsage(input_text=7, output_text=3)))
    d.wait(1_000)
    assert len(d.carried) == 2, "its deadline passed: it was asked again"
    assert d.carried[0] == d.carried[1]
    d.on(ev.ToolAnswered("c1", "refused", "{}", "not_today"))
    span, response = kept.one("execute_tool lookup"), kept.one("chat model-1")
    assert d.carried[0] == d.carried[2]
    assert parent_of(span) == id_of(response)
    assert span.attributes is not None
    assert span.attributes["error.type"] == "not_today"
    assert span.attributes["parley.tool.attempt"] == 2
    assert response.attributes is not None
    assert response.attributes["gen_ai.usage.input_tokens"] == 7


def test_a_response_without_a_turn_is_right_below_the_root(kept: Kept) -> None:
    d = Traces().start()
    assert isinstance(d, Traces)
    d.on(
        ev.ResponseStarted("R1", None), ev.ResponseEnded("R1", "failed", "server_error", "words of upstream")
    )
    span = kept.one("chat model-1")
    assert parent_of(span) == OPEN.split("-")[2]
    assert span.attributes is not None
    assert span.attributes["error.type"] == "server_error"
    assert "words of upstream" not in span.to_json()


def test_a_response_that_upstream_was_lost_in_ends_with_it(kept: Kept) -> None:
    d = Traces().start()
    assert isinstance(d, Traces)
    d.say("U1")
    d.on(ev.ResponseStarted("R1", None), ev.UpstreamLost(1006, ""))
    span = kept.one("chat model-1")
    assert span.attributes is not None
    assert span.attributes["error.type"] == "upstream_lost"


def test_what_is_open_when_the_session_ends_is_exported_and_says_so(kept: Kept) -> None:
    d = Traces().start()
    assert isinstance(d, Traces)
    d.say("U1")
    d.on(ev.ResponseStarted("R1", None))
    d.trace.finish(ENDED)
    turn, response = kept.one("turn"), kept.one("chat model-1")
    assert parent_of(response) == id_of(turn)
    for span in (turn, response):
        assert span.attributes is not None
        assert span.attributes["parley.outcome"] == "session_ended"


def test_a_session_that_ends_before_its_welcome_has_an_attach_that_failed(kept: Kept) -> None:
    trace = SessionTrace(Traced("s1", "cap", "model-1", "openai", OPEN), ManualClock())
    trace.begin()
    trace.finish(replace(ENDED, code="upstream_invalid_model"))
    span = kept.one("session.attach")
    assert span.attributes is not None
    assert span.attributes["error.type"] == "upstream_invalid_model"
    assert parent_of(span) == OPEN.split("-")[2]


def test_a_turn_lasts_as_long_as_it_was_recorded_and_its_fact_carries_its_context(kept: Kept) -> None:
    d = Traces().start()
    assert isinstance(d, Traces)
    d.say("U1")
    d.answer("R1", "A1", 1_000, "some words")
    d.report(d.number_of("A1"), 1_000)
    (recorded,) = [effect for effect in d.all if isinstance(effect, ef.RecordTurn)]
    span = kept.one("turn")
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.end_time - span.start_time == recorded.lasted_ms * 1_000_000
    assert d.carried == [f"00-{OPEN.split('-')[1]}-{id_of(span)}-01"]
    assert "some words" not in span.to_json()
