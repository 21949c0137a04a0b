"""A risk profile by declared points, and the general mix that such a profile is an example of. Never advice.

Law: a short horizon or no reserve caps the profile, whatever else was said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field, model_validator

from parley_tools.files import DataPart

Reaction = Literal["sell", "hold", "buy_more"]


class Band(DataPart):
    """Points from a value on."""

    min: int = Field(ge=0)
    points: int = Field(ge=0)


class Profile(DataPart):
    """One profile, and the mix it is an example of, in percent."""

    name: str
    min_points: int = Field(ge=0)
    says: str
    mix_pct: dict[str, int]

    @model_validator(mode="after")
    def _mix_is_whole(self) -> Self:
        if sum(self.mix_pct.values()) != 100:
            raise ValueError(f"the mix of {self.name} is {sum(self.mix_pct.values())} percent, not 100")
        return self


class Investing(DataPart):
    """data/investing.yaml. Profiles from the most careful to the boldest."""

    version: str
    note: str
    disclaimer: str
    horizon: tuple[Band, ...] = Field(min_length=1)
    reserve: tuple[Band, ...] = Field(min_length=1)
    reaction: dict[Reaction, int]
    short_horizon_years: int = Field(ge=0)
    """Below it only the most careful profile is shown."""
    reserve_months_min: int = Field(ge=0)
    """Below it nothing bolder than the second profile is shown."""
    profiles: tuple[Profile, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _every_score_has_a_profile(self) -> Self:
        floors = [each.min_points for each in self.profiles]
        if floors[0] != 0 or floors != sorted(set(floors)):
            raise ValueError("profiles must begin at 0 points and rise")
        return self


@dataclass(frozen=True, slots=True)
class Outlook:
    """The profile, its points, and what capped it: null, ``horizon`` or ``reserve``."""

    profile: Profile
    points: int
    capped_by: Literal["horizon", "reserve"] | None = None


def outlook(rules: Investing, horizon_years: int, reaction: Reaction, reserve_months: int | None) -> Outlook:
    """Return the profile of someone with this horizon, reaction to losses and reserve (null: not said, none counted)."""
    months = reserve_months or 0
    points = _points(rules.horizon, horizon_years) + _points(rules.reserve, months) + rules.reaction[reaction]
    place = max(n for n, each in enumerate(rules.profiles) if points >= each.min_points)
    if horizon_years < rules.short_horizon_years and place > 0:
        return Outlook(rules.profiles[0], points, "horizon")
    if months < rules.reserve_months_min and place > 1:
        return Outlook(rules.profiles[1], points, "reserve")
    return Outlook(rules.profiles[place], points)


def _points(bands: tuple[Band, ...], value: int) -> int:
    return max((band.points for band in bands if value >= band.min), default=0)
