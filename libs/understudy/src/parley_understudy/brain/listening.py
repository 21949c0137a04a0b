"""Takes in one sentence of the caller: what it answers, corrects, chooses, asks for or gives.

It changes the mind only; what to say or call is decided afterwards, from the mind.

Law: a sentence is read against what the agent last asked before it is read as a new request.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from .choosing import choice, moment_of
from .figures import assign
from .filling import Filled, Setting, fill
from .goals import kept, kind_of, opened
from .kit import ENOUGH, Kit, Spec, Wish, takes_moment, wishes
from .mind import Asked, Goal, Mind, known, plan
from .moods import mood_of
from .reading import Heard, read
from .requests import requested
from .results import Offer
from .schema import Param, Signature
from .wording import read_back_values
from .wordings import bare_name
from .words import STOP, canon, name_words, plain

_STRONG_HINT = 2.6


def hear(mind: Mind, text: str, kit: Kit, now: datetime) -> Mind:
    """Return the mind after the caller said ``text``."""
    heard = read(text, now)
    mind = replace(
        mind, mood="", understood=True, changed=(), caller_said=heard.text, fresh=(), calls_count=0, met=True
    )
    mind = _hinted(_introduced(mind, heard), heard, kit)
    if not heard.text.strip():
        return replace(mind, understood=False)
    chosen = choice(heard, mind.offers)
    if chosen is not None and not _searches_anew(mind, heard, kit):
        taken = _chosen(mind, heard, chosen, kit, now)
        if taken is not None:
            return taken
    if mind.asked.suggestion and heard.agrees is not None and not heard.substance:
        return _suggested(mind, heard, kit)
    answered = _answered(mind, heard, kit, now)
    if answered is not None:
        return answered
    return requested(mind, heard, kit, now)


def _introduced(mind: Mind, heard: Heard) -> Mind:
    """Remember who the caller says they are; a goal that wrote down something else is open again."""
    said = {
        kind: found[-1].value
        for kind, found in (("email", heard.emails), ("phone", heard.phones), ("name", heard.names))
        if found
    }
    if not said:
        return mind
    goals = tuple(
        replace(g, slots={k: v for k, v in g.slots.items() if v not in _outdated(mind, said)})
        for g in mind.goals
    )
    return replace(mind, facts={**mind.facts, **said}, goals=goals)


def _outdated(mind: Mind, said: Mapping[str, str]) -> list[str]:
    return [mind.facts[k] for k, v in said.items() if k in mind.facts and mind.facts[k] != v]


def _hinted(mind: Mind, heard: Heard, kit: Kit) -> Mind:
    """Remember figures that name a parameter outright, for tools that are not wanted yet."""
    if not heard.amounts:
        return mind
    hints = {k: dict(v) for k, v in mind.hints.items()}
    for spec in kit.specs.values():
        figures = assign(heard, spec.signature.params)
        sure = {k: v for k, v in figures.values.items() if figures.strength.get(k, 0) >= _STRONG_HINT}
        if sure:
            hints[spec.name] = {**hints.get(spec.name, {}), **sure}
    return replace(mind, hints=hints)


def _chosen(mind: Mind, heard: Heard, offer: Offer, kit: Kit, now: datetime) -> Mind | None:
    """Put the chosen offer's fields into the tool that takes them."""
    order = [g.tool for g in reversed(mind.goals)] + list(kit.specs)
    best: tuple[int, Spec, dict[str, Any]] | None = None
    for name in dict.fromkeys(order):
        spec = kit.get(name)
        if spec is None:
            continue
        values = _offer_values(spec, offer)
        open_goal = mind.goal(name) is not None and not (mind.goal(name) or Goal("")).closed
        rank = (
            len(values) * 2
            + (3 if open_goal else 0)
            - (4 if spec.looks_up and name == mind.offered_by else 0)
        )
        if values and (best is None or rank > best[0]):
            best = (rank, spec, values)
    if best is None:
        return None
    _, spec, values = best
    goal = mind.goal(spec.name) or opened(mind, spec)
    goal = replace(goal, slots={**goal.slots, **values}, closed=False, faults={})
    lacking = [p.name for p in spec.signature.required if p.name not in goal.slots and p.kind == "number"]
    free = Signature(tuple(p for p in spec.signature.params if p.name not in values))
    got = fill(heard, free, Setting(now, tuple(lacking) if len(lacking) == 1 else (), slots=goal.slots))
    return kept(replace(mind, offers=()), goal, replace(got, faults={}), spec)


def _searches_anew(mind: Mind, heard: Heard, kit: Kit) -> bool:
    """Return whether "actually, make it Wednesday" changes the day that was searched rather than choosing an offer."""
    spec = kit.get(mind.offered_by)
    dated = spec is not None and any(p.kind in {"date", "instant"} for p in spec.signature.params)
    return dated and heard.corrects and bool(heard.days) and not heard.clocks


def _offer_values(spec: Spec, offer: Offer) -> dict[str, Any]:
    values: dict[str, Any] = {}
    moment, slot = moment_of(offer), takes_moment(spec)
    for param in spec.signature.params:
        own, tail = param.path[-1], param.path[-1].removesuffix("_id")
        value = offer.values.get(own)
        if value is None and own.endswith("_id") and f"{tail}s" not in offer.values:
            value = offer.values.get("id")
        if (
            value is None
            and len(offer.values) == 1
            and {canon(k) for k in offer.values} & {canon(w) for w in name_words(own)}
        ):
            value = next(iter(offer.values.values()))
        if value is not None and param.fault(value) is None:
            values[param.name] = value
    if moment is not None:
        _add_moment(values, spec, moment, slot)
    return values


def _add_moment(values: dict[str, Any], spec: Spec, moment: datetime, slot: Param | None) -> None:
    if slot is not None:
        values.setdefault(slot.name, moment.isoformat())
        return
    for param in spec.signature.params:
        if param.kind == "date":
            values.setdefault(param.name, moment.date().isoformat())
        elif param.kind == "time":
            values.setdefault(param.name, moment.strftime("%H:%M"))


def _suggested(mind: Mind, heard: Heard, kit: Kit) -> Mind:
    spec = kit.get(mind.asked.suggestion or "")
    if not heard.agrees or spec is None:
        return replace(mind, mood="rejected")
    return mind.put(opened(mind, spec))


def _answered(mind: Mind, heard: Heard, kit: Kit, now: datetime) -> Mind | None:
    """Read the sentence as the answer to what was asked; None when it is not one."""
    asked, spec = mind.asked, kit.get(mind.asked.tool)
    if spec is None or mind.running:
        return None
    goal = mind.goal(asked.tool) or (Goal(asked.tool) if asked.params else None)
    if goal is None or goal.closed:
        return None
    if asked.confirm:
        return _confirmed(mind, heard, spec, goal, now)
    rivals = [w for w in wishes(kit, heard) if w.spec.name != spec.name]
    setting = Setting(now, asked.params, slots=goal.slots, halves=goal.halves)
    got = fill(heard, spec.signature, setting)
    if _turned_away(heard, rivals, got, asked, spec):
        return None
    if not got.values and not got.halves and not got.faults:
        return None if heard.agrees is not True or rivals else replace(mind, understood=False)
    refused = next(
        (p for p in spec.signature.params if p.consent and p.required and got.values.get(p.name) is False),
        None,
    )
    if refused is not None:
        return replace(mind.put(replace(goal, closed=True)), mood="refused")
    return kept(mind, goal, got, spec)


def _turned_away(heard: Heard, rivals: list[Wish], got: Filled, asked: Asked, spec: Spec) -> bool:
    """Return whether the caller asks for something else instead of answering."""
    if (
        mood_of(heard.text) in {"bye", "dropped", "repeat", "abilities", "who", "wait"}
        and not heard.substance
    ):
        return True
    wordy = {p.name for p in spec.signature.params if p.kind in {"text", "plain", "place", "list"}}
    firm = [n for n in got.values if n not in wordy]
    if heard.question and (rivals or set(got.values) <= wordy) and not set(firm) & set(asked.params):
        return True
    strong = rivals and rivals[0].score >= ENOUGH + 1.0
    asks_in_words = re.search(
        r"\b(?:i'd like to|i want to|i would like to|i need to|can you|could you|let me|instead)\b",
        heard.text,
        re.IGNORECASE,
    )
    return bool(strong and asks_in_words and not firm and not set(asked.params) & set(firm))


def _confirmed(mind: Mind, heard: Heard, spec: Spec, goal: Goal, now: datetime) -> Mind | None:
    got = fill(heard, spec.signature, Setting(now, slots=goal.slots, halves=goal.halves))
    changed = {
        k: v for k, v in got.values.items() if goal.slots.get(k, mind.facts.get(kind_of(spec, k))) != v
    }
    if heard.agrees and not changed:
        values = {value for _, value in read_back_values(spec, known(mind, spec, goal))}
        return replace(mind, trusted=mind.trusted | values)
    if changed or got.halves or heard.details:
        return kept(mind, goal, got, spec)
    named = _named_param(heard, spec)
    if heard.agrees is False or (heard.corrects and named):
        bare = bare_name(re.sub(r"^\W*(?:no|nope|not quite)\W+", "", heard.text, flags=re.IGNORECASE))
        if named is None and bare and bare[0].isupper() and heard.agrees is False:
            return replace(mind, facts={**mind.facts, "name": bare})
        if named is None:
            return replace(mind, mood="rejected")
        return _forgotten(mind, goal, named)
    return _forgotten(mind, goal, named) if named and len(heard.content) <= 2 else None


def _named_param(heard: Heard, spec: Spec) -> Param | None:
    said = {w.canon for w in heard.words}
    for param in spec.signature.params:
        words = {canon(w) for w in param.words if w not in STOP} - {canon("full"), canon("usd")}
        if words and words <= said:
            return param
    return None


def _forgotten(mind: Mind, goal: Goal, param: Param) -> Mind:
    slots = {k: v for k, v in goal.slots.items() if k != param.name}
    facts = {k: v for k, v in mind.facts.items() if k != param.kind}
    return replace(mind, facts=facts).put(replace(goal, slots=slots, closed=False))


def listened(mind: Mind, text: str, kit: Kit) -> Mind:
    """Return the mind with what a system item says kept out of the caller's mouth: it changes nothing but the mood."""
    silent = re.search(
        r"\b(?:no (?:user )?speech|silen(?:t|ce)|idle|still there)\b", plain(text), re.IGNORECASE
    )
    return replace(mind, mood="wait", understood=plan(mind, kit).kind != "idle") if silent else mind
