"""What our tools announce: the shape that sessions, models and the understudy rely on."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import jsonschema
import pytest
from openai.types.realtime import RealtimeFunctionTool

from parley_common.contracts.facts import BY_TYPE
from parley_common.contracts.record import read_contract, to_json
from parley_common.contracts.tool_calls import Announcement, ToolSpec
from parley_tools.kits import KITS
from parley_tools.registry import Registry
from parley_understudy.brain.schema import signature

SPECS = {spec.name: spec for spec in Registry.of_kits(KITS).specs()}
NAMES = sorted(SPECS)
FORBIDDEN = {"$ref", "$defs", "anyOf", "oneOf", "allOf"}

# What a business's prompt, a recorded session or another team's test may name. To take one away breaks them.
EXPECTED: dict[str, tuple[str, set[str], set[str]]] = {
    "analyze_deal": (
        "read",
        {"price_usd", "monthly_rent_usd"},
        {
            *("down_payment_pct", "down_payment_usd", "rate_pct", "term_years", "annual_taxes_usd"),
            *("annual_insurance_usd", "vacancy_pct", "maintenance_pct", "monthly_fees_usd"),
        },
    ),
    "research_market": ("read", {"area"}, {"property_type"}),
    "save_lead": (
        "reversible",
        {"name", "consent"},
        {"email", "phone", "product", "price_usd", "credit_score", "timeline", "notes"},
    ),
    "schedule_call": ("reversible", {"preferred_day"}, {"preferred_time", "time_zone", "lead_id"}),
    "score_lead": ("reversible", {"lead_id"}, {"credit_score", "dscr", "down_payment_pct", "timeline"}),
    "search_knowledge_base": ("read", {"query"}, set()),
    # shop
    "recommend_products": ("read", {"query"}, {"kind", "max_price_usd", "color", "size"}),
    "look_up_stock": ("read", {"product"}, {"size", "store_town"}),
    "reserve_in_store": ("reversible", {"product", "store_town", "name"}, {"size", "phone"}),
    "back_in_stock_alert": ("reversible", {"product"}, {"size"}),
    "add_to_cart": ("reversible", {"product", "quantity"}, {"size", "keep_other_size"}),
    "remove_from_cart": ("reversible", {"product"}, set()),
    "show_cart": ("read", set(), set()),
    "apply_promo_code": ("reversible", {"promo_code"}, set()),
    "check_out_and_pay": ("reversible", {"email"}, {"name"}),
    "order_status": ("reversible", {"email"}, {"order_number", "postcode"}),
    "start_return": ("reversible", {"product", "reason", "wanted"}, {"exchange_size", "quantity"}),
    "cancel_order": ("reversible", set(), {"order_number"}),
    # helpdesk
    "start_troubleshooting": ("reversible", {"problem"}, set()),
    "answer_troubleshooting": ("reversible", {"answer_is_yes"}, set()),
    "check_outage": ("read", {"town"}, set()),
    "open_ticket": ("reversible", {"problem", "name", "email"}, {"phone", "urgency"}),
    "check_ticket": ("reversible", {"ticket_number", "email"}, set()),
    "add_ticket_note": ("reversible", {"note"}, set()),
    "close_ticket": ("reversible", set(), set()),
    "escalate_to_person": ("reversible", {"problem"}, {"name", "phone", "urgency"}),
    "record_feedback": ("reversible", {"rating"}, {"recommend", "comment"}),
    "agree_credit_check": ("reversible", {"consent"}, set()),
    "assess_symptoms": ("reversible", {"symptoms"}, {"age_years", "days", "severity", "temperature_f"}),
    "book_appointment": (
        "reversible",
        {"reason", "preferred_day"},
        {"preferred_time", "doctor", "name", "phone", "email"},
    ),
    "cancel_appointment": ("reversible", set(), {"reference"}),
    "check_account_balance": ("read", set(), {"account"}),
    "check_application_status": ("read", set(), set()),
    "check_fraud_alerts": ("read", set(), set()),
    "describe_risk_profile": ("read", {"horizon_years", "loss_reaction"}, {"reserve_months", "security"}),
    "find_appointment": ("reversible", set(), {"reference", "phone"}),
    "find_insurance_plan": ("read", {"plan_name"}, set()),
    "freeze_card": ("reversible", {"reason"}, {"card", "last4"}),
    "list_prescriptions": ("read", set(), set()),
    "list_transactions": (
        "read",
        set(),
        {"account", "merchant", "from_day", "to_day", "min_amount_usd", "max_amount_usd", "direction"},
    ),
    "prequalify_loan": (
        "read",
        {"purpose", "amount_usd", "annual_income_usd", "monthly_debts_usd", "credit_score"},
        {"term_years"},
    ),
    "record_health_consent": ("reversible", {"consent"}, set()),
    "record_medical_history": ("reversible", {"category", "details"}, {"since_year"}),
    "refill_prescription": ("reversible", {"medication"}, set()),
    "report_fraud": ("reversible", {"details"}, {"merchant", "amount_usd"}),
    "reschedule_appointment": ("reversible", {"preferred_day"}, {"preferred_time", "doctor", "reference"}),
    "submit_loan_application": ("reversible", set(), set()),
    "verify_customer": ("reversible", {"customer_number", "date_of_birth", "security_word"}, set()),
    "verify_insurance": ("read", set(), {"service", "day"}),
    "verify_patient": ("reversible", {"name", "date_of_birth", "postcode"}, set()),
}


def nodes(schema: Any) -> Any:
    """Yield every object of a schema."""
    if isinstance(schema, dict):
        yield schema
        for value in schema.values():
            yield from nodes(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from nodes(value)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_tool_keeps_its_class_and_parameters(name: str) -> None:
    tool_class, required, optional = EXPECTED[name]
    schema = SPECS[name].parameters
    assert SPECS[name].tool_class == tool_class
    assert set(schema.get("required", [])) == required
    assert set(schema["properties"]) == required | optional


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_json_schema_that_needs_nothing_else(name: str) -> None:
    schema = SPECS[name].parameters
    jsonschema.Draft202012Validator.check_schema(schema)
    assert (schema["type"], schema["additionalProperties"]) == ("object", False)
    for node in nodes(schema):
        assert not FORBIDDEN & set(node)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_has_a_type_and_a_description_that_can_be_asked(name: str) -> None:
    for parameter, schema in SPECS[name].parameters["properties"].items():
        assert schema["type"] in ("string", "number", "integer", "boolean", "array"), parameter
        assert 8 <= len(schema["description"]) <= 200, parameter
        assert not re.search(r"[*`_]{2}|\n", schema["description"]), parameter


@pytest.mark.parametrize("name", NAMES)
def test_texts_and_numbers_from_callers_are_bounded(name: str) -> None:
    for parameter, schema in SPECS[name].parameters["properties"].items():
        if schema["type"] == "string" and "enum" not in schema:
            assert "maxLength" in schema, parameter
        if schema["type"] in ("number", "integer"):
            assert "maximum" in schema, parameter


@pytest.mark.parametrize("name", NAMES)
def test_the_realtime_api_takes_the_tool_as_it_is(name: str) -> None:
    spec = SPECS[name]
    RealtimeFunctionTool(type="function", name=name, description=spec.description, parameters=spec.parameters)
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name)
    assert 40 <= len(spec.description) <= 1_024


@pytest.mark.parametrize("name", NAMES)
def test_what_a_tool_may_emit_is_a_fact_and_what_is_personal_a_parameter(name: str) -> None:
    spec = SPECS[name]
    assert set(spec.emits) <= set(BY_TYPE)
    assert set(spec.personal) <= set(spec.parameters["properties"])
    for parameter in {"name", "email", "phone"} & set(spec.parameters["properties"]):
        assert parameter in spec.personal


@pytest.mark.parametrize(
    ("tool", "parameter", "kind", "unit"),
    [
        ("analyze_deal", "price_usd", "number", "usd"),
        ("analyze_deal", "down_payment_pct", "number", "percent"),
        ("analyze_deal", "term_years", "number", "year"),
        ("save_lead", "email", "email", None),
        ("save_lead", "phone", "phone", None),
        ("save_lead", "name", "name", None),
        ("save_lead", "consent", "boolean", None),
        ("schedule_call", "preferred_day", "date", None),
        ("schedule_call", "preferred_time", "time", None),
        ("search_knowledge_base", "query", "text", None),
        ("verify_patient", "name", "name", None),
        ("verify_patient", "date_of_birth", "date", None),
        ("verify_patient", "postcode", "code", None),
        ("verify_customer", "customer_number", "code", None),
        ("book_appointment", "reason", "text", None),
        ("book_appointment", "preferred_day", "date", None),
        ("refill_prescription", "medication", "plain", None),
        ("freeze_card", "reason", "enum", None),
        ("prequalify_loan", "amount_usd", "number", "usd"),
        ("list_transactions", "from_day", "date", None),
    ],
)
def test_the_understudy_reads_a_parameter_as_what_it_is(
    tool: str, parameter: str, kind: str, unit: str | None
) -> None:
    found = signature(tool, SPECS[tool].parameters).get(parameter)
    assert found is not None
    assert (found.kind, found.unit) == (kind, unit)


def test_consent_is_asked_for_and_an_id_is_not() -> None:
    consent = signature("save_lead", SPECS["save_lead"].parameters).get("consent")
    lead_id = signature("score_lead", SPECS["score_lead"].parameters).get("lead_id")
    assert consent is not None
    assert consent.consent
    assert lead_id is not None
    assert lead_id.internal


def test_an_announcement_survives_its_way_through_kafka() -> None:
    said = Announcement(
        service="tools",
        instance="tools-1",
        calls_topic="parley.tool.calls.tools",
        tools=tuple(SPECS.values()),
        announced_at=datetime(2026, 1, 5, tzinfo=UTC),
    )
    value = to_json(said)
    assert read_contract(Announcement, value) == said
    classes = {each["name"]: each["class"] for each in json.loads(value)["tools"]}
    assert classes["analyze_deal"] == "read"
    assert len(value) < 512_000  # half of what a broker takes by default
    assert all(isinstance(spec, ToolSpec) for spec in said.tools)
