"""Each record is one line with what matters, and never with personal data."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_common.contracts import cases, deliveries, leads, sessions
from parley_common.contracts.facts import BY_TYPE
from parley_common.contracts.people import Consent, Person
from parley_common.contracts.record import Fact, fact_record, to_json
from parley_common.contracts.tool_calls import CALL_TYPE, RESULT_TYPE, ToolCall, ToolResult
from parley_common.kafka import Incoming
from parley_launcher.facts.follow import default_topics
from parley_launcher.facts.render import _DETAILS, FactReader, is_of_session, short

AT = datetime(2026, 1, 5, 17, 0, 3, tzinfo=UTC)
SESSION = "0198c0de-0000-7000-8000-00004f0c2a91"
LEAD = "0198c0de-0000-7000-8000-0000aaaabbbb"
PERSON = Person(name="Daniel Cooper", email="daniel.cooper@example.com", phone="+14155550132")
SECRETS = ("Daniel", "Cooper", "example.com", "555", "secret words")


def record_of(fact: Fact) -> Incoming:
    made = fact_record(fact, source="test", time=AT, fact_id="fact-1")
    return Incoming(made.topic, 3, 42, made.key, made.value, made.headers, 1_767_632_403_000)


def tool_record(topic: str, type_name: str, value: bytes) -> Incoming:
    headers = (("ce_id", b"1"), ("ce_type", type_name.encode()), ("ce_time", AT.isoformat().encode()))
    return Incoming(topic, 0, 0, SESSION.encode(), value, headers, 0)


SESSION_FIELDS: dict[str, Any] = {"session_id": SESSION, "business": "cap", "at": AT}
LEAD_FIELDS: dict[str, Any] = {"lead_id": LEAD, "seq": 1, "business": "cap", "session_id": SESSION, "at": AT}
DELIVERY_FIELDS: dict[str, Any] = {
    "delivery_id": "d1",
    "subject_id": LEAD,
    "seq": 1,
    "business": "cap",
    "fact_id": "fact-1",
    "fact_type_told": "parley.lead.captured.v1",
    "route": "desk",
    "channel": "email",
    "attempts": 2,
    "at": AT,
}


@pytest.mark.parametrize(
    ("fact", "kind", "details"),
    [
        (
            sessions.SessionStarted(
                **SESSION_FIELDS, business_version="1", channel="cli", mode="voice", model="m-1", replica="r"
            ),
            "session.started",
            "cap  cli  voice  m-1",
        ),
        (
            sessions.TurnCompleted(
                **SESSION_FIELDS,
                turn=2,
                mode="voice",
                barged_in=True,
                heard_ms=740,
                spoken_ms=3_200,
                voice_to_voice_ms=612,
                caller_text="secret words",
                agent_heard_text="secret words",
            ),
            "turn.completed",
            "turn 2  voice to voice 612 ms  barged in after 740 ms of 3.2 s",
        ),
        (
            sessions.ToolUsed(
                **SESSION_FIELDS,
                call_id="c",
                service="tools",
                tool="save_lead",
                status="ok",
                round_trip_ms=31,
            ),
            "tool.used",
            "save_lead  ok  31 ms",
        ),
        (
            sessions.SessionFeedback(**SESSION_FIELDS, rating=5, comment="secret words"),
            "session.feedback",
            "rating 5",
        ),
        (
            sessions.SessionEnded(
                **SESSION_FIELDS, reason="caller", duration_ms=92_000, turns=1, cost_usd=0.0123
            ),
            "session.ended",
            "caller  1 min 32 s  1 turn  $0.0123",
        ),
        (
            leads.LeadCaptured(
                **LEAD_FIELDS,
                person=PERSON,
                consent=Consent(given=True, at=AT, wording="secret words"),
                interest={"note": "secret words"},
                page="https://example.com/secret",
            ),
            "lead.captured",
            "cap  lead aaaabbbb",
        ),
        (
            leads.LeadQualified(**LEAD_FIELDS, score=82, disposition="hot", person=PERSON),
            "lead.qualified",
            "score 82  hot",
        ),
        (
            cases.CaseOpened(
                case_id="case-1",
                seq=1,
                business="shop",
                session_id=SESSION,
                at=AT,
                kind="ticket",
                summary="secret words",
                person=PERSON,
                queue="repairs",
            ),
            "case.opened",
            "ticket  normal  repairs",
        ),
        (
            deliveries.DeliveryDelivered(**DELIVERY_FIELDS),
            "delivery.delivered",
            "email  desk  of lead.captured  2 attempts",
        ),
    ],
)
def test_a_fact_is_one_line_of_what_matters(fact: Fact, kind: str, details: str) -> None:
    line = FactReader().read(record_of(fact))

    assert (line.kind, line.details) == (kind, details)
    shown = line.text().plain + json.dumps(line.as_json())
    assert not [secret for secret in SECRETS if secret in shown]
    assert "\n" not in line.text().plain


def test_a_tool_call_and_its_result_show_no_arguments_and_no_output() -> None:
    call = ToolCall(
        call_id="c",
        session_id=SESSION,
        business="cap",
        business_version="1",
        tool="save_lead",
        arguments={"name": "Daniel Cooper"},
        attempt=2,
        deadline_ms=8_000,
        reply_partition=0,
    )
    result = ToolResult(
        call_id="c",
        session_id=SESSION,
        tool="save_lead",
        attempt=2,
        status="failed",
        output={"say": "secret words"},
        code="database_down",
        took_ms=1_900,
    )
    reader = FactReader()
    called = reader.read(tool_record("parley.tool.calls.tools", CALL_TYPE, to_json(call)))
    answered = reader.read(tool_record("parley.tool.results", RESULT_TYPE, to_json(result)))

    assert (called.kind, called.details) == ("tool.call", "save_lead  attempt 2")
    assert (answered.kind, answered.details) == (
        "tool.result",
        "save_lead  failed  code database_down  1.9 s",
    )
    assert answered.style == "red"
    shown = called.text().plain + answered.text().plain
    assert not [secret for secret in SECRETS if secret in shown]


def test_every_type_of_the_contracts_has_its_line() -> None:
    assert set(BY_TYPE) | {CALL_TYPE, RESULT_TYPE} == set(_DETAILS)


def test_a_delivery_is_told_with_the_session_its_lead_came_from() -> None:
    reader = FactReader()
    delivered = deliveries.DeliveryDelivered(**DELIVERY_FIELDS)
    assert reader.read(record_of(delivered)).session is None

    reader.read(record_of(leads.LeadQualified(**LEAD_FIELDS, score=1, disposition="cold", person=PERSON)))
    line = reader.read(record_of(delivered))

    assert line.session == SESSION
    assert is_of_session(line, "4f0c2a91")
    assert not is_of_session(line, "ffffffff")


def test_a_dead_letter_is_shown_as_one() -> None:
    record = record_of(leads.LeadQualified(**LEAD_FIELDS, score=1, disposition="cold", person=PERSON))
    dead = Incoming(
        record.topic + ".dead", 0, 0, record.key, record.value, record.headers, record.timestamp_ms
    )

    assert FactReader().read(dead).details == "dead letter: score 1  cold"


def test_a_record_without_an_envelope_is_shown_by_its_topic() -> None:
    line = FactReader().read(
        Incoming("parley.lead.events", 0, 0, None, b"\xff not json", (), 1_767_632_403_000)
    )

    assert (line.kind, line.at, line.session) == ("? parley.lead.events", AT, None)


def test_foreign_text_cannot_move_the_cursor() -> None:
    value = json.dumps({"business": "\x1b[2Jcap\n", "channel": "x" * 400}).encode()
    line = FactReader().read(tool_record("parley.session.events", "parley.session.started.v1", value))

    assert "\x1b" not in line.details
    assert "\n" not in line.details
    assert len(line.details) <= 160


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
FIELD_NAMES = [
    "attempts",
    "attempt",
    "took_ms",
    "turns",
    "changed",
    "status",
    "reason",
    "lead_id",
    "session_id",
    "code",
]


@given(
    st.sampled_from([*sorted(_DETAILS), "parley.unknown.v9", ""]),
    st.dictionaries(st.sampled_from(FIELD_NAMES), json_values, max_size=6) | json_values,
)
def test_no_value_breaks_a_line(type_name: str, value: object) -> None:
    line = FactReader().read(tool_record("parley.session.events", type_name, json.dumps(value).encode()))

    assert "\n" not in line.text().plain


def test_by_default_facts_tool_calls_results_and_dead_letters_are_followed() -> None:
    known = [
        "parley.tool.catalog",
        "parley.tool.calls.tools",
        "parley.tool.calls.weather",
        "parley.tool.results",
        "parley.session.events",
        "parley.lead.events",
        "parley.lead.events.dead",
        "parley.usage",
        "orders",
    ]

    assert default_topics(known) == [
        "parley.lead.events",
        "parley.lead.events.dead",
        "parley.session.events",
        "parley.tool.calls.tools",
        "parley.tool.calls.weather",
        "parley.tool.results",
    ]


def test_a_session_is_short_by_the_end_of_its_id() -> None:
    assert (short(SESSION), short(None)) == ("4f0c2a91", "-")
