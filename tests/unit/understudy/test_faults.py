"""When faults fire: counted along events, responses and time, and the same on every run."""

from __future__ import annotations

from typing import Any

from parley_understudy.fault_plan import plan_of
from parley_understudy.faults import Faults


def faults(*rules: dict[str, Any], seed: int = 0) -> Faults:
    return Faults(plan_of({"rules": list(rules), "seed": seed}))


def names(acts: list[Any]) -> list[str]:
    return [act.name for act in acts]


def created(response_id: str) -> dict[str, Any]:
    return {"type": "response.created", "response": {"id": response_id}}


def delta(response_id: str) -> dict[str, Any]:
    return {"type": "response.output_audio.delta", "response_id": response_id}


def test_a_rule_fires_at_its_nth_match_and_once() -> None:
    script = faults({"when": {"server": "response.output_audio.delta", "nth": 3}, "do": "drop"})
    fired = [names(script.server_sends(delta("r"))) for _ in range(5)]
    assert fired == [[], [], ["drop"], [], []]


def test_a_rule_fires_from_its_nth_match_on_as_often_as_it_may() -> None:
    script = faults({"when": {"client": "response.create", "nth": 2}, "do": "lose", "times": 2})
    assert [bool(script.client_sent("response.create")) for _ in range(5)] == [
        False,
        True,
        True,
        False,
        False,
    ]
    assert script.client_sent("session.update") == []


def test_a_star_at_the_end_of_a_type_stands_for_any_rest() -> None:
    script = faults({"when": {"server": "response.*"}, "do": "drop", "times": "always"})
    kinds = ["response.created", "rate_limits.updated", "response.done"]
    events = [{"type": kind, "response": {"id": "r"}} for kind in kinds]
    assert [bool(script.server_sends(event)) for event in events] == [True, False, True]
    anything = faults({"when": {"server": "*", "nth": 2}, "do": "drop"})
    assert [bool(anything.server_sends(event)) for event in events] == [False, True, False]


def test_a_response_is_counted_as_it_is_created() -> None:
    script = faults({"when": {"response": 2}, "do": {"fail": "server_error"}})
    fired = [names(script.server_sends(created(each))) for each in ("r1", "r2", "r3")]
    assert fired == [[], ["fail"], []]


def test_calls_in_a_row_begin_with_one_response_and_go_on() -> None:
    script = faults({"when": {"response": 2}, "do": {"call": {"name": "hang_up"}}, "times": 3})
    fired = [bool(script.server_sends(created(f"r{at}"))) for at in range(1, 7)]
    assert fired == [False, True, True, True, False, False]


def test_an_event_within_a_response_is_counted_within_it() -> None:
    rule = {"when": {"response": 2, "server": "response.output_audio.delta", "nth": 2}, "do": "drop"}
    script = faults(rule)
    events = [created("r1"), delta("r1"), delta("r1"), created("r2"), delta("r2"), delta("r1"), delta("r2")]
    assert [bool(script.server_sends(event)) for event in events] == [False] * 6 + [True]


def test_time_fires_a_rule_once_and_says_when() -> None:
    script = faults({"when": {"at_ms": 700}, "do": "silence"}, {"when": {"at_ms": 300}, "do": "expire"})
    assert script.due_ms() == 300
    assert script.time_came(299) == []
    assert names(script.time_came(300)) == ["expire"]
    assert script.due_ms() == 700
    assert names(script.time_came(9999)) == ["silence"]
    assert script.due_ms() is None


def test_opening_fires_only_what_waits_for_it() -> None:
    script = faults({"when": "open", "do": {"refuse": "invalid_model"}}, {"when": {"at_ms": 0}, "do": "drop"})
    assert names(script.opening()) == ["refuse"]


def test_chance_comes_from_the_seed_and_from_nothing_else() -> None:
    rule = {"when": {"server": "x"}, "do": "lose", "times": "always", "p": 0.3}

    def run(seed: int, *others: dict[str, Any]) -> list[int]:
        script = faults(rule, *others, seed=seed)
        return [len(script.server_sends({"type": "x"})) for _ in range(200)]

    assert run(1) == run(1)
    assert run(1) != run(2)
    assert 40 <= sum(run(1)) <= 80
    assert run(1) == run(1, {"when": {"server": "y"}, "do": "drop", "p": 0.5}), "other rules change nothing"


def test_a_delay_within_a_range_is_drawn_anew_each_time_and_the_same_on_every_run() -> None:
    rule = {"when": {"server": "x"}, "do": {"delay_ms": [20, 400]}, "times": "always"}

    def run(seed: int) -> list[int]:
        script = faults(rule, seed=seed)
        return [act.value for _ in range(50) for act in script.server_sends({"type": "x"})]

    assert run(1) == run(1) != run(2)
    assert len(set(run(1))) > 20
    assert 20 <= min(run(1)) < max(run(1)) <= 400
