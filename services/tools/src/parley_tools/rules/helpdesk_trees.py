"""Guided troubleshooting: trees of yes-or-no questions, and where an answer leads.

A tree is data. A step asks one thing; each of its two answers leads to another step, or to an end: solved, or handed
on to people with the words for it. It keeps no state: the step a caller is at is an argument.

Law: a tree that leads nowhere, round in a circle, or past its own steps is refused when it is read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Self

from pydantic import Field, model_validator

from parley_tools.files import DataPart

_WORD = re.compile(r"[a-z0-9]+")
STEPS_MAX = 12


class Ending(DataPart):
    """Where a tree ends."""

    id: str
    say: str
    is_solved: bool
    skill: str | None = None
    """Of those who take it up when it is not solved."""
    finding: str
    """What is known now, for the person who takes it up."""


class Step(DataPart):
    """One thing to look at or to try, and a question that yes or no answers."""

    id: str
    ask: str
    if_yes: str
    """The id of the step or ending that follows."""
    if_no: str

    def after(self, *, is_yes: bool) -> str:
        return self.if_yes if is_yes else self.if_no


class Tree(DataPart):
    """How one kind of problem is narrowed down, from its first step on."""

    id: str
    title: str
    words: tuple[str, ...] = Field(min_length=1)
    """Words and phrases in which callers tell of it."""
    steps: tuple[Step, ...] = Field(min_length=1, max_length=STEPS_MAX)
    endings: tuple[Ending, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _leads_to_ends(self) -> Self:
        ids = [part.id for part in self.parts]
        if len(set(ids)) != len(ids):
            raise ValueError(f"tree {self.id!r}: two parts share an id")
        for step in self.steps:
            if unknown := {step.if_yes, step.if_no} - set(ids):
                raise ValueError(
                    f"step {step.id!r} leads to {', '.join(sorted(unknown))}, which is not there"
                )
        seen = self._reached(self.steps[0].id, ())
        if lost := set(ids) - seen:
            raise ValueError(f"tree {self.id!r}: nothing leads to {', '.join(sorted(lost))}")
        return self

    def _reached(self, at: str, path: tuple[str, ...]) -> set[str]:
        if at in path:
            raise ValueError(f"tree {self.id!r} goes round in a circle at {at!r}")
        part = self.part(at)
        if not isinstance(part, Step):
            return {at}
        return {at}.union(*(self._reached(to, (*path, at)) for to in (part.if_yes, part.if_no)))

    def part(self, part_id: str) -> Step | Ending | None:
        """Return a step or ending by its id; null when a newer file has it no more."""
        return next((part for part in self.parts if part.id == part_id), None)

    @property
    def parts(self) -> list[Step | Ending]:
        """All steps, then all endings."""
        return [*self.steps, *self.endings]


class Trees(DataPart):
    """data/trees.yaml."""

    trees: tuple[Tree, ...] = Field(min_length=1)

    def tree(self, tree_id: str) -> Tree | None:
        return next((each for each in self.trees if each.id == tree_id), None)


def fitting(trees: Sequence[Tree], problem: str) -> Tree | None:
    """Return the tree that most words of ``problem`` speak of; longer phrases count more; null when none does."""
    said = f" {' '.join(_WORD.findall(problem.lower()))} "
    scored = [(_score(tree, said), tree) for tree in trees]
    best = max(score for score, _ in scored)
    return next(tree for score, tree in scored if score == best) if best else None


def _score(tree: Tree, said: str) -> int:
    return sum(len(phrase.split()) ** 2 for phrase in tree.words if f" {phrase} " in said)
