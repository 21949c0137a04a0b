"""Whether a prescription may be refilled today, must wait, or is for a pharmacist or the doctor to decide.

Law: nothing is refilled that is expired, used up, closely watched, or still in the cupboard.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal, Self

from pydantic import Field, model_validator

from parley_tools.files import DataPart

Decision = Literal["refill", "too_soon", "review"]
Reason = Literal["ok", "supply_left", "no_refills_left", "expired", "controlled"]


class Pharmacy(DataPart):
    """data/pharmacy.yaml."""

    name: str
    early_days: int = Field(ge=0)
    """How many days before the supply runs out it may be refilled."""
    valid_days: int = Field(ge=1)
    """How long after it was written a prescription holds."""
    ready_h: int = Field(ge=1)
    """Until a refill can be picked up."""
    review_h: int = Field(ge=1)
    """Until the pharmacist has looked at one that needs it."""


class Prescription(DataPart):
    """One prescription. Days ago are counted back from today, so that a sample does not age; a refill sets the date."""

    id: str
    patient: str
    medication: str
    also: tuple[str, ...] = ()
    strength: str
    days_supply: int = Field(ge=1, le=365)
    refills_left: int = Field(ge=0, le=24)
    is_controlled: bool = False
    written_days_ago: int = Field(ge=0)
    filled_days_ago: int | None = Field(default=None, ge=0)
    filled_on: date | None = None

    @model_validator(mode="after")
    def _filled_one_way(self) -> Self:
        if self.filled_on is not None and self.filled_days_ago is not None:
            raise ValueError("filled_on and filled_days_ago say the same: give one")
        return self

    def last_filled(self, today: date) -> date | None:
        """Return when it was filled last; null when never."""
        if self.filled_days_ago is not None:
            return today - timedelta(days=self.filled_days_ago)
        return self.filled_on

    def refilled(self, today: date) -> Prescription:
        """Return it after one more refill."""
        return self.model_copy(
            update={"refills_left": self.refills_left - 1, "filled_on": today, "filled_days_ago": None}
        )

    def is_named(self, said: str) -> bool:
        """Tell whether a caller means this one: its name, or another name for it, is among their words."""
        words = "".join(c if c.isalnum() else " " for c in said.lower()).split()
        return any(set(name.lower().split()) <= set(words) for name in (self.medication, *self.also))


@dataclass(frozen=True, slots=True)
class Refill:
    """What the rules say; ``earliest`` is null unless it is too soon."""

    decision: Decision
    reason: Reason
    earliest: date | None = None


def decide(prescription: Prescription, pharmacy: Pharmacy, today: date) -> Refill:
    """Return what may be done about a refill today."""
    filled = prescription.last_filled(today)
    if filled is not None:
        earliest = filled + timedelta(days=max(0, prescription.days_supply - pharmacy.early_days))
        if today < earliest:
            return Refill("too_soon", "supply_left", earliest)
    if prescription.is_controlled:
        return Refill("review", "controlled")
    if prescription.written_days_ago > pharmacy.valid_days:
        return Refill("review", "expired")
    if prescription.refills_left == 0:
        return Refill("review", "no_refills_left")
    return Refill("refill", "ok")
