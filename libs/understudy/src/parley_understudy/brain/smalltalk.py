"""What the agent says when no tool is at hand: greeting, thanks, goodbye, what it can do, and what it did not understand.

It reads the instructions only for a name, a business, a greeting and a goodbye.

Law: one to three short sentences.
"""

from __future__ import annotations

import re
from functools import lru_cache

from .kit import Kit
from .mind import Mind
from .wording import purpose
from .words import join, plain

_ABILITIES_MAX = 4
_QUOTED = r"[\"'“‘]?(?P<words>.+?)[\"'”’]?\s*$"
_GREET = re.compile(
    rf"^[\s>*-]*(?:greet(?:ing)?(?: the \w+)?(?: with| by saying)?|open with|opening|begin with|"
    rf"start (?:the call )?with|first message)\s*[:=-]\s*{_QUOTED}",
    re.IGNORECASE | re.MULTILINE,
)
_FAREWELL = re.compile(
    rf"^[\s>*-]*(?:goodbye|farewell|close with|closing|end with|sign off with|"
    rf"say goodbye with)\s*[:=-]\s*{_QUOTED}",
    re.IGNORECASE | re.MULTILINE,
)
_SAY = re.compile(
    rf"^[\s>*-]*(?:say|say exactly|say only|respond with|reply with|speak)\s*(?:exactly|this|"
    rf"verbatim)?\s*[:=-]\s*{_QUOTED}",
    re.IGNORECASE | re.MULTILINE,
)
_NAMED = re.compile(
    r"\b(?:[Yy]ou are|[Yy]our name is|[Aa]ct as)\s+(?P<name>[A-Z][\w'-]*(?: [A-Z][\w'-]*){0,2})(?=[,.\s]|$)"
)
_AT = re.compile(
    r"\b(?:for|at|of|from|with)\s+(?P<firm>(?:the )?[A-Z][\w&'-]*(?: (?:&|and|of|[A-Z][\w&'-]*)(?=\s|"
    r",|\.|$)){0,4})"
)


@lru_cache(maxsize=64)
def _line(instructions: str, form: re.Pattern[str]) -> str:
    found = form.search(plain(instructions)[:20_000])
    return found.group("words").strip() if found else ""


def told_to_say(instructions: str) -> str:
    """Return the words after a line such as ``Say: ...`` in the instructions of one response; "" when there is none."""
    return _line(instructions, _SAY)


def identity(instructions: str) -> tuple[str, str]:
    """Return the agent's name and the business as the instructions give them; "" for what they do not."""
    text = plain(instructions)[:20_000]
    named = _NAMED.search(text)
    name = named.group("name") if named else ""
    sentence = text[named.start() :].split("\n")[0].split(". ")[0] if named else ""
    firm = _AT.search(sentence[len(name) :]) if named else None
    return name, firm.group("firm").strip(" .,") if firm else ""


def greeting(instructions: str) -> str:
    """Return the first words of a conversation."""
    scripted = _line(instructions, _GREET)
    if scripted:
        return scripted
    name, firm = identity(instructions)
    if name:
        return f"Hello, this is {name}{f' from {firm}' if firm else ''}. How can I help you today?"
    return "Hello! How can I help you today?"


def goodbye(instructions: str) -> str:
    """Return the last words of a conversation."""
    return _line(instructions, _FAREWELL) or "You're welcome. Thank you for calling, and goodbye!"


def abilities(kit: Kit) -> str:
    """Return what the tools are for, in plain words."""
    purposes = [purpose(spec) for spec in kit.specs.values()][:_ABILITIES_MAX]
    if not purposes:
        return "I can talk with you, but I have no tools at hand right now."
    return f"I can {join(purposes)}. What would you like?"


def small_talk(mind: Mind, kit: Kit, instructions: str) -> str:
    """Return the reply to a sentence that asks for no tool; "" when its mood calls for none."""
    name = mind.facts.get("name", "").split(" ")[0]
    if mind.mood == "hello":
        return f"Thank you, {name}. How can I help you?" if name else "Hello! How can I help you today?"
    if mind.mood == "who":
        agent, firm = identity(instructions)
        who = (
            f"I'm {agent}{f' from {firm}' if firm else ''}, a virtual assistant"
            if agent
            else "I'm a virtual assistant"
        )
        return f"{who}. What can I do for you?"
    return {
        "bye": goodbye(instructions),
        "thanks": "You're welcome. Is there anything else I can help you with?",
        "abilities": abilities(kit),
        "dropped": "All right, let's leave that. What else can I do for you?",
        "refused": "I understand, so I will not do that. Is there anything else I can help you with?",
        "rejected": "All right. Is there anything else I can help you with?",
        "wait": "Of course, take your time.",
    }.get(mind.mood, "")


def not_understood(mind: Mind, kit: Kit) -> str:
    """Return an apology with a question that helps on."""
    if not mind.caller_said.strip() or not kit.specs:
        return "I'm sorry, I did not catch that. Could you say it again?"
    first = [purpose(spec) for spec in kit.specs.values()][:2]
    return f"I'm sorry, I am not sure what you need. I can {join(first, 'or')}. What would you like?"
