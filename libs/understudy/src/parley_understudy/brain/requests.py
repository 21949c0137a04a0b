"""Takes a sentence for a request, a correction of what was done, or small talk, when it answers nothing.

It opens goals; it neither asks nor calls.

Law: small talk opens no goal, and what is only remarked upon is not done again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from .filling import Setting, fill
from .goals import kept, kind_of, opened
from .kit import ENOUGH, Kit, Spec, Wish, contact_tool, forerunner, wishes
from .mind import Goal, Mind, changed_by, plan, substance
from .moods import Mood, mood_of
from .reading import Heard, read
from .schema import Param

_AFRESH = re.compile(
    r"\b(?:another|different|new one|second one|next one|also (?:check|look|book|add|order|get|put|take))\b",
    re.IGNORECASE,
)
_URGES = re.compile(
    r"\b(?:again|please|can you|could you|i'd like|i want|i need|let's|go ahead|once more)\b", re.IGNORECASE
)
_PARTS = re.compile(
    r"(?<=[.!?])\s+|,?\s+and (?:also|then|could you|can you|please)?\s*|,?\s+also\s+|;\s*", re.IGNORECASE
)


def requested(mind: Mind, heard: Heard, kit: Kit, now: datetime) -> Mind:
    """Read the sentence as a request, as a correction of something done, or as small talk."""
    mood = mood_of(heard.text)
    if mood in {"repeat", "abilities", "who", "wait"} and not heard.substance:
        return replace(mind, mood=mood)
    if mood == "dropped":
        goal = mind.present
        return replace(mind.put(replace(goal, closed=True)) if goal else mind, mood=mood, waiting={})
    wanted = _wanted(mind, heard, kit)
    corrected = _corrected(mind, heard, kit, now, wanted)
    if corrected is not None:
        return corrected
    if mood == "bye" and not any(w.score >= ENOUGH + 1 for w in wanted):
        return replace(mind, mood=mood)
    if not wanted:
        return _unplaced(mind, heard, kit, now, mood)
    for wish, part in _in_parts(kit, heard, wanted, now)[::-1]:
        mind = _begun(mind, wish.spec, part, kit, now)
    return mind


def _wanted(mind: Mind, heard: Heard, kit: Kit) -> list[Wish]:
    """Return the tools asked for; giving contact details asks for the tool that keeps them."""
    found = wishes(kit, heard)
    contact = contact_tool(kit, heard)
    reachable = bool(heard.emails or heard.phones)
    if contact is not None and (reachable or not heard.question):
        busy = mind.present is not None and _takes_details(kit.get(mind.present.tool))
        strongest = found[0].score if found else 0.0
        enough = ENOUGH + (0.6 if found and _takes_details(found[0].spec) else 1.2)
        other = bool(found) and found[0].spec is not contact and strongest >= enough
        if not busy and (not other or found[0].spec.seeks):
            return [Wish(contact, strongest + 1)]
    return [w for w in found if not _mere_remark(mind, heard, w)]


def _takes_details(spec: Spec | None) -> bool:
    return spec is not None and any(p.personal for p in spec.signature.params)


def _mere_remark(mind: Mind, heard: Heard, wish: Wish) -> bool:
    """Return whether a sentence only talks about what was just done, as in "great, that looks like a good deal"."""
    goal = mind.goal(wish.spec.name)
    if goal is None or not goal.closed or not goal.called or heard.question:
        return False
    return not heard.substance and not heard.corrects and not _URGES.search(heard.text)


def _in_parts(kit: Kit, heard: Heard, wanted: list[Wish], now: datetime) -> list[tuple[Wish, Heard]]:
    """Split a sentence with two requests; one request keeps its whole sentence."""
    parts = [p for p in _PARTS.split(heard.text) if p and len(p.split()) >= 2]
    found: dict[str, tuple[Wish, Heard]] = {}
    for part in parts if 1 < len(parts) <= 6 else []:
        words = read(part.strip(), now)
        best = next(iter(wishes(kit, words)), None)
        if best is not None and best.score >= ENOUGH + 0.5:
            known_part = found.get(best.spec.name)
            joined = f"{known_part[1].text} {part}" if known_part else part
            found[best.spec.name] = (best, read(joined.strip(), now))
    return list(found.values())[:3] if len(found) > 1 else [(wanted[0], heard)]


def _begun(mind: Mind, spec: Spec, heard: Heard, kit: Kit, now: datetime) -> Mind:
    """Open the goal that was asked for, or open it again with what is new."""
    first = forerunner(kit, spec)
    unmet = [p for p in spec.signature.required if p.internal and p.path[-1] not in mind.learned]
    if first is not None and unmet and not (mind.goal(first) or Goal("")).called:
        spec = kit.get(first) or spec
    before = mind.goal(spec.name)
    goal = before or opened(mind, spec)
    if before is not None and before.closed:
        goal = _again(spec, before, afresh=_AFRESH.search(heard.text) is not None)
        goal = replace(goal, slots={**goal.slots, **_latest_hints(mind, spec, heard)})
    setting = Setting(now, opening=True, about=spec.about, slots=goal.slots, halves=goal.halves)
    got = fill(heard, spec.signature, setting)
    return kept(mind, replace(goal, closed=False), got, spec)


def _latest_hints(mind: Mind, spec: Spec, heard: Heard) -> Mapping[str, Any]:
    return mind.hints.get(spec.name, {}) if heard.amounts else {}


def _again(spec: Spec, goal: Goal, *, afresh: bool) -> Goal:
    """Return a done goal without what belongs to one occasion only: the caller's sentence, the moment."""
    once = {"text", "list", "date", "time", "instant"} | (
        {"code", "plain", "enum", "number"} if afresh else set()
    )
    kept = {k: v for k, v in goal.slots.items() if kind_of(spec, k) not in once}
    return replace(goal, slots=kept, halves={}, called=False)


def _corrected(mind: Mind, heard: Heard, kit: Kit, now: datetime, wanted: list[Wish]) -> Mind | None:
    """Take "actually, make it 250 thousand" or "my e-mail is ..." after a call for a change of what was done."""
    for goal in reversed(mind.goals):
        spec = kit.get(goal.tool)
        if spec is None or not goal.closed or not goal.called:
            continue
        stronger = bool(wanted) and wanted[0].spec.name != spec.name and wanted[0].score >= ENOUGH + 0.6
        got = fill(heard, spec.signature, Setting(now, slots=goal.slots, halves=goal.halves))
        changed = changed_by(goal, got.values)
        details = (
            spec.read_back
            and heard.details
            and any((spec.signature.get(k) or _NO_PARAM).personal for k in changed)
        )
        if details or (changed and heard.corrects and not stronger):
            return kept(mind, goal, replace(got, faults={}), spec)
        if got.faults and heard.corrects and not stronger:
            return kept(mind, goal, got, spec)
    return None


_NO_PARAM = Param("", ("",), "plain", required=False, schema={}, description="")


def _unplaced(mind: Mind, heard: Heard, kit: Kit, now: datetime, mood: Mood) -> Mind:
    """Take in a sentence that asks for nothing: more for the present goal, small talk, or not understood."""
    goal, spec = mind.present, kit.get(mind.present.tool) if mind.present else None
    if goal is not None and spec is not None:
        got = fill(heard, spec.signature, Setting(now, slots=goal.slots, halves=goal.halves))
        if got.values or got.halves:
            return kept(mind, goal, got, spec)
    if heard.details:
        return replace(mind, mood="hello")
    if mood:
        return replace(mind, mood=mood)
    if heard.agrees is False and not mind.asked.params:
        return replace(mind, mood="rejected")
    return replace(
        mind,
        understood=not substance(mind, heard) and heard.agrees is not None and plan(mind, kit).kind != "idle",
    )
