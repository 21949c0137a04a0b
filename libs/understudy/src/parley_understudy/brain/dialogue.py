"""Decides what the agent says and calls next, from everything in a view.

The conversation is read anew from its items each time, then one step is taken. Nothing is remembered
between decisions, no clock is read, nothing is random.

Law: ``decide`` never raises, and equal views give equal decisions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from . import smalltalk
from .kit import Kit, contact_tool, followers, read_kit, wishes
from .listening import hear, listened
from .mind import CALLS_MAX, Asked, Goal, Mind, Step, flattened, known, nested, plan
from .reading import read
from .results import Outcome, outcome
from .speech import labelled, spoken
from .types import Answered, Call, Called, Decision, Item, Said, View
from .wording import WHAT_TO_CHANGE, fault_said, is_read_back, purpose, questions, read_back, recognised

ITEMS_MAX = 200
_SUGGESTS = "Would you like me to {purpose}?"


def decide(view: View) -> Decision:
    """Return what to say and what to call now. Pure and deterministic; never raises."""
    kit = read_kit(view.tools)
    told = smalltalk.told_to_say(view.instructions)
    items = view.items[-ITEMS_MAX:]
    if told:
        return Decision(told, ())
    mind = understand(items, kit, view)
    if view.tool_choice not in {"auto", "none", ""}:
        forced = _forced(mind, kit, view)
        if forced is not None:
            return forced
    decision = _concluded(mind, kit, view, items)
    if view.tool_choice == "none" and decision.calls:
        return Decision(decision.say or "One moment, please.", ())
    return decision


def understand(items: tuple[Item, ...], kit: Kit, view: View) -> Mind:
    """Return what the conversation comes to, item by item."""
    mind, names = Mind(), dict[str, str]()
    for item in items:
        if isinstance(item, Called):
            names[item.call_id] = item.name
            mind = _called(mind, item, kit)
        elif isinstance(item, Answered):
            mind = _result_came(mind, item, names.get(item.call_id, ""), kit)
        elif item.role == "user":
            mind = hear(mind, item.text, kit, view.now)
        elif item.role == "assistant":
            mind = _spoke(mind, item.text, kit)
        else:
            mind = listened(mind, item.text, kit)
        if not (isinstance(item, Said) and item.role == "assistant"):
            mind = replace(mind, asked=_waiting_for(mind, kit))
    return mind


def _waiting_for(mind: Mind, kit: Kit) -> Asked:
    """Return what our own next words would ask, so that an answer is understood even if they were never heard."""
    step = plan(mind, kit)
    if step.kind == "ask":
        return Asked(step.tool, tuple(p.name for p in step.params))
    if step.kind == "confirm":
        return Asked(step.tool, confirm=True)
    return Asked(suggestion=mind.last_outcome.suggested if mind.last_outcome and mind.fresh else None)


def _spoke(mind: Mind, text: str, kit: Kit) -> Mind:
    """Take in what the agent said, as far as it was heard."""
    asked = mind.asked
    if is_read_back(text) and mind.present is not None:
        asked = Asked(mind.present.tool, confirm=True)
    elif text.strip():
        preferred = [asked.tool, *(g.tool for g in reversed(mind.goals))]
        found = recognised(text, kit, preferred)
        if found is not None and not (asked.tool == found[0] and set(found[1]) <= set(asked.params)):
            asked = Asked(found[0], found[1])
            present = mind.goal(found[0])
            if present is not None and present.closed and mind.present is not None:
                asked = mind.asked
    return replace(
        mind, asked=asked, fresh=(), agent_said=text, mood="", understood=True, changed=(), caller_said=""
    )


def _called(mind: Mind, item: Called, kit: Kit) -> Mind:
    spec = kit.get(item.name)
    given = flattened(_object(item.arguments))
    goal = mind.goal(item.name) or Goal(item.name)
    slots = {k: v for k, v in given.items() if spec is None or spec.signature.get(k) is not None}
    goal = replace(goal, slots={**goal.slots, **slots}, closed=True, called=True, faults={}, halves={})
    return replace(
        mind.put(goal),
        fresh=mind.fresh if mind.running else (),
        running={**mind.running, item.call_id: item.name},
        calls_count=mind.calls_count + 1,
        met=True,
    )


def _object(text: str) -> Mapping[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _result_came(mind: Mind, item: Answered, name: str, kit: Kit) -> Mind:
    """Take in a tool's result: what it teaches, what it offers, what it asks to be called next."""
    result, spec = outcome(item.output, kit.specs), kit.get(name)
    if spec is not None and (spec.seeks or mind.goal(name) is None):
        result = replace(result, offers=())
    mind = replace(
        mind,
        running={k: v for k, v in mind.running.items() if k != item.call_id},
        fresh=(*mind.fresh, result),
        last_outcome=result,
        learned={**mind.learned, **_teaching(result)},
        offers=result.offers or (() if spec is None or not spec.seeks else mind.offers),
        offered_by=name if result.offers else mind.offered_by,
    )
    if result.failed:
        return _led(_failed(mind, result, name), result, name, kit)
    steps = list(result.next_tools)
    steps += [(n, {}) for n in followers(kit, name) if n not in {s for s, _ in steps}]
    told = {n for n, _ in result.next_tools}
    for tool, given in reversed(steps):
        mind = _chained(mind, kit, tool, given, told=tool in told, anew=tool in told and tool == name)
    return _taken_up(mind, name)


def _led(mind: Mind, result: Outcome, name: str, kit: Kit) -> Mind:
    """Turn to what a refusal wants first; the refused call waits for it."""
    if result.first is None or mind.goal(name) is None or result.first[0] == name:
        return mind
    first, given = result.first
    led = (name, first)
    mind = replace(mind, waiting={**mind.waiting, name: first})
    if led in mind.led:
        return mind
    return _chained(replace(mind, led=mind.led | {led}), kit, first, given, told=True, anew=False)


def _taken_up(mind: Mind, done: str) -> Mind:
    """Open again what was refused until ``done`` had succeeded."""
    waiting = {tool: first for tool, first in mind.waiting.items() if tool != done}
    for tool in [tool for tool, first in waiting.items() if first == done]:
        del waiting[tool]
        goal = mind.goal(tool)
        if goal is not None and goal.closed:
            mind = mind.put(replace(goal, closed=False))
    return replace(mind, waiting=waiting)


def _teaching(result: Outcome) -> dict[str, Any]:
    """Return the result's fields, those of one nested object level included."""
    fields = dict(result.fields)
    for value in result.fields.values():
        if isinstance(value, dict):
            fields = {**{k: v for k, v in value.items() if isinstance(k, str)}, **fields}
    return {k: v for k, v in fields.items() if isinstance(v, str | int | float | list)}


def _failed(mind: Mind, result: Outcome, name: str) -> Mind:
    """Open the goal again when the tool says which arguments it lacks."""
    goal = mind.goal(name)
    if goal is None or not result.missing:
        return mind
    slots = {
        k: v
        for k, v in goal.slots.items()
        if k not in result.missing and k.split(".")[-1] not in result.missing
    }
    return mind.put(replace(goal, slots=slots, closed=False)) if slots != goal.slots else mind


def _chained(mind: Mind, kit: Kit, tool: str, given: Mapping[str, Any], *, told: bool, anew: bool) -> Mind:
    """Make ``tool`` the present goal because a result (``told``) or a description asks for it.

    ``anew``: its own result asks for it again, as step by step guides do: what was answered before does not count.
    """
    spec = kit.get(tool)
    if spec is None or mind.calls_count >= CALLS_MAX:
        return mind
    before = mind.goal(tool)
    base = dict(before.slots) if before and not anew else dict(mind.hints.get(tool, {}))
    usable = {k: v for k, v in flattened(given).items() if spec.signature.get(k) is not None}
    shared = {
        p.name: g.slots[p.name]
        for g in mind.goals
        if not (anew and g.tool == tool)
        for p in spec.signature.params
        if p.name in g.slots and p.name not in base and p.fault(g.slots[p.name]) is None and not p.consent
    }
    for param in spec.signature.params:
        learned = mind.learned.get(param.path[-1])
        if learned is not None and param.kind in {"code", "number"} and param.fault(learned) is None:
            base[param.name] = learned
    goal = Goal(tool, {**shared, **base, **usable})
    arguments = known(mind, spec, goal)
    complete = all(p.name in arguments for p in spec.signature.required)
    repeated = before is not None and before.called and known(mind, spec, before) == arguments
    if repeated or (not complete and not told):
        return mind
    return mind.put(goal)


def _forced(mind: Mind, kit: Kit, view: View) -> Decision | None:
    """Call the tool that tool_choice demands, with what is known of its arguments."""
    name = view.tool_choice
    if name == "required":
        heard = read(mind.caller_said, view.now)
        wanted = next((w.spec.name for w in wishes(kit, heard)), None) if mind.caller_said else None
        present = mind.present.tool if mind.present else None
        contact = contact_tool(kit, heard)
        name = present or wanted or (contact.name if contact else next(iter(kit.specs), ""))
    spec = kit.get(name)
    if spec is None:
        return None
    goal = mind.goal(name) or Goal(name, mind.hints.get(name, {}))
    return Decision("", (Call(name, nested(spec, known(mind, spec, goal))),))


def _concluded(mind: Mind, kit: Kit, view: View, items: tuple[Item, ...]) -> Decision:
    if mind.fresh and not mind.running:
        return _told(mind, kit)
    if not mind.met and not any(isinstance(i, Said) and i.role == "assistant" for i in items):
        return Decision(smalltalk.greeting(view.instructions), ())
    last = next((i for i in reversed(items) if not (isinstance(i, Said) and i.role == "system")), None)
    if isinstance(last, Said) and last.role == "assistant":
        return Decision(_nudge(mind, kit), ())
    return _reply(mind, kit, view)


def _told(mind: Mind, kit: Kit) -> Decision:
    """Speak the results that came, then go on: the next call of a chain, or the next question."""
    said = " ".join(dict.fromkeys(o.say for o in mind.fresh if o.say)).strip()
    step = plan(mind, kit)
    if step.kind == "call" and mind.calls_count < CALLS_MAX:
        return Decision(said, (_call(step, kit),))
    suggested = kit.get(mind.fresh[-1].suggested or "")
    if step.kind in {"ask", "confirm"} and not said.endswith("?"):
        said = f"{said} {_asking(step, mind, kit)}"
    elif suggested is not None and not said.endswith("?"):
        said = f"{said} {_SUGGESTS.format(purpose=purpose(suggested))}"
    elif (
        mind.offers
        and not said.endswith("?")
        and any(o.offers for o in mind.fresh)
        and _takes_choice(mind, kit)
    ):
        said = f"{said} Which one would you like?"
    return Decision(said.strip() or "That is done.", ())


def _takes_choice(mind: Mind, kit: Kit) -> bool:
    timed = any(re.match(r"\d{4}-\d\d-\d\d[T ]", str(v)) for o in mind.offers[:1] for v in o.values.values())
    return timed and len(mind.offers) > 1 and len(kit.specs) > 0


def _call(step: Step, kit: Kit) -> Call:
    spec = kit.get(step.tool)
    return Call(step.tool, nested(spec, step.arguments) if spec else {})


def _asking(step: Step, mind: Mind, kit: Kit) -> str:
    spec = kit.get(step.tool)
    if spec is None:
        return ""
    if step.kind == "confirm":
        return WHAT_TO_CHANGE if mind.mood == "rejected" else read_back(spec, step.arguments)
    goal = mind.goal(step.tool)
    faults = goal.faults if goal else {}
    half = goal.halves.get(step.params[0].name) if goal else None
    reasons = [fault_said(p, faults[p.name]) for p in step.params if p.name in faults]
    if half is not None and half.day is not None and half.clock is None and not reasons:
        return "What time would you like?"
    if half is not None and half.clock is not None and half.day is None and not reasons:
        return "On which day would you like that?"
    return " ".join([*reasons, questions(step.params)])


def _nudge(mind: Mind, kit: Kit) -> str:
    """Return what to say when the agent spoke last and the caller said nothing since."""
    step = plan(mind, kit)
    if step.kind in {"ask", "confirm"}:
        return f"Are you still there? {_asking(step, mind, kit)}"
    return "Are you still there? How else can I help you?"


def _reply(mind: Mind, kit: Kit, view: View) -> Decision:
    """Answer what the caller said last."""
    if mind.running:
        return Decision("One moment, I am still working on that.", ())
    if mind.mood == "repeat":
        return Decision(_again(mind, view), ())
    if mind.mood and mind.mood != "rejected":
        said = smalltalk.small_talk(mind, kit, view.instructions)
        step = plan(mind, kit)
        back = (
            _asking(step, mind, kit)
            if step.kind in {"ask", "confirm"} and mind.mood in {"hello", "abilities", "who"}
            else ""
        )
        return Decision(f"{said} {back}".strip(), ())
    step = plan(mind, kit)
    if step.kind == "call" and mind.calls_count < CALLS_MAX:
        return Decision(_change_said(mind, kit), (_call(step, kit), *_more_calls(mind, step, kit)))
    if step.kind in {"ask", "confirm"}:
        sorry = "" if mind.understood else "I'm sorry, I did not catch that. "
        return Decision(f"{sorry}{_asking(step, mind, kit)}", ())
    if mind.mood == "rejected":
        return Decision(smalltalk.small_talk(mind, kit, view.instructions), ())
    if read(mind.caller_said, view.now).agrees is not None:
        return Decision("All right. What else can I do for you?", ())
    return Decision(smalltalk.not_understood(mind, kit), ())


def _more_calls(mind: Mind, step: Step, kit: Kit) -> tuple[Call, ...]:
    """Return the call of a second request made in the same sentence, when it is fully known too."""
    rest = mind.goal(step.tool)
    if rest is None:
        return ()
    other = plan(mind.put(replace(rest, closed=True), front=False), kit)
    fresh = mind.goal(other.tool)
    if other.kind != "call" or fresh is None or fresh.called or mind.calls_count + 1 >= CALLS_MAX:
        return ()
    return (_call(other, kit),)


def _change_said(mind: Mind, kit: Kit) -> str:
    """Return "Okay, the purchase price is now $250,000." when a value was corrected, so that a mishearing shows."""
    said = list[str]()
    for tool, name in mind.changed[:2]:
        goal, spec = mind.goal(tool), kit.get(tool)
        param = spec.signature.get(name) if spec else None
        if goal and param and goal.called and param.kind in {"number", "enum", "date", "time", "instant"}:
            shown = spoken(goal.slots.get(name), f"{name}{'_usd' if param.unit == 'usd' else ''}")
            said.append(f"the {labelled(param.path[-1])} is now {shown}")
    return f"Okay, {' and '.join(said)}." if said else ""


def _again(mind: Mind, view: View) -> str:
    """Return the agent's last words; what was cut off is said whole if a result still holds it."""
    whole = mind.agent_said.rstrip().endswith((".", "?", "!"))
    if not whole and mind.last_outcome is not None:
        return mind.last_outcome.say
    return mind.agent_said or smalltalk.greeting(view.instructions)
