"""What a rating means: satisfied or not, which group of recommenders, and whether somebody should call.

Law: the groups are those of the two usual scales: satisfied from 4 of 5; promoters 9 and 10, passives 7 and 8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SATISFIED_FROM = 4
UPSET_UP_TO = 2
PROMOTER_FROM = 9
PASSIVE_FROM = 7
Recommender = Literal["promoter", "passive", "detractor"]


@dataclass(frozen=True, slots=True)
class Judged:
    """What a rating comes to. ``recommender`` is null when it was not asked."""

    is_satisfied: bool
    recommender: Recommender | None
    needs_care: bool


def judge(rating: int, recommend: int | None) -> Judged:
    """Judge a satisfaction of 1 to 5 and, when it was said, a likelihood to recommend of 0 to 10."""
    group = recommender(recommend) if recommend is not None else None
    return Judged(rating >= SATISFIED_FROM, group, rating <= UPSET_UP_TO or group == "detractor")


def recommender(recommend: int) -> Recommender:
    """Return the group of a likelihood to recommend."""
    if recommend >= PROMOTER_FROM:
        return "promoter"
    return "passive" if recommend >= PASSIVE_FROM else "detractor"
