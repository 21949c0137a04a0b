"""Declared rules give points, a disposition and reasons."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from parley_common.business import load
from parley_tools.kits.leads import SCORING
from parley_tools.rules.scoring import ScoringRules, score
from unit.tools.world import CAP

RULES = ScoringRules.model_validate(
    {
        "version": "1",
        "base_points": 10,
        "rules": [
            {
                "fact": "credit_score",
                "missing_points": 5,
                "bands": [{"min": 740, "points": 50, "reason": "good credit"}, {"min": 660, "points": 20}],
            },
            {
                "fact": "timeline",
                "bands": [{"equals": ["now"], "points": 40, "reason": "in a hurry"}, {"points": 1}],
            },
        ],
        "knock_outs": [{"fact": "credit_score", "below": 580, "reason": "credit too low"}],
        "dispositions": [
            {"name": "hot", "min": 60, "say": "Great."},
            {"name": "cold", "min": 0, "qualifies": False, "say": "Not today."},
        ],
    }
)


@pytest.mark.parametrize(
    ("facts", "points", "disposition", "reasons"),
    [
        ({"credit_score": 740, "timeline": "Now "}, 100, "hot", ("good credit", "in a hurry")),
        ({"credit_score": 739, "timeline": "later"}, 31, "cold", ()),
        ({"credit_score": 660}, 30, "cold", ()),
        ({"credit_score": 659}, 10, "cold", ()),
        ({}, 15, "cold", ()),
        ({"credit_score": None, "timeline": "now"}, 55, "cold", ("in a hurry",)),
        ({"credit_score": "high"}, 10, "cold", ()),
        ({"credit_score": 570, "timeline": "now"}, 50, "cold", ("credit too low",)),
    ],
)
def test_points_disposition_and_reasons_follow_the_first_band_that_holds(
    facts: dict[str, Any], points: int, disposition: str, reasons: tuple[str, ...]
) -> None:
    scored = score(RULES, facts)
    assert (scored.points, scored.disposition.name, scored.reasons) == (points, disposition, reasons)


def test_a_knocked_out_lead_never_has_a_score_of_a_better_disposition() -> None:
    generous = RULES.model_copy(update={"base_points": 100})
    scored = score(generous, {"credit_score": 500})
    assert (scored.points, scored.disposition.name) == (59, "cold")


def test_what_nobody_said_is_named() -> None:
    assert score(RULES, {"timeline": "now"}).unknown == ("credit_score",)


@pytest.mark.parametrize(
    "dispositions",
    [
        [{"name": "cold", "min": 0, "say": ""}, {"name": "hot", "min": 60, "say": ""}],
        [{"name": "hot", "min": 60, "say": ""}],
        [{"name": "hot", "min": 60, "say": ""}, {"name": "cold", "min": 0, "say": ""}],
        [],
    ],
)
def test_rules_that_leave_a_score_without_a_meaning_are_refused(dispositions: list[Any]) -> None:
    with pytest.raises(ValidationError):
        ScoringRules.model_validate(RULES.model_dump() | {"dispositions": dispositions})


@pytest.mark.parametrize(
    ("facts", "disposition"),
    [
        ({"credit_score": 740, "dscr": 1.19, "down_payment_pct": 25}, "hot"),
        ({"dscr": 1.19, "down_payment_pct": 25}, "warm"),
        ({"credit_score": 700, "dscr": 1.0, "down_payment_pct": 20, "timeline": "this month"}, "hot"),
        ({}, "warm"),
        ({"credit_score": 600, "dscr": 0.7, "down_payment_pct": 5}, "cold"),
        ({"credit_score": 560, "dscr": 1.6, "down_payment_pct": 40, "timeline": "now"}, "cold"),
    ],
)
def test_caps_rules_rank_the_leads_they_are_meant_for(facts: dict[str, Any], disposition: str) -> None:
    assert score(SCORING.read(load(CAP)), facts).disposition.name == disposition


@given(
    st.dictionaries(
        st.sampled_from(["credit_score", "timeline", "other"]),
        st.none() | st.integers() | st.text() | st.booleans() | st.floats(allow_nan=False),
    )
)
def test_any_facts_have_a_score_and_a_disposition_that_fits_it(facts: dict[str, Any]) -> None:
    scored = score(RULES, facts)
    assert 0 <= scored.points <= 100
    assert scored.points >= scored.disposition.min
