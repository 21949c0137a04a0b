"""What the brain makes of a conversation so far: goals, facts, offers, what was asked. Values only.

It is rebuilt from the items at every decision; nothing of it outlives one.

Law: a goal's arguments are what was said, or what a tool's result carries under the same name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from .filling import Half, name_part, shaped
from .kit import Kit, Spec
from .moods import Mood
from .reading import Heard
from .results import Offer, Outcome
from .schema import Param

CALLS_MAX = 5


@dataclass(frozen=True)
class Goal:
    """A tool that is to be called, and what is known for it. ``closed``: called, and nothing changed since."""

    tool: str
    slots: Mapping[str, Any] = field(default_factory=dict)
    halves: Mapping[str, Half] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)
    closed: bool = False
    called: bool = False


@dataclass(frozen=True)
class Asked:
    """What the agent's last words wait for."""

    tool: str = ""
    params: tuple[str, ...] = ()
    confirm: bool = False
    suggestion: str | None = None


@dataclass(frozen=True)
class Mind:
    """The conversation, understood. ``fresh`` are outcomes nobody has spoken of yet."""

    goals: tuple[Goal, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    learned: Mapping[str, Any] = field(default_factory=dict)
    hints: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    trusted: frozenset[str] = frozenset()
    offers: tuple[Offer, ...] = ()
    offered_by: str = ""
    asked: Asked = Asked()
    fresh: tuple[Outcome, ...] = ()
    last_outcome: Outcome | None = None
    running: Mapping[str, str] = field(default_factory=dict)
    waiting: Mapping[str, str] = field(default_factory=dict)
    """Refused tools, each with the one that must succeed first."""
    led: frozenset[tuple[str, str]] = frozenset()
    """Refused tools and where they led: a step that was done and did not help is not asked for again."""
    calls_count: int = 0
    mood: Mood = ""
    agent_said: str = ""
    caller_said: str = ""
    understood: bool = True
    changed: tuple[tuple[str, str], ...] = ()
    met: bool = False

    def goal(self, tool: str) -> Goal | None:
        """Return the goal for ``tool``, if there is one."""
        return next((g for g in self.goals if g.tool == tool), None)

    def put(self, goal: Goal, *, front: bool = True) -> Mind:
        """Return the mind with ``goal`` in it, as the present one unless ``front`` is False."""
        if not front and any(g.tool == goal.tool for g in self.goals):
            return replace(self, goals=tuple(goal if g.tool == goal.tool else g for g in self.goals))
        rest = tuple(g for g in self.goals if g.tool != goal.tool)
        return replace(self, goals=(*rest, goal) if front else (goal, *rest))

    @property
    def present(self) -> Goal | None:
        """The goal that is worked on: the latest that is not closed."""
        return next((g for g in reversed(self.goals) if not g.closed), None)


@dataclass(frozen=True)
class Step:
    """What comes next for the present goal."""

    kind: Literal["idle", "ask", "confirm", "call"]
    tool: str = ""
    params: tuple[Param, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)


def known(mind: Mind, spec: Spec, goal: Goal) -> dict[str, Any]:
    """Return the arguments known for ``goal`` by parameter name: said for it, said before, or learned from a result."""
    found: dict[str, Any] = {}
    for param in spec.signature.params:
        value = goal.slots.get(param.name)
        if value is None:
            value = _from_facts(mind, param)
        if value is None and (param.required or param.internal):
            value = _from_results(mind, param)
        if value is not None and param.fault(value) is None:
            found[param.name] = value
    return found


def _from_facts(mind: Mind, param: Param) -> str | None:
    if not param.personal:
        return None
    fact = mind.facts.get(param.kind)
    if fact is None:
        return None
    return name_part(param, fact) if param.kind == "name" else shaped(param, fact)


def _from_results(mind: Mind, param: Param) -> Any:
    value = mind.learned.get(param.path[-1])
    wanted = {"number": (int, float), "boolean": (bool,), "list": (list,)}.get(param.kind, (str, int))
    if (
        param.consent
        or not isinstance(value, wanted)
        or (isinstance(value, bool) and param.kind != "boolean")
    ):
        return None
    if param.kind != "number" and isinstance(value, int) and not isinstance(value, bool):
        return value if param.schema.get("type") in {"integer", "number"} else str(value)
    return value


def plan(mind: Mind, kit: Kit) -> Step:
    """Return the next step: ask for what is missing, read back, call, or nothing."""
    goal = mind.present
    spec = kit.get(goal.tool) if goal else None
    if goal is None or spec is None:
        return Step("idle")
    arguments = known(mind, spec, goal)
    missing = [p for p in spec.signature.required if p.name not in arguments]
    if missing:
        return Step("ask", spec.name, _first_asked(missing), arguments)
    if spec.read_back and untrusted(mind, spec, arguments):
        return Step("confirm", spec.name, (), arguments)
    return Step("call", spec.name, (), arguments)


def untrusted(mind: Mind, spec: Spec, arguments: Mapping[str, Any]) -> bool:
    """Return whether something that is to be read back was not confirmed yet."""
    kinds = {"name", "email", "phone"}
    return any(
        str(arguments[p.name]) not in mind.trusted
        for p in spec.signature.params
        if p.kind in kinds and p.name in arguments
    )


def _first_asked(missing: list[Param]) -> tuple[Param, ...]:
    """Return the one or two parameters to ask for first: consent comes last, figures may come in pairs."""
    ordered = sorted(missing, key=lambda p: (p.internal, p.consent))
    pair = tuple(p for p in ordered[:2] if p.kind == "number")
    return pair if len(pair) == 2 else tuple(ordered[:1])


def nested(spec: Spec, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments as the tool takes them: a field of a nested object goes inside its object."""
    result: dict[str, Any] = {}
    for param in spec.signature.params:
        if param.name not in arguments:
            continue
        place = result
        for outer in param.path[:-1]:
            place = place.setdefault(outer, {})
        place[param.path[-1]] = arguments[param.name]
    return result


def flattened(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tool's arguments by parameter name: the inverse of ``nested``."""
    flat: dict[str, Any] = {}
    for name, value in arguments.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": v for inner, v in value.items()}
        else:
            flat[name] = value
    return flat


def changed_by(goal: Goal, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of ``values`` that differ from what ``goal`` has."""
    return {k: v for k, v in values.items() if goal.slots.get(k) != v}


def substance(mind: Mind, heard: Heard) -> bool:
    """Return whether a sentence says anything beyond yes, no and filler."""
    return heard.substance or len(heard.content) > (1 if mind.asked.params else 2)
