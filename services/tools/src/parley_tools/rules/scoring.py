"""Scores a lead by declared rules: points per band of each fact, a disposition per range of the score.

A business declares the rules (data/scoring.yaml); nothing here knows what a fact means.

Law: the same facts and rules give the same score, 0 to 100, and every rule that mattered gives its reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Band(_Part):
    """Points for a value of at least ``min``, or equal to ``equals``; with neither, for any value."""

    min: float | None = None
    equals: tuple[str, ...] | None = None
    points: int
    reason: str | None = None

    def holds(self, value: Any) -> bool:
        """Tell whether ``value`` is in this band; a value of the wrong kind is in none that asks for more."""
        if self.equals is not None:
            return str(value).strip().lower() in {word.lower() for word in self.equals}
        if self.min is None:
            return True
        return isinstance(value, int | float) and not isinstance(value, bool) and value >= self.min


class Rule(_Part):
    """One fact and what it is worth; the first band that holds counts."""

    fact: str
    bands: tuple[Band, ...] = Field(min_length=1)
    missing_points: int = 0
    """When the fact is not known."""


class KnockOut(_Part):
    """A fact that alone decides against a lead, whatever its score."""

    fact: str
    below: float
    reason: str

    def holds(self, value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and value < self.below


class Disposition(_Part):
    """What a score of at least ``min`` means."""

    name: str
    min: int = Field(ge=0, le=100)
    qualifies: bool = True
    offer: str | None = None
    """What the business offers such a lead, for the people who follow up."""
    say: str
    """What the agent tells the caller."""


class ScoringRules(_Part):
    """data/scoring.yaml."""

    version: str
    base_points: int = 0
    rules: tuple[Rule, ...]
    knock_outs: tuple[KnockOut, ...] = ()
    dispositions: tuple[Disposition, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _every_score_has_a_disposition(self) -> Self:
        floors = [each.min for each in self.dispositions]
        if floors != sorted(floors, reverse=True) or len(set(floors)) != len(floors):
            raise ValueError("dispositions must be ordered from the highest min to the lowest")
        if floors[-1] != 0:
            raise ValueError("the last disposition must have min 0, so that every score has one")
        if self.knock_outs and self.dispositions[-1].qualifies:
            raise ValueError("with knock_outs the last disposition must have qualifies: false")
        return self


@dataclass(frozen=True, slots=True)
class Score:
    """What the rules say of a lead."""

    points: int
    disposition: Disposition
    reasons: tuple[str, ...]
    unknown: tuple[str, ...]
    """Facts that a rule asks for and nobody gave."""


def score(rules: ScoringRules, facts: Mapping[str, Any]) -> Score:
    """Score ``facts``; a null or absent fact is unknown."""
    points = rules.base_points
    reasons: list[str] = []
    for rule in rules.rules:
        worth, reason = _judge(rule, facts.get(rule.fact))
        points += worth
        reasons += [reason] if reason else []
    knocked = tuple(rule.reason for rule in rules.knock_outs if rule.holds(facts.get(rule.fact)))
    total = max(0, min(100, points))
    unknown = tuple(rule.fact for rule in rules.rules if facts.get(rule.fact) is None)
    if knocked:
        return Score(_below_all(rules, total), rules.dispositions[-1], knocked, unknown)
    fitting = next(each for each in rules.dispositions if total >= each.min)
    return Score(total, fitting, tuple(reasons), unknown)


def _below_all(rules: ScoringRules, total: int) -> int:
    """A knocked-out lead keeps a score that fits its disposition."""
    floors = [each.min for each in rules.dispositions[:-1]]
    return max(0, min([total, *(floor - 1 for floor in floors)]))


def _judge(rule: Rule, value: Any) -> tuple[int, str | None]:
    if value is None:
        return rule.missing_points, None
    for band in rule.bands:
        if band.holds(value):
            return band.points, band.reason
    return 0, None
