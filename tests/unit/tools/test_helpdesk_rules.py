"""The helpdesk's rules by table: where a problem goes and how urgent it is, hours, trees, and what a rating means."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from pydantic import ValidationError

from parley_tools.rules.helpdesk_feedback import judge
from parley_tools.rules.helpdesk_routing import Routing, is_open, opens_at, route
from parley_tools.rules.helpdesk_trees import Ending, Step, Tree, Trees, fitting

DATA = Path(__file__).parents[3] / "businesses" / "helpdesk" / "data"
CHICAGO = ZoneInfo("America/Chicago")
END = {"id": "end", "say": "Done.", "is_solved": True, "finding": "Done."}


@pytest.fixture(scope="module")
def routing() -> Routing:
    return Routing.model_validate(yaml.safe_load((DATA / "routing.yaml").read_text()))


@pytest.fixture(scope="module")
def trees() -> tuple[Tree, ...]:
    return Trees.model_validate(yaml.safe_load((DATA / "trees.yaml").read_text())).trees


@pytest.mark.parametrize(
    ("problem", "said", "queue", "priority"),
    [
        ("My hub has no signal", "normal", "network", "normal"),
        ("The TV box does not record", "normal", "devices", "normal"),
        ("I cannot log in, I forgot my password", "normal", "accounts", "normal"),
        ("I was charged twice on my bill", "low", "billing", "high"),
        ("I want to cancel my contract", "low", "sales", "low"),
        ("Something else entirely", "normal", "frontline", "normal"),
        ("I have no internet and work from home", "normal", "network", "high"),
        ("my father's medical alarm is offline", "normal", "network", "urgent"),
        ("The hub is smoking", "low", "safety", "urgent"),
        ("my bill smells of burning", "low", "safety", "urgent"),
        ("a question about my bill", "urgent", "billing", "urgent"),
    ],
)
def test_a_problem_goes_to_who_can_help_as_urgently_as_it_is(
    routing: Routing, problem: str, said: Any, queue: str, priority: str
) -> None:
    routed = route(routing, problem, said=said)
    assert (routed.queue.name, routed.priority) == (queue, priority)


def test_a_skill_that_was_found_out_counts_with_what_was_said(routing: Routing) -> None:
    assert route(routing, "it does not work", skill="tv box").queue.name == "devices"


@pytest.mark.parametrize(
    ("queue", "at", "there", "opens"),
    [
        ("billing", "2026-01-05T09:00", True, "2026-01-05T09:00"),
        ("billing", "2026-01-05T08:59", False, "2026-01-05T09:00"),
        ("billing", "2026-01-05T17:00", False, "2026-01-06T09:00"),
        ("billing", "2026-01-02T17:00", False, "2026-01-05T09:00"),
        ("billing", "2026-12-24T18:00", False, "2026-12-28T09:00"),
        ("network", "2026-01-04T12:00", True, "2026-01-04T12:00"),
        ("network", "2026-01-01T12:00", False, "2026-01-02T07:00"),
        ("safety", "2026-12-25T03:00", True, "2026-12-25T03:00"),
        ("network", "2026-03-07T23:00", False, "2026-03-08T08:00"),
    ],
)
def test_a_queue_is_there_in_its_hours_and_not_on_closed_days(
    routing: Routing, queue: str, at: str, there: bool, opens: str
) -> None:
    local = datetime.fromisoformat(at).replace(tzinfo=CHICAGO)
    assert is_open(routing.queue(queue), routing, local) is there
    moment = opens_at(routing.queue(queue), routing, local)
    assert moment == datetime.fromisoformat(opens).replace(tzinfo=CHICAGO)


def test_a_queue_that_never_opens_has_no_opening(routing: Routing) -> None:
    never = routing.queue("safety").model_copy(update={"is_always_open": False})
    assert opens_at(never, routing, datetime(2026, 1, 5, tzinfo=CHICAGO)) is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"default_queue": "nobody"}, "no such queue: nobody"),
        ({"priority_rules": [{"words": ["x"], "priority": "high", "queue": "them"}]}, "no such queue: them"),
    ],
)
def test_routing_to_nobody_is_refused(routing: Routing, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Routing.model_validate({**routing.model_dump(), **changes})


@pytest.mark.parametrize(
    ("problem", "tree"),
    [
        ("My internet is not working", "no-internet"),
        ("we are offline since this morning", "no-internet"),
        ("the wifi is slow upstairs", "slow-wifi"),
        ("my TV picture is frozen", "tv-picture"),
        ("I can't log in to my account", "sign-in"),
        ("my dog ate the remote", None),
        ("", None),
    ],
)
def test_a_problem_finds_its_tree(trees: tuple[Tree, ...], problem: str, tree: str | None) -> None:
    found = fitting(trees, problem)
    assert (found.id if found else None) == tree


def test_every_walk_through_every_tree_ends_within_a_few_steps(trees: tuple[Tree, ...]) -> None:
    for tree in trees:
        for answers in range(2**8):
            part: Step | Ending | None = tree.steps[0]
            steps_count = 0
            while isinstance(part, Step):
                part = tree.part(part.after(is_yes=bool(answers >> steps_count & 1)))
                steps_count += 1
            assert isinstance(part, Ending)
            assert steps_count <= 8


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ([{"id": "a", "ask": "?", "if_yes": "end", "if_no": "nowhere"}], "leads to nowhere"),
        ([{"id": "a", "ask": "?", "if_yes": "end", "if_no": "a"}], "in a circle at 'a'"),
        (
            [
                {"id": "a", "ask": "?", "if_yes": "end", "if_no": "end"},
                {"id": "b", "ask": "?", "if_yes": "end", "if_no": "end"},
            ],
            "nothing leads to b",
        ),
        ([{"id": "end", "ask": "?", "if_yes": "end", "if_no": "end"}], "share an id"),
    ],
)
def test_a_tree_that_cannot_be_walked_is_refused(steps: list[dict[str, str]], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Tree.model_validate({"id": "t", "title": "t", "words": ["t"], "steps": steps, "endings": [END]})


@pytest.mark.parametrize(
    ("rating", "recommend", "expected"),
    [
        (5, None, (True, None, False)),
        (4, 9, (True, "promoter", False)),
        (4, 8, (True, "passive", False)),
        (3, 7, (False, "passive", False)),
        (3, None, (False, None, False)),
        (5, 6, (True, "detractor", True)),
        (2, None, (False, None, True)),
        (1, 10, (False, "promoter", True)),
    ],
)
def test_a_rating_means_what_the_two_scales_say(rating: int, recommend: int | None, expected: Any) -> None:
    judged = judge(rating, recommend)
    assert (judged.is_satisfied, judged.recommender, judged.needs_care) == expected
