"""The clinic's rules as tables: how urgent, what a plan pays, whether a prescription may be refilled."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from parley_common.business import load
from parley_tools.kits.clinic.insurance import INSURANCE
from parley_tools.kits.clinic.symptoms import TRIAGE
from parley_tools.rules.clinic_insurance import Coverage, Eligibility, Plan, eligibility
from parley_tools.rules.clinic_refills import Pharmacy, Prescription, Refill, decide
from parley_tools.rules.clinic_triage import LEVELS, Complaint, Rule, Triage, assess, is_said, normal
from parley_tools.rules.identity import digits_of, read_birthday, same_name, same_word

CLINIC = load(Path(__file__).parents[3] / "businesses" / "clinic")
RULES = TRIAGE.read(CLINIC)
TODAY = date(2026, 1, 5)


# -- triage -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("My chest hurts and I'm sweating", "chest-pain"),
        ("there's a crushing pressure on my chest", "chest-pain"),
        ("I can't breathe", "breathing"),
        ("my dad is short of breath", "breathing"),
        ("her face is drooping and she is slurring", "face-or-speech"),
        ("my left arm went numb just now", "one-side"),
        ("he passed out in the kitchen", "unconscious"),
        ("she is having a seizure", "seizure"),
        ("I cut my thumb and the bleeding won't stop", "heavy-bleeding"),
        ("I ate nuts and my throat is swelling", "swelling"),
        ("I've been throwing up blood", "blood"),
        ("this is the worst headache of my life", "worst-headache"),
        ("a fever and a stiff neck", "stiff-neck-fever"),
        ("suddenly I cannot see on one eye", "sight"),
        ("my son took too many pills", "overdose"),
        ("I don't want to live any more", "self-harm"),
        ("she hit her head and is vomiting now", "head-injury"),
        ("my newborn has a fever", "infant-fever"),
    ],
)
def test_a_red_flag_is_an_emergency_however_it_is_said(text: str, rule: str) -> None:
    found = assess(RULES, Complaint(text))
    assert (found.level, rule in found.rules) == ("emergency", True)
    assert "911" in found.advice


@pytest.mark.parametrize(
    ("complaint", "level"),
    [
        (Complaint("I have a terrible pain in my stomach"), "urgent"),
        (Complaint("there is blood in my urine"), "urgent"),
        (Complaint("I think I broke my wrist"), "urgent"),
        (Complaint("a dog bite on my hand"), "urgent"),
        (Complaint("a fever", days=4), "urgent"),
        (Complaint("a fever", age_years=1), "urgent"),
        (Complaint("I feel hot", temperature_f=103.4), "urgent"),
        (Complaint("a fever", days=1, age_years=30), "appointment"),
        (Complaint("my ear hurts"), "appointment"),
        (Complaint("it burns when I pee"), "appointment"),
        (Complaint("a cough", days=14), "appointment"),
        (Complaint("my knee makes funny noises"), "appointment"),
        (Complaint(""), "appointment"),
        (Complaint("a runny nose", days=2), "self_care"),
        (Complaint("a sore throat", severity="mild"), "self_care"),
        (Complaint("a mosquito bite"), "self_care"),
        # -- what makes it more urgent
        (Complaint("a runny nose", days=8), "appointment"),
        (Complaint("a runny nose", age_years=1.5), "appointment"),
        (Complaint("a runny nose", age_years=82), "appointment"),
        (Complaint("a headache", severity="moderate"), "appointment"),
        (Complaint("a headache", severity="severe"), "urgent"),
        (Complaint("my back hurts", severity="severe"), "urgent"),
        (Complaint("she is very hot", age_years=0.1), "emergency"),
        (Complaint("he drinks little", age_years=0.1, temperature_f=100.6), "emergency"),
        # -- what is denied does not count, and what is not clearly denied does
        (Complaint("a runny nose, no chest pain"), "self_care"),
        (Complaint("a cold but I don't have any trouble breathing"), "self_care"),
        (Complaint("a cold without a fever"), "self_care"),
        (Complaint("not only a cold, chest pain too"), "emergency"),
        (Complaint("I don't know, my chest hurts"), "emergency"),
        (Complaint("no idea why my chest hurts"), "emergency"),
    ],
)
def test_a_complaint_has_the_level_of_its_most_urgent_rule(complaint: Complaint, level: str) -> None:
    assert assess(RULES, complaint).level == level


def test_a_rule_with_words_of_its_own_says_them() -> None:
    assert "988" in assess(RULES, Complaint("I want to kill myself")).advice
    assert "Poison Control" in assess(RULES, Complaint("the child swallowed bleach")).advice


def test_no_advice_names_an_illness_or_a_medicine() -> None:
    said = " ".join([*RULES.advice.values(), *(rule.advice or "" for rule in RULES.rules)]).lower()
    for word in (
        "you have",
        "diagnos",
        "infection",
        "heart attack",
        "stroke",
        "aspirin",
        "ibuprofen",
        "take a",
    ):
        assert word not in said


@given(
    text=st.sampled_from(
        ["a runny nose", "a headache", "my chest hurts", "my ear hurts", "a fever", "my knee"]
    ),
    days=st.integers(0, 60),
    more=st.integers(0, 60),
)
def test_longer_is_never_less_urgent(text: str, days: int, more: int) -> None:
    short, long = assess(RULES, Complaint(text, days=days)), assess(RULES, Complaint(text, days=days + more))
    assert LEVELS.index(long.level) >= LEVELS.index(short.level)


@given(
    base=st.sampled_from(["a cold", "my ear hurts", "blood in my urine", "my knee"]),
    extra=st.text(max_size=40),
)
def test_a_red_flag_counts_whatever_else_is_said(base: str, extra: str) -> None:
    assert assess(RULES, Complaint(f"{base}. {extra}. I can't breathe")).level == "emergency"


@pytest.mark.parametrize(
    ("phrase", "text", "held"),
    [
        ("bleed*", "It is bleeding!", True),
        ("sore throat", "sore, throat", False),
        ("cant breathe", "can\u2019t breathe", True),
        ("ear", "my heart", False),
        ("fever*", "no signs of a fever", False),
        ("fever*", "no, a fever", True),
    ],
)
def test_a_phrase_is_found_by_whole_words_within_a_clause(phrase: str, text: str, *, held: bool) -> None:
    assert is_said(phrase, normal(text)) is held


def test_a_rule_without_a_condition_and_a_level_without_advice_are_mistakes() -> None:
    with pytest.raises(ValidationError, match="words or a temperature"):
        Rule(id="empty", level="urgent")
    raw = RULES.model_dump() | {"advice": {"urgent": "Come today."}}
    with pytest.raises(ValidationError, match="no advice for appointment, emergency, self_care"):
        Triage.model_validate(raw)


# -- insurance ----------------------------------------------------------------------------------------------------

PLAN = Plan.model_validate(
    {
        "name": "Sample",
        "in_network": True,
        "covers": [
            {"service": "check-up", "copay_usd": 20},
            {"service": "scan", "copay_usd": 50, "needs_referral": True, "waiting_days": 90},
        ],
    }
)
AWAY = PLAN.model_copy(update={"in_network": False})
FROM = TODAY - timedelta(days=89)


@pytest.mark.parametrize(
    ("plan", "first_day", "last_day", "service", "expected"),
    [
        (PLAN, FROM, None, "check-up", Eligibility("covered", 20)),
        (PLAN, FROM, None, "scan", Eligibility("waiting", from_day=TODAY + timedelta(days=1))),
        (PLAN, FROM - timedelta(days=1), None, "scan", Eligibility("referral_needed", 50)),
        (PLAN, FROM, None, "massage", Eligibility("not_covered")),
        (PLAN, FROM, TODAY, "check-up", Eligibility("covered", 20)),
        (PLAN, FROM, TODAY - timedelta(days=1), "check-up", Eligibility("ended")),
        (PLAN, TODAY, None, "check-up", Eligibility("covered", 20)),
        (
            PLAN,
            TODAY + timedelta(days=1),
            None,
            "check-up",
            Eligibility("not_started", from_day=TODAY + timedelta(days=1)),
        ),
        (AWAY, FROM, None, "check-up", Eligibility("out_of_network")),
        (AWAY, FROM, TODAY - timedelta(days=1), "check-up", Eligibility("ended")),
    ],
)
def test_a_plan_pays_from_its_first_to_its_last_day_for_what_it_covers(
    plan: Plan, first_day: date, last_day: date | None, service: str, expected: Eligibility
) -> None:
    coverage = Coverage(plan="Sample", member_id="X1", first_day=first_day, last_day=last_day)
    assert eligibility(plan, coverage, service, TODAY) == expected


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("Bluewater Basic", "Bluewater Basic"),
        ("the blue water plan", "Bluewater Basic"),
        ("I have Fernhill", "Fernhill Care Plus"),
        ("summit family health insurance", "Summit Family"),
        ("something else", None),
        ("insurance", None),
        ("bluewater and summit", None),
    ],
)
def test_a_plan_is_known_by_its_names_and_never_guessed(said: str, name: str | None) -> None:
    plan = INSURANCE.read(CLINIC).named(said)
    assert (plan.name if plan else None) == name


# -- refills ------------------------------------------------------------------------------------------------------

PHARMACY = Pharmacy(name="the desk", early_days=7, valid_days=365, ready_h=24, review_h=48)


def prescription(**more: Any) -> Prescription:
    given = {"days_supply": 30, "refills_left": 2, "written_days_ago": 90, "filled_days_ago": 23}
    return Prescription(id="RX", patient="P", medication="sample", strength="5 mg", **(given | more))


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, Refill("refill", "ok")),
        ({"filled_days_ago": 22}, Refill("too_soon", "supply_left", TODAY + timedelta(days=1))),
        ({"filled_days_ago": None}, Refill("refill", "ok")),
        (
            {"filled_days_ago": None, "filled_on": TODAY},
            Refill("too_soon", "supply_left", TODAY + timedelta(23)),
        ),
        ({"days_supply": 5, "filled_days_ago": 0}, Refill("refill", "ok")),
        ({"refills_left": 0}, Refill("review", "no_refills_left")),
        ({"refills_left": 0, "filled_days_ago": 1}, Refill("too_soon", "supply_left", TODAY + timedelta(22))),
        ({"written_days_ago": 365}, Refill("refill", "ok")),
        ({"written_days_ago": 366}, Refill("review", "expired")),
        ({"is_controlled": True}, Refill("review", "controlled")),
    ],
)
def test_a_refill_is_given_refused_for_now_or_left_to_the_pharmacist(
    more: dict[str, Any], expected: Refill
) -> None:
    assert decide(prescription(**more), PHARMACY, TODAY) == expected


@given(left=st.integers(1, 24), supply=st.integers(8, 365))
def test_whatever_was_refilled_today_is_too_soon_again_today(left: int, supply: int) -> None:
    refilled = prescription(refills_left=left, days_supply=supply, filled_days_ago=supply).refilled(TODAY)
    assert refilled.refills_left == left - 1
    assert decide(refilled, PHARMACY, TODAY).decision == "too_soon"


def test_a_prescription_is_filled_on_a_day_or_days_ago_but_not_both() -> None:
    with pytest.raises(ValidationError, match="give one"):
        prescription(filled_on=TODAY)


# -- what people say of themselves --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "born"),
    [
        ("1984-03-12", date(1984, 3, 12)),
        ("03/12/1984", date(1984, 3, 12)),
        ("March 12th, 1984", date(1984, 3, 12)),
        ("the 12 of march 1984", date(1984, 3, 12)),
        ("1984", None),
        ("March 1984", None),
        ("1984-02-30", None),
        ("February 30, 1984", None),
        ("2084-03-12", None),
        ("1884-03-12", None),
        ("", None),
    ],
)
def test_a_birthday_is_read_as_it_is_said_and_never_made_up(said: str, born: date | None) -> None:
    assert read_birthday(said, TODAY) == born


@pytest.mark.parametrize(
    ("said", "on_file", "same"),
    [
        ("maria lopez", "Maria Lopez", True),
        ("María Elena López", "Maria Lopez", True),
        ("Lopez", "Maria Lopez", False),
        ("Maria", "Maria Lopez", False),
        ("Mario Lopez", "Maria Lopez", False),
        ("Sean O'Neil", "Sean ONeil", True),
        ("", "Maria Lopez", False),
    ],
)
def test_a_name_agrees_by_its_first_and_last_word(said: str, on_file: str, *, same: bool) -> None:
    assert same_name(said, on_file) is same


def test_words_and_numbers_agree_whatever_their_spaces_and_nothing_matches_an_empty_one() -> None:
    assert same_word(" Blue-Bird ", "bluebird")
    assert not same_word("bluebirds", "bluebird")
    assert not same_word("", "")
    assert digits_of("four 400-118 x") == "400118"
