"""Fault scripts: what is understood, and that a wrong one is refused with its place and what was expected."""

from __future__ import annotations

import json
from typing import Any

import pytest

from parley_understudy.fault_plan import (
    ACTS,
    Act,
    Closing,
    Failure,
    FaultsInvalid,
    ScriptedCall,
    Transcript,
    Trouble,
    When,
    plan_of,
    read_plan,
)

EXAMPLES: dict[str, tuple[Any, Any]] = {
    "drop": ({"server": "x"}, "drop"),
    "close": ({"at_ms": 5}, {"close": {"code": 1011, "reason": "bye"}}),
    "refuse": ("open", {"refuse": "invalid_api_key"}),
    "silence": ({"client": "response.create"}, "silence"),
    "expire": ({"at_ms": 5}, "expire"),
    "delay_ms": ({"server": "x"}, {"delay_ms": 20}),
    "duplicate": ({"response": 1, "server": "x"}, {"duplicate": 2}),
    "swap": ({"server": "x"}, "swap"),
    "lose": ({"client": "x"}, "lose"),
    "malformed": ({"server": "x"}, "malformed"),
    "odd_audio": ({"server": "x"}, "odd_audio"),
    "error": ({"client": "x"}, {"error": {"code": "mine", "message": "No."}}),
    "send": ({"server": "x"}, {"send": {"type": "response.mystery"}}),
    "transcript": ({"server": "input_audio_buffer.committed"}, {"transcript": {"late_ms": 9}}),
    "fail": ({"response": 1}, {"fail": "server_error"}),
    "incomplete": ({"response": 1, "server": "x"}, {"incomplete": "content_filter"}),
    "cancel": ({"response": 1, "server": "x"}, {"cancel": "turn_detected"}),
    "late_deltas": ({"response": 1}, {"late_deltas": 3}),
    "collide": ({"client": "response.create"}, "collide"),
    "say": ({"response": 1}, {"say": "Hello."}),
    "call": ({"response": 1}, {"call": {"name": "look", "arguments": {"a": 1}}}),
    "messages": ({"response": 1}, {"messages": 2}),
}


@pytest.mark.parametrize("name", sorted(ACTS))
def test_every_act_is_understood_where_it_makes_sense(name: str) -> None:
    when, do = EXAMPLES[name]
    (rule,) = plan_of([{"when": when, "do": do}]).rules
    assert [act.name for act in rule.acts] == [name]
    assert (rule.times, rule.probability) == (1, 1.0)


def test_short_forms_stand_for_long_ones() -> None:
    short = plan_of(
        [
            {"when": "open", "do": [{"close": 1011}, {"error": "server_error"}]},
            {"when": {"response": 2}, "do": [{"fail": "x"}, {"call": {"name": "look"}}, {"late_deltas": 0}]},
            {
                "when": {"server": "*", "nth": 4},
                "do": ["duplicate", {"delay_ms": 20}, {"delay_ms": [9, 5]}],
                "times": "always",
                "p": 0.5,
            },
        ]
    )
    assert short.rules[0].when == When(opening=True)
    assert short.rules[0].acts == (Act("close", Closing(1011)), Act("error", Trouble("server_error")))
    assert short.rules[1].acts[:2] == (Act("fail", Failure("x")), Act("call", [ScriptedCall("look")]))
    assert short.rules[2].acts == (Act("duplicate", 1), Act("delay_ms", (20, 20)), Act("delay_ms", (5, 9)))
    assert (short.rules[2].times, short.rules[2].probability, short.rules[2].when.nth) == (None, 0.5, 4)


def test_a_script_is_a_list_of_rules_or_an_object_with_a_seed() -> None:
    rule = {"when": {"server": "input_audio_buffer.committed"}, "do": {"transcript": {"failed": "x"}}}
    assert read_plan(json.dumps([rule])).rules == plan_of({"rules": [rule], "seed": 7}).rules
    assert plan_of({"rules": [rule], "seed": 7}).seed == 7
    assert plan_of([rule]).rules[0].acts == (Act("transcript", Transcript(failed="x")),)


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("nonsense", "faults: Expected `object`, got `str`"),
        ({}, "faults: Object missing required field `rules`"),
        ([{"when": "open"}], "faults[0]: Object missing required field `do`"),
        ([{"when": "open", "do": "dorp"}], "faults[0].do: 'dorp' is not known; names are drop, close, "),
        ([{"when": "open", "do": []}], "faults[0].do: expected at least one thing to do"),
        ([{"when": "open", "do": {"drop": True, "lose": True}}], "an object with one name"),
        ([{"when": "open", "do": "drop", "tmies": 2}], "faults[0]: Object contains unknown field `tmies`"),
        ([{"when": "open", "do": "drop", "times": 0}], "faults[0].times: Expected `int` >= 1"),
        ([{"when": "open", "do": "drop", "p": 0}], "faults[0].p: Expected `float` > 0.0"),
        ([{"when": {"serve": "x"}, "do": "drop"}], "faults[0].when: Object contains unknown field `serve`"),
        ([{"when": {}, "do": "drop"}], 'faults[0].when: expected "open", or one of'),
        ([{"when": {"server": "x", "client": "y"}, "do": "drop"}], "faults[0].when: expected"),
        ([{"when": {"server": "x", "at_ms": 5}, "do": "drop"}], "faults[0].when: expected"),
        ([{"when": {"response": 1, "client": "y"}, "do": "drop"}], "faults[0].when: expected"),
        ([{"when": {"at_ms": -1}, "do": "drop"}], "faults[0].when.at_ms: Expected `int` >= 0"),
        ([{"when": {"at_ms": 1}, "do": {"close": 99}}], "faults[0].do.close: Expected"),
        ([{"when": {"at_ms": 1}, "do": {"close": {"code": 1000, "text": ""}}}], "unknown field `text`"),
        ([{"when": {"at_ms": 1}, "do": {"delay_ms": 5}}], "faults[0].do.delay_ms: needs a server event"),
        ([{"when": {"client": "x"}, "do": "odd_audio"}], "faults[0].do.odd_audio: needs a server event"),
        ([{"when": "open", "do": "lose"}], "faults[0].do.lose: needs an event to lose"),
        ([{"when": {"at_ms": 1}, "do": {"refuse": "invalid_api_key"}}], "a session is refused when it opens"),
        ([{"when": {"server": "x"}, "do": {"say": "Hi."}}], "faults[0].do.say: needs a response"),
        ([{"when": {"response": 1, "server": "x"}, "do": {"say": "Hi."}}], "before the response begins"),
        ([{"when": {"client": "session.update"}, "do": "collide"}], "collides with a client's create"),
        ([{"when": {"server": "x"}, "do": {"transcript": "missing"}}], "as a turn is committed"),
        ([{"when": {"response": 1}, "do": {"incomplete": "tired"}}], "faults[0].do.incomplete: Invalid enum"),
        ([{"when": {"response": 1}, "do": {"call": {"arguments": {}}}}], "missing required field `name`"),
        ([{"when": "open", "do": "drop"}] * 201, "faults: Expected `array` of length <= 200"),
    ],
)
def test_a_wrong_script_is_refused_with_its_place_and_what_was_expected(script: Any, complaint: str) -> None:
    with pytest.raises(FaultsInvalid) as refused:
        plan_of(script)
    assert complaint in refused.value.message


@pytest.mark.parametrize("text", ["", "{", "[" * 5000, "\xff"])
def test_what_is_no_json_is_no_script(text: str) -> None:
    with pytest.raises(FaultsInvalid, match="faults"):
        read_plan(text)
