"""Opens goals and keeps what was said for them.

It reads no sentence and chooses no tool.

Law: what a sentence gave is kept as it was given; nothing is filled up here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .filling import Filled
from .kit import Spec
from .mind import Goal, Mind, changed_by


def kind_of(spec: Spec, name: str) -> str:
    param = spec.signature.get(name)
    return param.kind if param else ""


def kept(mind: Mind, goal: Goal, got: Filled, spec: Spec) -> Mind:
    """Keep what a sentence gave, also as facts about the caller."""
    facts = dict(mind.facts)
    for name, value in got.values.items():
        param = spec.signature.get(name)
        if param is not None and param.personal and {"first", "last"}.isdisjoint(param.words):
            facts[param.kind] = str(value)
    changed = tuple((goal.tool, name) for name in changed_by(goal, got.values) if name in goal.slots)
    slots = {**goal.slots, **got.values}
    goal = replace(goal, slots=slots, halves={**goal.halves, **got.halves}, faults=got.faults, closed=False)
    return replace(mind, facts=facts, changed=changed).put(goal)


def opened(mind: Mind, spec: Spec) -> Goal:
    """Return a new goal with what was said before for parameters of the same name."""
    slots: dict[str, Any] = {}
    for other in mind.goals:
        for param in spec.signature.params:
            if param.kind in {"number", "enum", "place", "code"} and param.name in other.slots:
                value = other.slots[param.name]
                slots |= {param.name: value} if param.fault(value) is None else {}
    return Goal(spec.name, {**slots, **mind.hints.get(spec.name, {})})
