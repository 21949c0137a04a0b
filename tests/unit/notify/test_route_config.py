"""Routes as business.yaml has them: what can never work is said with file and line, before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from parley_common.business import check
from parley_notify import preview

HEAD = """\
name: harbor
title: Harbor Lending
agent: {name: Cap}
routes:
"""


def findings(folder: Path, routes: str) -> list[str]:
    """Return what `parley check` says of a business with these routes; the first stands on line 5."""
    place = folder / "harbor"
    place.mkdir()
    (place / "business.yaml").write_text(HEAD + routes)
    (place / "prompt.md").write_text("You are Cap.")
    found = check(place) or preview.check(place)
    return [f"{finding.line}: {finding.severity}: {finding.message}" for finding in found]


def test_routes_on_every_channel_pass(tmp_path: Path) -> None:
    routes = """\
  - {name: a, facts: [lead.captured], channel: email, to: sales@example.com, template: lead.qualified}
  - {name: b, facts: [lead.erased], channel: webhook, to: "https://crm.example.com/in"}
  - {name: c, facts: [case.opened], channel: slack, to: desk, when: {kinds: [refill]}}
  - {name: d, facts: [lead.qualified], channel: hubspot, fields: {score: lead_score, interest.product: product}}
  - {name: e, facts: [lead.qualified], channel: salesforce, fields: {person.phone: MobilePhone}, when: {min_score: 70}}
"""
    assert findings(tmp_path, routes) == []


@pytest.mark.parametrize(
    ("route", "said"),
    [
        ("channel: pager", "routes.0.channel: Input should be"),
        ("channel: email", "an email route needs `to`"),
        ("channel: webhook, fields: {score: s}", "`fields` are for CRM channels"),
        ("channel: hubspot, to: someone", "a hubspot route has no `to`"),
        ("channel: hubspot, fields: {score: lead score}", "no field's name in a CRM"),
        ("channel: hubspot, fields: {score: a, offer: a}", "two of our values go into one field"),
        ("channel: hubspot, fields: {scores: a}", "'scores' is in none of the facts"),
        ("channel: salesforce, fields: {person.mail: Email}", "a person has no 'mail'"),
        ("channel: salesforce, fields: {person: Email}", "a person has no 'value of its own'"),
        ("channel: webhook, when: {min_score: 90, max_score: 10}", "min_score is above max_score"),
        ("channel: webhook, when: {hours: sometimes}", "routes.0.when.hours: Input should be"),
        ("channel: webhook, when: {mood: good}", "routes.0.when.mood: Extra inputs"),
        ("channel: webhook, to: crm", "routes.0.to: its `to` is not like https"),
        ("channel: slack, to: 'ftp://x.example.com/'", "routes.0.to: its `to` is not like https"),
        ("channel: slack, template: lead.praised", "routes.0.template: there is no template lead.praised"),
    ],
)
def test_a_route_that_can_never_work_is_said_with_its_line(tmp_path: Path, route: str, said: str) -> None:
    (finding,) = findings(tmp_path, f"  - {{name: a, facts: [lead.qualified], {route}}}\n")
    assert finding.startswith("5: error: ")
    assert said in finding


def test_a_crm_route_cannot_tell_of_an_erasure(tmp_path: Path) -> None:
    (finding,) = findings(tmp_path, "  - {name: a, facts: [lead.erased], channel: hubspot}\n")
    assert "an erased lead has not" in finding


def test_the_line_is_the_one_of_the_key_at_fault(tmp_path: Path) -> None:
    routes = """\
  - name: a
    facts: [lead.captured]
    channel: webhook
    to: nowhere
"""
    (finding,) = findings(tmp_path, routes)
    assert finding.startswith("8: error: routes.0.to")


def test_a_route_that_waits_for_hours_nobody_stated_is_a_warning(tmp_path: Path) -> None:
    (finding,) = findings(
        tmp_path, "  - {name: a, facts: [lead.captured], channel: webhook, when: {hours: open}}\n"
    )
    assert finding.startswith("5: warning: ")
    assert "always closed" in finding
