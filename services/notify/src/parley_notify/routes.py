"""Decides who is told of a fact: the business's routes, their conditions, the deployment's defaults. PURE.

Does not send or store. Law: the same fact and the same business give the same deliveries.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from parley_common.business import Business
from parley_common.business_config import Route, When
from parley_common.contracts.record import Fact
from parley_common.errors import ConfigInvalid
from parley_notify.delivery import host_of, url_fault

DEFAULT_HOOK = "default"
"""The Slack hook of routes that name none."""
REMEDIES = {
    "webhook": "set NOTIFY_WEBHOOK_URL",
    "slack": "set NOTIFY_SLACK_HOOKS",
    "hubspot": "set NOTIFY_HUBSPOT_TOKEN",
    "salesforce": "set NOTIFY_SALESFORCE_URL",
}


@dataclass(frozen=True, slots=True)
class Defaults:
    """Where routes without ``to`` go; what is null or missing leads nowhere, and such routes are inactive."""

    webhook_url: str | None = None
    slack_hooks: frozenset[str] = frozenset()
    hubspot_url: str | None = None
    salesforce_url: str | None = None


@dataclass(frozen=True, slots=True)
class Planned:
    """One delivery that a fact causes."""

    route: str
    channel: str
    destination: str
    host: str
    template: str | None


def plan(fact: Fact, business: Business, defaults: Defaults) -> tuple[Planned, ...]:
    """Return the deliveries that ``fact`` causes, in the order of the business's routes."""
    name = fact_name(fact.fact_type)
    return tuple(
        Planned(route.name, route.channel, to, host_of(route.channel, to), route.template)
        for route in business.config.routes
        if name in route.facts and is_met(route.when, fact, business) and (to := destination(route, defaults))
    )


def fact_name(fact_type: str) -> str:
    """Return a fact type as routes and templates name it: ``lead.captured`` for ``parley.lead.captured.v1``."""
    return fact_type.removeprefix("parley.").rpartition(".v")[0]


def is_met(when: When, fact: Fact, business: Business | None = None) -> bool:
    """Tell whether a fact meets a route's condition; a fact without what is asked for does not."""
    score = getattr(fact, "score", None)
    if when.min_score is not None and (score is None or score < when.min_score):
        return False
    if when.max_score is not None and (score is None or score > when.max_score):
        return False
    if when.dispositions is not None and getattr(fact, "disposition", None) not in when.dispositions:
        return False
    if when.products is not None and product(fact) not in {name.casefold() for name in when.products}:
        return False
    if when.hours is not None and (
        business is None or is_open(business, _moment(fact)) != (when.hours == "open")
    ):
        return False
    return when.kinds is None or getattr(fact, "kind", None) in when.kinds


def product(fact: Fact) -> str | None:
    """Return what a lead or case is about, in small letters; null when it does not say."""
    told: dict[str, Any] = getattr(fact, "interest", None) or getattr(fact, "details", None) or {}
    name = told.get("product")
    return name.casefold() if isinstance(name, str) else None


def is_open(business: Business, at: datetime) -> bool:
    """Tell whether a business was open, by its own clock."""
    local = at.astimezone(business.zone)
    spans = business.config.hours.on(local.weekday())
    return any(opens <= local.time() < closes for opens, closes in spans)


def _moment(fact: Fact) -> datetime:
    at: datetime = fact.at  # type: ignore[attr-defined]  # every fact that comes here has one
    return at


def destination(route: Route, defaults: Defaults) -> str | None:
    """Return where a route leads; null when the deployment gave it no destination."""
    match route.channel:
        case "webhook":
            return route.to or defaults.webhook_url
        case "slack":
            hook = route.to or DEFAULT_HOOK
            return hook if "://" in hook or hook in defaults.slack_hooks else None
        case "hubspot":
            return defaults.hubspot_url
        case "salesforce":
            return defaults.salesforce_url
        case _:
            return route.to


def inactive(businesses: Iterable[Business], defaults: Defaults) -> Iterator[tuple[str, Route]]:
    """Yield business and route of every route that leads nowhere in this deployment."""
    for business in businesses:
        for route in business.config.routes:
            if destination(route, defaults) is None:
                yield business.name, route


def unheard(businesses: Iterable[Business], facts: frozenset[str]) -> Iterator[tuple[str, str, str]]:
    """Yield business, route and fact where a route names a fact that never comes to this service."""
    for business in businesses:
        for route in business.config.routes:
            for fact in sorted(set(route.facts) - facts):
                yield business.name, route.name, fact


def check(businesses: Iterable[Business], *, templates: frozenset[str], https_only: bool) -> None:
    """Refuse routes that could never deliver. Raises ConfigInvalid with file and route."""
    for business in businesses:
        for number, _, fault in faults(business, templates=templates, https_only=https_only):
            name = business.config.routes[number].name
            raise ConfigInvalid(f"{business.folder / 'business.yaml'}: route {name}: {fault}")


def faults(
    business: Business, *, templates: frozenset[str], https_only: bool
) -> Iterator[tuple[int, str, str]]:
    """Yield what keeps routes from ever delivering: the number of the route, the key at fault, and why."""
    for number, route in enumerate(business.config.routes):
        for key, fault in (
            ("template", _template_fault(route, templates)),
            ("to", _address_fault(route, https_only)),
        ):
            if fault:
                yield number, key, fault


def _template_fault(route: Route, templates: frozenset[str]) -> str | None:
    if route.template is None or route.template in templates:
        return None
    return f"there is no template {route.template}, there are {', '.join(sorted(templates))}"


def _address_fault(route: Route, https_only: bool) -> str | None:
    if route.to is None or route.channel not in {"webhook", "slack"}:
        return None
    if route.channel == "slack" and "://" not in route.to:
        return None  # a hook's name: settings hold its address
    fault = url_fault(route.to, https_only=https_only)
    return f"its `to` {fault}" if fault else None
