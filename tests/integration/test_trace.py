"""One session from outside: one trace from `open` to e-mail and webhook, logs that join it, and nobody's name."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from harness.docs import Page
from harness.kafka import kinds_to_try, start_broker
from harness.maildir import Mail
from harness.otlp import OtlpCollector, Span
from harness.processes import Processes
from harness.running import RunningParley
from harness.telemetry_page import TelemetryPage
from harness.waiting import until_blocking
from harness.webhook_receiver import Request, WebhookReceiver
from parley_launcher.talk.turns import spoken, typed
from parley_understudy.light_voice import speech_like

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("gateway", "session", "tools", "notify")
NAME, EMAIL, PHONE = "Quillan Vexworth", "quillan.vexworth@example.com", "415-555-0164"
CANARIES = ("Quillan", "Vexworth", "vexworth", PHONE, "5550164", "555-0164")
SCRIPT = (
    "Hi, I want to buy a rental property for three hundred thousand dollars with twenty five percent down.",
    "The property brings in about two thousand four hundred dollars a month in rent.",
    f"My name is {NAME}.",
    f"My email is {EMAIL}.",
    f"My phone number is {PHONE}.",
    "Yes, I agree.",
    "Yes, that's correct.",
)
QUESTION = "What is the difference between a bridge loan and a rental loan?"
OBJECTION = "Is there a prepayment penalty on that?"
TOLD_S = 60.0
EXPORTED_S = 30.0


@dataclass(frozen=True)
class Seen:
    """What one session left behind, everywhere."""

    session_id: str
    spans: tuple[Span, ...]
    """Of the session's trace only."""
    all_spans: tuple[Span, ...]
    exports: bytes
    logs: dict[str, str]
    """By process; what `parley up` itself printed is there too."""
    metrics: dict[str, str]
    """The text of /metrics by service."""
    mail: Mail
    webhook: Request

    @property
    def trace_id(self) -> str:
        return self.spans[0].trace_id

    def one(self, name: str) -> Span:
        found = [span for span in self.spans if span.name == name]
        assert len(found) == 1, f"{name}: {len(found)} spans"
        return found[0]

    def path_to(self, span: Span) -> list[str]:
        """Return ``service: name`` of a span and of all that it stands under, the root first."""
        by_id = {each.span_id: each for each in self.spans}
        path = []
        at: Span | None = span
        while at is not None:
            path.append(f"{at.service.removeprefix('parley-')}: {at.name}")
            at = by_id.get(at.parent_id)
        return path[::-1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trace")


@pytest.fixture(scope="module")
def collector() -> Iterator[OtlpCollector]:
    with OtlpCollector() as running:
        yield running


@pytest.fixture(scope="module")
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as running:
        yield running


@pytest.fixture(scope="module")
def seen(folder: Path, collector: OtlpCollector, receiver: WebhookReceiver) -> Seen:
    """One typed session that leaves a lead, in a Parley that is stopped when everything was told.

    After it a spoken one with a barge-in, of which only numbers are looked at.
    """
    broker, _ = start_broker(kinds_to_try())
    with closing(broker), Processes(folder) as processes:
        parley = RunningParley(
            processes,
            folder / "state",
            broker,
            UNDERSTUDY_LIGHT="true",
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
            PARLEY_LOG_LEVEL="debug",
            NOTIFY_WEBHOOK_URL=receiver.url,
            NOTIFY_WEBHOOK_KEYS="trace:trace-test-secret",
        )
        session_id = asyncio.run(leave_a_lead(parley))
        asyncio.run(talk_over_the_agent(parley))
        until_blocking(lambda: parley.mails() and receiver.requests, TOLD_S, "a mail and a webhook")
        for name in ("deliver email", "deliver webhook"):
            until_blocking(lambda name=name: collector.spans(name), EXPORTED_S, f"the span {name}")
        metrics = {name: metrics_of(parley, name) for name in SERVICES}
        assert parley.stop() in {0, 130}
        logs = {path.stem: path.read_text("utf-8") for path in (folder / "state" / "logs").iterdir()}
        logs["up"] = parley.proc.log()
        (mail,), (webhook,) = parley.mails(), receiver.requests
    (root,) = [
        span for span in collector.spans("session.open") if span.attributes["parley.session_id"] == session_id
    ]
    return Seen(
        session_id,
        tuple(collector.spans(trace_id=root.trace_id)),
        tuple(collector.spans()),
        b"".join(collector.exports),
        logs,
        metrics,
        mail,
        webhook,
    )


async def leave_a_lead(parley: RunningParley) -> str:
    """Hold the session; returns its id."""
    report = await parley.talk(*map(typed, SCRIPT), max_s=200)
    assert report.failure is None, report.failure
    used = [(tool.name, tool.outcome) for tool in report.tools]
    assert used == [("analyze_deal", "ok"), ("save_lead", "ok"), ("score_lead", "ok")]
    return str(report.session_id)


async def talk_over_the_agent(parley: RunningParley) -> None:
    """Hold a spoken session in which the agent is barged in upon."""
    script = [
        spoken(QUESTION, speech_like(QUESTION, "ash", 1.0)),
        spoken(OBJECTION, speech_like(OBJECTION, "ash", 1.0), barge_in_ms=1_500),
    ]
    report = await parley.talk(*script, max_s=120)
    assert report.failure is None, report.failure
    assert len(report.flushes) == 1


def metrics_of(parley: RunningParley, service: str) -> str:
    return httpx.get(f"http://127.0.0.1:{parley.ports[f'{service.upper()}_PORT']}/metrics").text


@pytest.fixture(scope="module")
def page() -> TelemetryPage:
    return TelemetryPage(Page("docs/telemetry.md", (ROOT / "docs" / "telemetry.md").read_text("utf-8")))


@pytest.mark.parametrize("channel", ["email", "webhook"])
def test_one_trace_leads_from_the_clients_open_to_what_was_delivered(seen: Seen, channel: str) -> None:
    (model,) = {s.name for s in seen.spans if s.name.startswith("chat ")}
    assert seen.path_to(seen.one(f"deliver {channel}")) == [
        "gateway: session.open",
        "session: turn",
        f"session: {model}",
        "session: execute_tool score_lead",
        "tools: tool.call",
        "tools: outbox.publish",
        "notify: process parley.lead.events",
        f"notify: deliver {channel}",
    ]


def test_every_span_of_the_session_is_in_that_one_trace_and_below_its_root(seen: Seen) -> None:
    of_session = [s for s in seen.all_spans if s.attributes.get("parley.session_id") == seen.session_id]
    assert {span.trace_id for span in of_session} == {seen.trace_id}
    assert {seen.path_to(span)[0] for span in seen.spans} == {"gateway: session.open"}
    assert seen.one("session.open").parent_id, "the client's own context is above it"
    assert seen.path_to(seen.one("session.attach")) == ["gateway: session.open", "session: session.attach"]
    assert [span.name for span in seen.spans if span.is_error] == []


def test_the_root_is_short_and_there_is_no_span_for_a_frame(seen: Seen) -> None:
    turns = [span for span in seen.spans if span.name == "turn"]
    assert len(turns) == len(SCRIPT)
    assert seen.one("session.open").ended_ns <= min(turn.started_ns for turn in turns)
    # A turn has itself, a few responses and calls, and what becomes of them; speech would have 50 frames a second.
    assert len(seen.spans) < 20 * len(SCRIPT)


def test_responses_say_by_the_gen_ai_conventions_what_they_were_and_used(seen: Seen) -> None:
    answers = [s for s in seen.spans if s.name.startswith("chat ") and "session: turn" in seen.path_to(s)]
    assert answers
    for span in answers:
        assert span.attributes["gen_ai.operation.name"] == "chat"
        assert span.name == f"chat {span.attributes['gen_ai.request.model']}"
        assert span.attributes["gen_ai.conversation.id"] == seen.session_id
        assert span.attributes["gen_ai.response.finish_reasons"] == ["completed"]
        used = span.attributes["gen_ai.usage.input_tokens"]
        assert isinstance(used, int)
        assert used > 0


def test_the_webhook_and_the_mail_carry_the_context_of_their_delivery(seen: Seen) -> None:
    for sent, channel in (
        (seen.webhook.headers["traceparent"], "webhook"),
        (seen.mail.headers["x-parley-traceparent"], "email"),
    ):
        assert sent.split("-")[1:3] == [seen.trace_id, seen.one(f"deliver {channel}").span_id]


@pytest.mark.parametrize("service", SERVICES)
def test_the_logs_of_every_process_join_the_session_by_both_ids(seen: Seen, service: str) -> None:
    entries = [json.loads(line) for line in seen.logs[service].splitlines() if line.startswith("{")]
    joined = [entry for entry in entries if entry.get("session_id") == seen.session_id]
    assert joined, f"{service}: no line of the session"
    assert {entry.get("trace_id") for entry in joined} == {seen.trace_id}


@pytest.mark.parametrize("canary", CANARIES)
def test_nothing_of_the_caller_is_in_a_span_a_log_line_or_a_metric(seen: Seen, canary: str) -> None:
    assert NAME in seen.mail.text, "the canaries were there to leak"
    assert canary.encode() not in seen.exports
    for where in (seen.logs, seen.metrics):
        leaks = [(name, line) for name, text in where.items() for line in text.splitlines() if canary in line]
        assert leaks == []


def test_every_emitted_span_and_attribute_is_on_the_page(seen: Seen, page: TelemetryPage) -> None:
    assert {span.name for span in seen.all_spans if page.span(span.name) is None} == set()
    for span in seen.all_spans:
        row = page.span(span.name)
        assert row is not None
        assert set(span.attributes) - row.attributes == set(), span.name


def test_every_emitted_metric_is_on_the_page_with_its_labels(seen: Seen, page: TelemetryPage) -> None:
    told = {row.name: row for row in page.metrics}
    for text in seen.metrics.values():
        for family in text_string_to_metric_families(text):
            if not family.name.startswith("parley_"):
                continue
            name = f"{family.name}_total" if family.type == "counter" else family.name
            assert told[name].type == family.type
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            assert labels <= told[name].labels, name


def test_the_numbers_that_rule_the_house_were_measured(seen: Seen) -> None:
    session = seen.metrics["session"]
    for name in ("voice_to_voice_ms", "turn_detection_ms", "response_ms", "first_audio_ms"):
        assert counted(session, f"parley_{name}") > 0, name
    for name in ("barge_in_to_silence_ms", "truncation_error_ms"):
        assert counted(session, f"parley_{name}") == 1, name
    assert counted(session, "parley_tool_round_trip_ms", 'tool="save_lead"') == 1
    for service in SERVICES:
        assert counted(seen.metrics[service], "parley_event_loop_lag_ms") > 0, service
    assert re.search(r'^parley_tokens_total\{business="cap",kind="input_text"\} [1-9]', session, re.MULTILINE)
    assert re.search(r"^parley_outbox_age_s\{", seen.metrics["tools"], re.MULTILINE)


def counted(metrics: str, name: str, label: str = "") -> int:
    """Return how many observations a histogram has."""
    labels = r"(?:\{[^}]*\})?" if not label else r"\{" + re.escape(label) + r"\}"
    found = re.findall(rf"^{name}_count{labels} ([\d.]+)$", metrics, re.MULTILINE)
    return sum(int(float(each)) for each in found)
