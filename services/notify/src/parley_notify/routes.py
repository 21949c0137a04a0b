"""Decides who is told of a fact: the business's routes, their conditions, the deployment's defaults. PURE.

Does not send or store. Law: the same fact and the same business give the same deliveries.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from parley_common.business import Business, Route, When
from parley_common.contracts.record import Fact
from parley_common.errors import ConfigInvalid
from parley_notify.delivery import host_of, url_fault


@dataclass(frozen=True, slots=True)
class Defaults:
    """Where routes without ``to`` go. ``webhook_url`` null: nowhere, such routes are inactive."""

    webhook_url: str | None = None


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
        if name in route.facts and is_met(route.when, fact) and (to := destination(route, defaults))
    )


def fact_name(fact_type: str) -> str:
    """Return a fact type as routes and templates name it: ``lead.captured`` for ``parley.lead.captured.v1``."""
    return fact_type.removeprefix("parley.").rpartition(".v")[0]


def is_met(when: When, fact: Fact) -> bool:
    """Tell whether a fact meets a route's condition; a fact without what is asked for does not."""
    score = getattr(fact, "score", None)
    if when.min_score is not None and (score is None or score < when.min_score):
        return False
    if when.dispositions is not None and getattr(fact, "disposition", None) not in when.dispositions:
        return False
    return when.kinds is None or getattr(fact, "kind", None) in when.kinds


def destination(route: Route, defaults: Defaults) -> str | None:
    """Return where a route leads; null when the deployment gave it no destination."""
    return route.to or (defaults.webhook_url if route.channel == "webhook" else None)


def inactive(businesses: Iterable[Business], defaults: Defaults) -> Iterator[tuple[str, str]]:
    """Yield business and route of every route that leads nowhere in this deployment."""
    for business in businesses:
        for route in business.config.routes:
            if destination(route, defaults) is None:
                yield business.name, route.name


def unheard(businesses: Iterable[Business], facts: frozenset[str]) -> Iterator[tuple[str, str, str]]:
    """Yield business, route and fact where a route names a fact that never comes to this service."""
    for business in businesses:
        for route in business.config.routes:
            for fact in sorted(set(route.facts) - facts):
                yield business.name, route.name, fact


def check(businesses: Iterable[Business], *, templates: frozenset[str], https_only: bool) -> None:
    """Refuse routes that could never deliver. Raises ConfigInvalid with file and route."""
    for business in businesses:
        for route in business.config.routes:
            fault = _fault(route, templates, https_only)
            if fault:
                raise ConfigInvalid(f"{business.folder / 'business.yaml'}: route {route.name}: {fault}")


def _fault(route: Route, templates: frozenset[str], https_only: bool) -> str | None:
    if route.channel == "email":
        unknown = route.template is not None and route.template not in templates
        known = ", ".join(sorted(templates))
        return f"there is no template {route.template}, there are {known}" if unknown else None
    fault = url_fault(route.to, https_only=https_only) if route.to else None
    return f"its `to` {fault}" if fault else None
