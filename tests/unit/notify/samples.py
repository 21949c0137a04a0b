"""What the notify tests tell and send: one fictional business, one fact of each kind, full and bare, and deliveries."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from parley_common.business import Business, load
from parley_common.contracts.cases import CaseClosed, CaseOpened, CaseUpdated
from parley_common.contracts.leads import (
    LeadCallScheduled,
    LeadCaptured,
    LeadDisqualified,
    LeadErased,
    LeadQualified,
    LeadUpdated,
)
from parley_common.contracts.people import Consent, Person
from parley_common.contracts.record import Envelope, Fact, to_json
from parley_common.ids import derived_id, new_id
from parley_notify.delivery import Delivery, host_of

AT = datetime(2026, 1, 5, 17, 0, tzinfo=UTC)
DANA = Person(name="Dana Reyes", email="dana.reyes@example.com", phone="+13125550142")
INTEREST: dict[str, Any] = {
    "product": "rental loan",
    "purchase_price": 450_000,
    "down_payment_percent": 25.0,
    "first_time": False,
    "goals": ["cash flow", "refinance later"],
}
LEAD = "0199a0de-0000-7000-8000-00000000001a"
CASE = "0199a0de-0000-7000-8000-00000000002b"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def _base(**more: Any) -> dict[str, Any]:
    return {"seq": 1, "business": "harbor", "at": AT} | more


def captured(lead_id: str = LEAD, **changes: Any) -> LeadCaptured:
    consent = Consent(given=True, at=AT, wording="May we keep your details?")
    values = {"person": DANA, "consent": consent, "interest": INTEREST} | changes
    return LeadCaptured.model_validate(_base(lead_id=lead_id, **values))


def qualified(lead_id: str = LEAD, **changes: Any) -> LeadQualified:
    values = {"seq": 2, "score": 86, "disposition": "hot", "person": DANA} | changes
    return LeadQualified.model_validate(_base(lead_id=lead_id, **values))


def erased(lead_id: str = LEAD, **changes: Any) -> LeadErased:
    return LeadErased.model_validate(_base(lead_id=lead_id, **({"seq": 9, "subject_hash": "ab12"} | changes)))


def opened(case_id: str = CASE, **changes: Any) -> CaseOpened:
    values = {"kind": "call_back", "summary": "Wants a call back.", "person": DANA} | changes
    return CaseOpened.model_validate(_base(case_id=case_id, **values))


def full_facts() -> list[Fact]:
    """Return one fact of each kind with every field filled."""
    lead = _base(lead_id=LEAD, session_id="s-1")
    case = _base(case_id=CASE, session_id="s-1", kind="call_back", person=DANA)
    details = {"loan_number": "H-20418", "best_time": "afternoon"}
    reasons = ("Credit score is 740 or better",)
    return [
        captured(session_id="s-1", page="https://harbor.example.com/rates"),
        LeadUpdated.model_validate(lead | {"person": DANA, "interest": INTEREST, "changed": ("phone",)}),
        qualified(interest=INTEREST, reasons=reasons, offer="Fixed for 30 years", session_id="s-1"),
        LeadDisqualified.model_validate(
            lead
            | {
                "score": 22,
                "disposition": "nurture",
                "reasons": reasons,
                "person": DANA,
                "interest": INTEREST,
            }
        ),
        LeadCallScheduled.model_validate(
            lead
            | {
                "booking_id": "BK-1042",
                "starts_at": AT + timedelta(days=1),
                "ends_at": AT + timedelta(days=1, minutes=30),
                "time_zone": "America/Los_Angeles",
                "with_whom": "Morgan Lee",
                "person": DANA,
            }
        ),
        erased(),
        CaseOpened.model_validate(
            case | {"summary": "Escrow", "priority": "urgent", "queue": "servicing", "details": details}
        ),
        CaseUpdated.model_validate(
            case | {"summary": "Escrow", "status": "in_progress", "changed": ("status",), "details": details}
        ),
        CaseClosed.model_validate(case | {"resolution": "Called back."}),
    ]


def bare_facts() -> list[Fact]:
    """Return one fact of each kind with only what its contract requires."""
    nobody = Person()
    lead = _base(lead_id=LEAD, person=nobody)
    slot = {"booking_id": "B", "starts_at": AT, "ends_at": AT, "time_zone": "Nowhere/Unknown"}
    return [
        captured(person=nobody, interest={}, consent=Consent(given=False, at=AT, wording="")),
        LeadUpdated.model_validate(lead),
        LeadQualified.model_validate(lead | {"score": 0, "disposition": ""}),
        LeadDisqualified.model_validate(lead | {"score": 0, "disposition": ""}),
        LeadCallScheduled.model_validate(lead | slot),
        erased(),
        opened(person=None, summary=""),
        CaseUpdated.model_validate(_base(case_id=CASE, kind="x", summary="", status="")),
        CaseClosed.model_validate(_base(case_id=CASE, kind="x", resolution="")),
    ]


def envelope(fact: Fact, fact_id: str | None = None) -> Envelope:
    return Envelope(fact_id or new_id(), fact.fact_type, "/parley/tools", AT, fact.key, TRACEPARENT)


def delivery(fact: Fact | None = None, **changes: Any) -> Delivery:
    """Return a delivery at its first attempt, by e-mail unless told otherwise."""
    fact = fact or captured()
    fact_id = changes.pop("fact_id", new_id())
    route = changes.get("route", "sales")
    values: dict[str, Any] = {
        "delivery_id": derived_id(fact_id, route),
        "fact_id": fact_id,
        "fact_type": fact.fact_type,
        "fact_source": "/parley/tools",
        "fact_time": AT,
        "business": "harbor",
        "subject_id": fact.key,
        "seq": getattr(fact, "seq", 1),
        "route": route,
        "channel": "email",
        "destination": "sales@example.com",
        "template": None,
        "payload": to_json(fact).decode(),
        "traceparent": None,
        "tracestate": None,
        "attempts": 1,
        "created_at": AT,
    } | changes
    values.setdefault("host", host_of(values["channel"], values["destination"]))
    return Delivery(**values)


def business(root: Path, *routes: dict[str, Any], name: str = "harbor") -> Business:
    """Write a small business folder under ``root`` and read it back."""
    folder = root / name
    folder.mkdir(parents=True)
    config = {
        "name": name,
        "title": "Harbor Lending",
        "fictional": True,
        "time_zone": "America/Chicago",
        "agent": {"name": "Cap"},
        "routes": list(routes),
    }
    (folder / "business.yaml").write_text(yaml.safe_dump(config))
    (folder / "prompt.md").write_text("You are Cap.")
    return load(folder)


def route(name: str = "sales", *facts: str, channel: str = "email", **more: Any) -> dict[str, Any]:
    """Return a route as business.yaml has it; an e-mail route goes to sales@example.com."""
    to = {"to": "sales@example.com"} if channel == "email" else {}
    return {"name": name, "facts": list(facts or ("lead.captured",)), "channel": channel} | to | more
