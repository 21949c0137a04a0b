"""Who takes up a problem and how urgent it is: by declared words, skills and the hours of each queue.

It knows no ticket and no clock: the local time is an argument.

Law: every problem has a queue and a priority; what may hurt somebody is urgent, whatever else is said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal, Self

from pydantic import Field, model_validator

from parley_common.business_config import Hours
from parley_tools.files import DataPart

Priority = Literal["low", "normal", "high", "urgent"]
PRIORITIES: tuple[Priority, ...] = ("low", "normal", "high", "urgent")
LOOK_AHEAD_DAYS = 14
_WORD = re.compile(r"[a-z0-9]+")


class Queue(DataPart):
    """People who share a skill."""

    name: str
    title: str
    """As it is said: "our network team"."""
    skills: tuple[str, ...] = Field(min_length=1)
    """Words and phrases of what they can do."""
    hours: Hours
    is_always_open: bool = False
    reply_hours: Mapping[Priority, int]
    """Within how many hours of opening somebody answers a ticket."""


class PriorityRule(DataPart):
    """What makes a problem more urgent than usual."""

    words: tuple[str, ...] = Field(min_length=1)
    priority: Priority
    queue: str | None = None
    """Null: whoever has the skill."""


class Routing(DataPart):
    """data/routing.yaml."""

    queues: tuple[Queue, ...] = Field(min_length=1)
    default_queue: str
    priority_rules: tuple[PriorityRule, ...] = ()
    closed_days: tuple[date, ...] = ()

    @model_validator(mode="after")
    def _names_are_queues(self) -> Self:
        known = {queue.name for queue in self.queues}
        named = {self.default_queue} | {rule.queue for rule in self.priority_rules if rule.queue}
        if strangers := named - known:
            raise ValueError(f"no such queue: {', '.join(sorted(strangers))}")
        for queue in self.queues:
            if lacking := set(PRIORITIES) - set(queue.reply_hours):
                raise ValueError(f"queue {queue.name!r}: reply_hours lacks {', '.join(sorted(lacking))}")
        return self

    def queue(self, name: str) -> Queue:
        """Return a queue by name; the default one when a newer file has it no more."""
        return next((q for q in self.queues if q.name == name), None) or self.queue(self.default_queue)


@dataclass(frozen=True, slots=True)
class Routed:
    """Where a problem goes."""

    queue: Queue
    priority: Priority


def route(routing: Routing, problem: str, *, said: Priority = "normal", skill: str | None = None) -> Routed:
    """Return queue and priority of ``problem``; ``said`` is what the caller thinks of its urgency.

    The highest priority of what is said and what the rules find counts. A rule's own queue goes before skills.
    """
    text = _spaced(problem)
    rules = [rule for rule in routing.priority_rules if _count(rule.words, text)]
    priority = max((said, *(rule.priority for rule in rules)), key=PRIORITIES.index)
    forced = next((rule.queue for rule in rules if rule.queue), None)
    if forced:
        return Routed(routing.queue(forced), priority)
    return Routed(_skilled(routing, f"{_spaced(skill or '')}{text}"), priority)


def _skilled(routing: Routing, text: str) -> Queue:
    scored = [(_count(queue.skills, text), queue) for queue in routing.queues]
    best = max(score for score, _ in scored)
    return next(q for score, q in scored if score == best) if best else routing.queue(routing.default_queue)


def _spaced(text: str) -> str:
    return f" {' '.join(_WORD.findall(text.lower()))} "


def _count(phrases: Sequence[str], text: str) -> int:
    return sum(len(phrase.split()) for phrase in phrases if f" {phrase} " in text or f" {phrase}s " in text)


def is_open(queue: Queue, routing: Routing, local: datetime) -> bool:
    """Tell whether somebody of ``queue`` is there at ``local``."""
    if queue.is_always_open:
        return True
    if local.date() in routing.closed_days:
        return False
    return any(opens <= local.time() < closes for opens, closes in queue.hours.on(local.weekday()))


def opens_at(queue: Queue, routing: Routing, local: datetime) -> datetime | None:
    """Return when ``queue`` is next open, ``local`` itself when it is; null when not within a fortnight."""
    if is_open(queue, routing, local):
        return local
    for ahead in range(LOOK_AHEAD_DAYS + 1):
        day = local.date() + timedelta(days=ahead)
        if day in routing.closed_days:
            continue
        for opens, _ in sorted(queue.hours.on(day.weekday())):
            moment = datetime.combine(day, opens, tzinfo=local.tzinfo)
            if moment > local:
                return moment
    return None
