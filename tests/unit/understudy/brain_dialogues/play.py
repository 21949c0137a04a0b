"""Plays a dialogue file against the brain: the caller's lines are given, tools are simulated by fixed results.

It compares nothing; it returns what the brain called and said in each turn.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from parley_understudy.brain import Answered, Call, Called, Item, Said, Tool, View, decide

HERE = Path(__file__).parent
NOW = datetime(2026, 11, 22, 19, 0, tzinfo=UTC)
DECISIONS_MAX = 8


@dataclass(frozen=True)
class Turn:
    """What the brain did between two sentences of the caller."""

    calls: tuple[Call, ...]
    says: str


def load_tools(name: str) -> tuple[str, tuple[Tool, ...], dict[str, Any]]:
    """Return the instructions, tools and fixed results of one tool set."""
    data = yaml.safe_load((HERE / "tools" / f"{name}.yaml").read_text())
    tools = tuple(Tool(t["name"], t["description"], t["parameters"]) for t in data["tools"])
    return data["instructions"], tools, data["results"]


def load(file: str) -> list[dict[str, Any]]:
    """Return the dialogues of one file."""
    found: list[dict[str, Any]] = yaml.safe_load((HERE / file).read_text())
    return found


def play(dialogue: dict[str, Any]) -> list[Turn]:
    """Return what the brain did in each turn of ``dialogue``."""
    instructions, tools, results = load_tools(dialogue["tools"])
    items: list[Item] = []
    turns: list[Turn] = []
    for line in dialogue["turns"]:
        items.append(Said("user", line["say"]))
        turns.append(answer_turn(instructions, tools, results, items))
    return turns


def answer_turn(
    instructions: str, tools: tuple[Tool, ...], results: dict[str, Any], items: list[Item]
) -> Turn:
    """Let the brain answer until it calls nothing more, and add everything to ``items``."""
    calls: list[Call] = []
    says: list[str] = []
    for _ in range(DECISIONS_MAX):
        decision = decide(View(instructions, tools, tuple(items), NOW))
        if decision.say:
            items.append(Said("assistant", decision.say))
            says.append(decision.say)
        ids = [f"call_{len(items)}_{n}" for n, _ in enumerate(decision.calls)]
        items += [
            Called(i, c.name, json.dumps(c.arguments)) for i, c in zip(ids, decision.calls, strict=True)
        ]
        items += [Answered(i, json.dumps(results[c.name])) for i, c in zip(ids, decision.calls, strict=True)]
        calls += decision.calls
        if not decision.calls:
            break
    return Turn(tuple(calls), " ".join(says))


def expected(line: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the calls that a line of a dialogue expects."""
    return [next(iter(call.items())) for call in line.get("calls", [])]


def misses(dialogue: dict[str, Any]) -> list[str]:
    """Return what went otherwise than ``dialogue`` expects, a sentence each."""
    found: list[str] = []
    for line, turn in zip(dialogue["turns"], play(dialogue), strict=True):
        called = [(c.name, c.arguments) for c in turn.calls]
        if not _agree(called, expected(line)):
            found.append(f"after {line['say']!r}: called {called}, not {expected(line)}; said {turn.says!r}")
        if line.get("hears", "").lower() not in turn.says.lower():
            found.append(f"after {line['say']!r}: said {turn.says!r}, which lacks {line['hears']!r}")
    return found


def _agree(called: list[tuple[str, dict[str, Any]]], wanted: list[tuple[str, dict[str, Any]]]) -> bool:
    names = [name for name, _ in called] == [name for name, _ in wanted]
    return names and all(_same(c, w) for (_, c), (_, w) in zip(called, wanted, strict=True))


def _same(value: Any, wanted: Any) -> bool:
    """Return whether a value is as expected; an expected text that begins with ~ need only be contained."""
    if isinstance(wanted, dict) and isinstance(value, dict):
        return value.keys() == wanted.keys() and all(_same(value[k], wanted[k]) for k in wanted)
    if isinstance(wanted, list) and isinstance(value, list):
        return len(value) == len(wanted) and all(map(_same, value, wanted))
    if isinstance(wanted, str) and wanted.startswith("~"):
        return isinstance(value, str) and wanted[1:].lower() in value.lower()
    return bool(value == wanted)
