"""Who is told of a fact: the routes of a business, as a pure decision."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from parley_common.business_config import Hours, When
from parley_common.errors import ConfigInvalid
from parley_notify.intake import HEARD
from parley_notify.letters import TEMPLATES
from parley_notify.routes import REMEDIES, Defaults, Planned, check, inactive, is_met, plan, unheard
from unit.notify.samples import business, captured, opened, qualified, route

NOWHERE = Defaults()
HOOK = Defaults(webhook_url="https://user:secret@crm.example.com:8443/hook?token=1")


def test_a_fact_causes_one_delivery_for_each_route_that_names_it(tmp_path: Path) -> None:
    harbor = business(
        tmp_path,
        route("sales", "lead.captured", "lead.qualified"),
        route("crm", "lead.captured", channel="webhook", to="https://crm.example.com/in"),
        route("desk", "case.opened"),
    )
    assert plan(captured(), harbor, NOWHERE) == (
        Planned("sales", "email", "sales@example.com", "example.com", None),
        Planned("crm", "webhook", "https://crm.example.com/in", "crm.example.com", None),
    )
    assert [to.route for to in plan(opened(), harbor, NOWHERE)] == ["desk"]


def test_a_webhook_route_without_a_destination_takes_the_deployments_own(tmp_path: Path) -> None:
    harbor = business(tmp_path, route("crm", channel="webhook"))
    (to,) = plan(captured(), harbor, HOOK)
    assert to.destination == HOOK.webhook_url


def test_a_hosts_name_is_all_that_is_kept_for_logs(tmp_path: Path) -> None:
    harbor = business(tmp_path, route("crm", channel="webhook"))
    (to,) = plan(captured(), harbor, HOOK)
    assert to.host == "crm.example.com:8443"


def test_a_webhook_route_that_leads_nowhere_is_inactive_and_plans_nothing(tmp_path: Path) -> None:
    harbor = business(tmp_path, route("crm", channel="webhook"), route("sales"))
    assert [to.route for to in plan(captured(), harbor, NOWHERE)] == ["sales"]
    assert [(name, silent.name) for name, silent in inactive([harbor], NOWHERE)] == [("harbor", "crm")]
    assert list(inactive([harbor], HOOK)) == []


@pytest.mark.parametrize(("score", "met"), [(79, False), (80, True), (100, True)])
def test_a_score_condition_includes_its_bound(score: int, met: bool) -> None:
    assert is_met(When(min_score=80), qualified(score=score)) is met


def test_a_fact_without_a_score_does_not_meet_a_score_condition() -> None:
    assert not is_met(When(min_score=0), captured())


def test_dispositions_and_kinds_must_be_among_those_named() -> None:
    assert is_met(When(dispositions=("hot", "warm")), qualified(disposition="warm"))
    assert not is_met(When(dispositions=("hot",)), qualified(disposition="warm"))
    assert is_met(When(kinds=("call_back",)), opened())
    assert not is_met(When(kinds=("refill",)), opened())


@pytest.mark.parametrize(("score", "met"), [(40, True), (41, False)])
def test_an_upper_bound_includes_itself(score: int, met: bool) -> None:
    assert is_met(When(max_score=40), qualified(score=score)) is met
    assert not is_met(When(max_score=40), captured())


def test_a_product_is_known_in_any_case_of_letters_from_a_lead_or_a_case() -> None:
    when = When(products=("Rental Loan",))
    assert is_met(when, captured(interest={"product": "rental loan"}))
    assert is_met(when, opened(details={"product": "RENTAL LOAN"}))
    assert not is_met(when, captured(interest={"product": "bridge"}))
    assert not is_met(when, captured(interest={"product": 7}))
    assert not is_met(when, opened())


@pytest.mark.parametrize(
    ("at", "is_open"),
    [
        ("2026-01-05T14:59:59Z", False),  # Monday, 08:59:59 in Chicago
        ("2026-01-05T15:00:00Z", True),
        ("2026-01-05T22:59:59Z", True),
        ("2026-01-05T23:00:00Z", False),
        ("2026-01-04T18:00:00Z", False),  # Sunday
        ("2026-07-06T14:00:00Z", True),  # summer time
    ],
)
def test_opening_hours_are_read_by_the_businesss_own_clock(tmp_path: Path, at: str, is_open: bool) -> None:
    harbor = business(
        tmp_path, route("day", when={"hours": "open"}), route("night", when={"hours": "closed"})
    )
    hours = Hours(monday=("09:00-17:00",))
    harbor = replace(harbor, config=harbor.config.model_copy(update={"hours": hours}))
    (to,) = plan(captured(at=datetime.fromisoformat(at)), harbor, NOWHERE)
    assert to.route == ("day" if is_open else "night")


def test_a_slack_route_goes_to_the_hook_it_names_and_is_inactive_without_it(tmp_path: Path) -> None:
    harbor = business(tmp_path, route("a", channel="slack"), route("b", channel="slack", to="sales"))
    hooks = Defaults(slack_hooks=frozenset({"sales"}))
    assert [(to.route, to.destination, to.host) for to in plan(captured(), harbor, hooks)] == [
        ("b", "sales", "slack:sales")
    ]
    assert [silent.name for _, silent in inactive([harbor], hooks)] == ["a"]


def test_crm_routes_are_inactive_until_their_crm_is_set_up(tmp_path: Path) -> None:
    harbor = business(tmp_path, route("h", channel="hubspot"), route("s", channel="salesforce"))
    assert plan(captured(), harbor, NOWHERE) == ()
    there = Defaults(hubspot_url="https://api.hubapi.com", salesforce_url="https://x.my.salesforce.com")
    assert [to.host for to in plan(captured(), harbor, there)] == ["api.hubapi.com", "x.my.salesforce.com"]
    assert {silent.channel for _, silent in inactive([harbor], NOWHERE)} <= REMEDIES.keys()


def test_every_part_of_a_condition_must_be_met() -> None:
    when = When(min_score=80, dispositions=("hot",))
    assert is_met(when, qualified(score=90, disposition="hot"))
    assert not is_met(when, qualified(score=90, disposition="warm"))
    assert not is_met(when, qualified(score=70, disposition="hot"))


def test_a_template_that_does_not_exist_is_refused_at_start_with_its_route(tmp_path: Path) -> None:
    harbor = business(tmp_path, route("sales", template="lead.celebrated"))
    with pytest.raises(ConfigInvalid, match=r"harbor/business.yaml: route sales: .*lead\.celebrated"):
        check([harbor], templates=TEMPLATES, https_only=False)


def test_production_refuses_a_webhook_route_in_the_clear(tmp_path: Path) -> None:
    harbor = business(tmp_path, route("crm", channel="webhook", to="http://crm.example.com/in"))
    check([harbor], templates=TEMPLATES, https_only=False)
    with pytest.raises(ConfigInvalid, match="route crm"):
        check([harbor], templates=TEMPLATES, https_only=True)


@pytest.mark.parametrize(
    "to", ["crm", "http://[::1", "ftp://crm.example.com/", "https:///in", "http://a:99999/"]
)
def test_a_webhook_route_to_what_is_no_web_address_is_refused_at_start(tmp_path: Path, to: str) -> None:
    harbor = business(tmp_path, route("crm", channel="webhook", to=to))
    with pytest.raises(ConfigInvalid, match="route crm"):
        check([harbor], templates=TEMPLATES, https_only=False)


def test_a_route_for_a_fact_that_never_comes_here_is_named(tmp_path: Path) -> None:
    harbor = business(tmp_path, route("crm", "session.ended", "lead.captured", channel="webhook"))
    assert list(unheard([harbor], HEARD)) == [("harbor", "crm", "session.ended")]


def test_there_is_a_letter_for_every_fact_that_comes_here() -> None:
    assert HEARD == TEMPLATES
