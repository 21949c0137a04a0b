"""The scenario files are well-formed and complete, and the comparison finds what is missing. None is played here."""

from __future__ import annotations

from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from parley_common.business import load
from parley_common.business_config import FACT_NAMES
from scenarios.scenario import HERE, CallSeen, Came, Line, Scenario, dated, faults
from scenarios.scenario import load as load_scenarios

BUSINESSES = sorted(path.stem for path in HERE.glob("*.yaml"))
FOLDERS = Path(__file__).parents[2] / "businesses"


@pytest.mark.parametrize("business", BUSINESSES)
def test_a_business_has_twelve_typed_and_three_spoken_scenarios_with_names_of_their_own(
    business: str,
) -> None:
    scenarios = load_scenarios(business)
    modes = Counter(scenario.mode for scenario in scenarios)
    assert modes["typed"] >= 12
    assert modes["spoken"] >= 3
    assert max(Counter(scenario.name for scenario in scenarios).values()) == 1
    assert any(line.barge_in_ms for scenario in scenarios for line in scenario.lines)


@pytest.mark.parametrize("business", BUSINESSES)
def test_what_a_scenario_names_is_there(business: str) -> None:
    offered = {tool.rpartition(".")[2] for tool in load(FOLDERS / business).config.tools}
    for scenario in load_scenarios(business):
        tools = [
            each if isinstance(each, str) else next(iter(each)) for each in scenario.expect.get("tools", ())
        ]
        facts = [
            each if isinstance(each, str) else next(iter(each)) for each in scenario.expect.get("facts", ())
        ]
        assert {*tools, *scenario.expect.get("never", ())} <= offered, scenario.name
        assert set(facts) <= FACT_NAMES, scenario.name


def scenario(**expect: Any) -> Scenario:
    return Scenario("cap", "one", "typed", (Line("Hello"),), expect)


CAME = Came(
    calls=(
        CallSeen("look_up", {"product": "The Ridge jacket", "count": 2}, "refused", "sold_out"),
        CallSeen("look_up", {"product": "hat", "is_gift": True}, "ok"),
    ),
    facts=(("case.opened", {"kind": "return", "details": {"amount_usd": 12.5, "tags": ["new", "late"]}}),),
    said="Your total is $12.50. Goodbye!",
)


@pytest.mark.parametrize(
    "expect",
    [
        {"tools": ["look_up", {"look_up": {"product": "HAT"}}]},
        {"tools": [{"look_up": {"product": "ridge", "count": 2}}]},
        {"tools": [{"look_up": {"is_gift": True}}]},
        {
            "facts": [
                {"case.opened": {"kind": "return", "details.amount_usd": 12.5, "details.tags": ["late"]}}
            ]
        },
        {"facts": [{"case.opened": {"status": None}}]},
        {"refusals": ["sold_out"], "never": ["other"], "says": ["total is $12.50", "/good ?bye/"]},
    ],
)
def test_what_came_as_expected_has_no_fault(expect: dict[str, Any]) -> None:
    assert faults(scenario(**expect), CAME) == []


@pytest.mark.parametrize(
    ("expect", "fault"),
    [
        ({"tools": ["other"]}, "no call other"),
        (
            {"tools": [{"look_up": {"product": "hat"}}, {"look_up": {"product": "ridge"}}]},
            "no call look_up with",
        ),
        ({"tools": [{"look_up": {"count": 3}}]}, "no call look_up with"),
        ({"tools": [{"look_up": {"is_gift": False}}]}, "no call look_up with"),
        ({"tools": [{"look_up": {"missing": "hat"}}]}, "no call look_up with"),
        ({"facts": [{"case.opened": {"details.amount_usd": 12}}]}, "no fact case.opened with"),
        ({"facts": ["case.opened", "case.opened"]}, "no fact case.opened"),
        ({"refusals": ["not_found"]}, "no refusal not_found"),
        ({"never": ["look_up"]}, "look_up succeeded"),
        ({"says": ["total is $13"]}, "never said 'total is $13'"),
        ({"says": ["/^total/"]}, "never said '/^total/'"),
    ],
)
def test_what_is_missing_is_said(expect: dict[str, Any], fault: str) -> None:
    (found,) = faults(scenario(**expect), CAME)
    assert found.startswith(fault)


def test_a_session_that_failed_is_a_fault_whatever_came_of_it() -> None:
    failed = Came(calls=CAME.calls, failure="no_answer: waited", oddities={"frame_before_item": 2})
    assert faults(scenario(tools=["look_up"]), failed) == [
        "no_answer: waited",
        "protocol: frame_before_item ×2",
    ]


def test_days_of_lines_are_said_as_people_say_them() -> None:
    said = dated("On {today}, {tomorrow} or {in 3 days}", date(2026, 1, 30))
    assert said == "On Friday, January 30, Saturday, January 31 or Monday, February 2"
