"""How urgent a complaint is, by declared red-flag rules. It names no illness and judges by words alone.

Of all rules that hold, the most urgent counts. Where nothing is known it errs upwards: what no rule knows is for an
appointment, never for self-care, and only what is denied outright ("no chest pain") does not count.

Law: more, worse or longer never makes a complaint less urgent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Self

from pydantic import Field, model_validator

from parley_tools.files import DataPart

Level = Literal["self_care", "appointment", "urgent", "emergency"]
Severity = Literal["mild", "moderate", "severe"]
LEVELS: tuple[Level, ...] = ("self_care", "appointment", "urgent", "emergency")
INFANT = re.compile(r"\b(?:newborn|infant|baby|(?:\w+ )?weeks? old)\b")
INFANT_YEARS = 0.2
"""How old someone is taken to be who is only called a baby: the age at which most is a red flag."""
NEGATORS = frozenset({"no", "not", "without", "never", "dont", "doesnt", "didnt", "isnt", "havent", "hasnt"})
BETWEEN = frozenset(
    "any a an the real really sign signs of have having has had feel feeling got been".split()  # noqa: SIM905
)
"""Words that may stand between a denial and what is denied."""


class Rule(DataPart):
    """One red flag, or one everyday complaint. Every condition it names must hold."""

    id: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    level: Level
    words: tuple[tuple[str, ...], ...] = ()
    """Groups of phrases; of each group one must be said. A star stands for any ending: ``bleed*``."""
    age_under: float | None = None
    age_from: float | None = None
    min_days: int | None = None
    min_temperature_f: float | None = None
    advice: str | None = None
    """What is said instead of the level's own advice."""

    @model_validator(mode="after")
    def _has_a_condition(self) -> Self:
        if not self.words and self.min_temperature_f is None:
            raise ValueError("a rule needs words or a temperature")
        return self


class Triage(DataPart):
    """data/triage.yaml."""

    version: str
    note: str
    advice: dict[Level, str]
    """What to say at each level."""
    self_care_days_max: int = Field(ge=1)
    """What lasts longer is for an appointment."""
    self_care_ages: tuple[float, float]
    rules: tuple[Rule, ...]

    @model_validator(mode="after")
    def _every_level_has_advice(self) -> Self:
        if missing := set(LEVELS) - set(self.advice):
            raise ValueError(f"no advice for {', '.join(sorted(missing))}")
        return self


@dataclass(frozen=True, slots=True)
class Complaint:
    """What the caller told; null: not said."""

    text: str
    age_years: float | None = None
    days: int | None = None
    severity: Severity | None = None
    temperature_f: float | None = None


@dataclass(frozen=True, slots=True)
class Assessment:
    """How urgent it is, which rules said so, and what to say."""

    level: Level
    rules: tuple[str, ...]
    advice: str


def assess(triage: Triage, complaint: Complaint) -> Assessment:
    """Return how urgent a complaint is."""
    text = normal(complaint.text)
    age = complaint.age_years
    if age is None and INFANT.search(text):
        age = INFANT_YEARS
    held = [rule for rule in triage.rules if _holds(rule, complaint, text, age)]
    level: Level = max((rule.level for rule in held), key=LEVELS.index, default="appointment")
    deciding = tuple(rule for rule in held if rule.level == level)
    raised = _raised(triage, complaint, level, age)
    if raised != level:
        return Assessment(raised, tuple(rule.id for rule in deciding), triage.advice[raised])
    advice = next((rule.advice for rule in deciding if rule.advice), triage.advice[level])
    return Assessment(level, tuple(rule.id for rule in deciding), advice)


def _holds(rule: Rule, complaint: Complaint, text: str, age: float | None) -> bool:
    if rule.age_under is not None and (age is None or age >= rule.age_under):
        return False
    if rule.age_from is not None and (age is None or age < rule.age_from):
        return False
    if rule.min_days is not None and (complaint.days or 0) < rule.min_days:
        return False
    if rule.min_temperature_f is not None and (complaint.temperature_f or 0) < rule.min_temperature_f:
        return False
    return all(any(is_said(phrase, text) for phrase in group) for group in rule.words)


def _raised(triage: Triage, complaint: Complaint, level: Level, age: float | None) -> Level:
    """Return the level after how bad it is, how long it lasts and how old they are."""
    if level in ("self_care", "appointment") and complaint.severity == "severe":
        return "urgent"
    if level != "self_care":
        return level
    low, high = triage.self_care_ages
    lasts = (complaint.days or 0) > triage.self_care_days_max
    frail = age is not None and not low <= age <= high
    return "appointment" if lasts or frail or complaint.severity == "moderate" else level


def normal(text: str) -> str:
    """Return what was said in plain words; a comma stands for every mark that ends a clause."""
    plain = re.sub(r"['\u2019]", "", text.lower())
    plain = re.sub(r"[.,;:!?\n]+|\bbut\b", " , ", plain)
    return " ".join(re.sub(r"[^a-z0-9, ]", " ", plain).split())


def is_said(phrase: str, text: str) -> bool:
    """Tell whether a phrase stands in normal text and is not denied there."""
    return any(not _is_denied(text[: match.start()]) for match in _form(phrase).finditer(text))


@lru_cache(maxsize=2048)
def _form(phrase: str) -> re.Pattern[str]:
    words = [re.escape(word).replace(r"\*", r"\w*") for word in phrase.lower().replace("'", "").split()]
    return re.compile(rf"\b{' '.join(words)}\b")


def _is_denied(before: str) -> bool:
    for word in reversed(before.rpartition(",")[2].split()):
        if word not in BETWEEN:
            return word in NEGATORS
    return False
