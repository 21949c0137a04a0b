"""What an insurance plan pays for, and whether it does so for one patient on one day. Figures are the business's data.

Law: whatever is not on file is not promised.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

from pydantic import Field

from parley_tools.files import DataPart

Standing = Literal[
    "covered", "referral_needed", "not_covered", "out_of_network", "not_started", "ended", "waiting"
]


class Covered(DataPart):
    """One service a plan pays for."""

    service: str
    copay_usd: float = Field(ge=0)
    """What the patient pays at the visit."""
    needs_referral: bool = False
    waiting_days: int = Field(default=0, ge=0)
    """How long after the coverage began the plan begins to pay."""


class Plan(DataPart):
    """One plan the clinic knows."""

    name: str
    also: tuple[str, ...] = ()
    in_network: bool
    covers: tuple[Covered, ...] = ()
    note: str | None = None

    def covered(self, service: str) -> Covered | None:
        """Return what the plan says of a service; null when it does not pay for it."""
        return next((each for each in self.covers if each.service == service), None)


class Plans(DataPart):
    """data/insurance.yaml."""

    note: str
    self_pay_usd: float = Field(ge=0)
    """What a visit costs without a plan."""
    plans: tuple[Plan, ...] = Field(min_length=1)

    def named(self, said: str) -> Plan | None:
        """Return the plan a caller means; null when none, or when it could be more than one."""
        words = _words(said)
        whole = [p for p in self.plans if any(_words(name) == words for name in (p.name, *p.also))]
        part = [p for p in self.plans if any(_words(name) <= words for name in (p.name, *p.also))]
        begun = [p for p in self.plans if words and words <= _words(p.name)]
        fitting = next((found for found in (whole, part, begun) if found), [])
        return fitting[0] if len(fitting) == 1 else None


class Coverage(DataPart):
    """A patient's plan as it is on file."""

    plan: str
    member_id: str
    first_day: date
    last_day: date | None = None
    """Null: it goes on."""


@dataclass(frozen=True, slots=True)
class Eligibility:
    """What the rules say. ``copay_usd`` is null where the plan does not pay; ``from_day`` where it is no matter of days."""

    standing: Standing
    copay_usd: float | None = None
    from_day: date | None = None

    @property
    def is_eligible(self) -> bool:
        return self.standing in ("covered", "referral_needed")


def eligibility(plan: Plan, coverage: Coverage, service: str, on: date) -> Eligibility:
    """Return whether ``plan`` pays for ``service`` on a day, for whoever has ``coverage``."""
    if on < coverage.first_day:
        return Eligibility("not_started", from_day=coverage.first_day)
    if coverage.last_day is not None and on > coverage.last_day:
        return Eligibility("ended", from_day=None)
    if not plan.in_network:
        return Eligibility("out_of_network")
    covered = plan.covered(service)
    if covered is None:
        return Eligibility("not_covered")
    pays_from = coverage.first_day + timedelta(days=covered.waiting_days)
    if on < pays_from:
        return Eligibility("waiting", from_day=pays_from)
    standing: Standing = "referral_needed" if covered.needs_referral else "covered"
    return Eligibility(standing, covered.copay_usd)


def _words(text: str) -> frozenset[str]:
    kept = "".join(c if c.isalnum() else " " for c in text.lower()).split()
    return frozenset(kept) - {"plan", "insurance", "health", "the", "my", "i", "have"}
