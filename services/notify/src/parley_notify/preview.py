"""Shows what a fact looks like as a letter, and says which routes of a business could never deliver. Sends nothing.

`parley preview` and `parley check` run it; it needs no settings, no database and no Kafka.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from parley_common import yaml_source
from parley_common.business import Business, Finding, line_of, load
from parley_common.contracts.facts import BY_TYPE
from parley_common.contracts.record import Fact, to_json
from parley_common.errors import ConfigInvalid
from parley_notify.delivery import Delivery
from parley_notify.letters import TEMPLATES, Letter, Letters
from parley_notify.routes import fact_name, faults

AT = datetime(2026, 3, 2, 15, 6, 30, tzinfo=UTC)
ID = "0198c0de-6b21-7c4f-8d52-3a7e9f1b2c02"
PERSON = {"name": "Ada Example", "email": "ada@example.com", "phone": "+14155550123"}
INTEREST = {
    "product": "30-year fixed",
    "price": 450_000,
    "down_payment_percent": 20.0,
    "credit_score": 742,
    "first_home": True,
    "goals": ["lower payment", "close before June"],
}
CONSENT = {"given": True, "at": AT, "wording": "May we keep your details and contact you about this?"}
SLOT = {
    "starts_at": "2026-03-04T17:30:00Z",
    "ends_at": "2026-03-04T18:00:00Z",
    "time_zone": "America/New_York",
}
DETAILS = {"best_time": "afternoon", "account": "ends in 4417", "attempts": 2}
REASONS = ["Credit score is 740 or better", "Puts 20 % down", "Wants to close within 90 days"]
FULL: dict[str, dict[str, Any]] = {
    "lead.captured": {
        "person": PERSON,
        "consent": CONSENT,
        "interest": INTEREST,
        "page": "https://www.example.com/loans",
    },
    "lead.updated": {"person": PERSON, "interest": INTEREST, "changed": ["phone", "price"]},
    "lead.qualified": {
        "score": 87,
        "disposition": "hot",
        "reasons": REASONS,
        "offer": "30-year fixed at 6.125 %",
        "person": PERSON,
        "interest": INTEREST,
        "rules_version": "7",
    },
    "lead.disqualified": {
        "score": 31,
        "disposition": "nurture",
        "reasons": ["Credit score is below 620"],
        "person": PERSON,
        "interest": INTEREST,
        "rules_version": "7",
    },
    "lead.call_scheduled": {
        "booking_id": "bk-20260304",
        "with_whom": "Grace Example",
        "person": PERSON,
        **SLOT,
    },
    "lead.erased": {"subject_hash": "9b74c9897bac770ffc029102a200c5de"},
    "case.opened": {
        "kind": "support_ticket",
        "summary": "The card was declined twice at a shop; the balance is fine.",
        "person": PERSON,
        "priority": "high",
        "queue": "cards",
        "details": DETAILS,
    },
    "case.updated": {
        "kind": "support_ticket",
        "summary": "The caller rang again about the declined card.",
        "person": PERSON,
        "status": "in_progress",
        "changed": ["priority", "queue"],
        "details": DETAILS,
    },
    "case.closed": {"kind": "support_ticket", "resolution": "The block was lifted.", "person": PERSON},
}
"""One fact of each kind with everything in it. Its people are invented."""
BARE: dict[str, dict[str, Any]] = {
    "lead.captured": {"person": {}, "consent": {"given": False, "at": AT, "wording": ""}},
    "lead.updated": {"person": {}},
    "lead.qualified": {"score": 0, "disposition": "warm", "person": {}},
    "lead.disqualified": {"score": 0, "disposition": "cold", "person": {}},
    "lead.call_scheduled": {"booking_id": "bk-1", "person": {}, **SLOT},
    "lead.erased": {"subject_hash": ""},
    "case.opened": {"kind": "case", "summary": ""},
    "case.updated": {"kind": "case", "summary": "", "status": "open"},
    "case.closed": {"kind": "case", "resolution": ""},
}
"""The same with nothing but what its contract demands."""


def sample(name: str, business: str, *, bare: bool = False) -> Fact:
    """Return the sample of a fact, by the name that routes use."""
    subject = {"lead_id": ID} if name.startswith("lead.") else {"case_id": ID}
    session = {} if bare else {"session_id": "0198c0de-5a10-7b3e-9c41-2f6d8e0a1b01"}
    told = {**subject, **session, "seq": 1, "business": business, "at": AT, **(BARE if bare else FULL)[name]}
    model = next(model for kind, model in BY_TYPE.items() if fact_name(kind) == name)
    return model.model_validate(told)


def preview(fact: Fact, business: Business, *, template: str | None = None) -> Letter:
    """Return the letter of a fact. Raises jinja2.TemplateError for a template that is broken."""
    told = Delivery(
        delivery_id="preview",
        fact_id="preview",
        fact_type=fact.fact_type,
        fact_source="/parley/preview",
        fact_time=AT,
        business=business.name,
        subject_id=ID,
        seq=1,
        route="preview",
        channel="email",
        destination="preview@example.com",
        host="example.com",
        template=template,
        payload=to_json(fact).decode(),
        traceparent=None,
        tracestate=None,
        attempts=1,
        created_at=AT,
    )
    return Letters({business.name: business}).write(told, told.payload or "")


def check(folder: Path) -> list[Finding]:
    """Return the routes of a business that could never deliver, with their lines."""
    business = load(folder)
    file = folder / "business.yaml"
    node, _ = yaml_source.parse(file.read_text(encoding="utf-8"))
    return [
        Finding("error", file, line_of(node, ("routes", number, place)), f"routes.{number}.{place}: {fault}")
        for number, place, fault in faults(business, templates=TEMPLATES, https_only=False)
    ]


def main(argv: Sequence[str]) -> int:
    """Run `preview` or `check`; 0 when it could be shown, or nothing is wrong."""
    parser = argparse.ArgumentParser(prog="parley-notify")
    commands = parser.add_subparsers(dest="command", required=True)
    shown = commands.add_parser("preview")
    shown.add_argument("fact")
    shown.add_argument("folder", type=Path)
    shown.add_argument("--template")
    shown.add_argument("--bare", action="store_true")
    shown.add_argument("--html", type=Path, help="where to write the HTML")
    checked = commands.add_parser("check")
    checked.add_argument("folder", type=Path)
    checked.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    try:
        return _check(options) if options.command == "check" else _preview(options)
    except ConfigInvalid as wrong:
        print(wrong, file=sys.stderr)
        return wrong.exit_code


def _check(options: argparse.Namespace) -> int:
    findings = check(options.folder)
    for finding in findings:
        print(json.dumps(asdict(finding) | {"file": str(finding.file)}) if options.json else finding)
    return 1 if findings else 0


def _preview(options: argparse.Namespace) -> int:
    for name in (options.fact, options.template):
        if name is not None and name not in TEMPLATES:
            raise ConfigInvalid(
                f"there is no letter {name}", remedy=f"there are {', '.join(sorted(TEMPLATES))}"
            )
    business = load(options.folder)
    fact = sample(options.fact, business.name, bare=options.bare)
    letter = preview(fact, business, template=options.template)
    if options.html is not None:
        options.html.parent.mkdir(parents=True, exist_ok=True)
        options.html.write_text(letter.html, encoding="utf-8")
    print(f"Subject: {letter.subject}\n\n{letter.text}", end="")
    return 0
