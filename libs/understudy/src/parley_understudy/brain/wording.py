"""Words the agent's questions and read-backs, and recognises them again in what the agent said.

A question is made from a parameter's title or description, so that it can be found in a history that was
cut short by the caller. It decides nothing about what to ask.

Law: ``recognised(question(p))`` finds ``p``, also when the question lost its end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from .kit import Kit, Spec
from .schema import Param
from .speech import labelled, spoken
from .words import join, name_words, tokens

CONFIRM = "Is that right?"
WHAT_TO_CHANGE = "What should I change?"
_OPTIONS_SAID_MAX = 5
_CORE_WORDS_MAX = 16
_PURPOSE_WORDS_MAX = 12
_ASKS_ITSELF = re.compile(
    r"^(?:what|which|when|where|who|how|do|does|is|are|have|has|would|will|did|can)\b[^.]*\?", re.IGNORECASE
)
_WHOSE = re.compile(
    r"\b(?:the |a )?(?:caller|customer|user|patient|client|guest|person|applicant|borrower|member|"
    r"shopper)'s\b",
    re.IGNORECASE,
)
_WHO = re.compile(
    r"\b(?:the |a )(?:caller|customer|user|patient|client|guest|person|applicant|borrower|member|shopper)\b",
    re.IGNORECASE,
)
_VERBS = {"has": "have", "is": "are", "was": "were", "does": "do", "wants": "want", "goes": "go"}
_WHETHER = re.compile(
    r"^(?:whether(?: or not)?|true (?:if|when)|true only (?:if|when)|true once|set (?:to )?true (?:if|"
    r"when|once)|if)\s+(.*)$",
    re.IGNORECASE,
)
_AGREED = re.compile(
    r"\b(?:agreed|agrees|agree|consented|consents|consent|permission|permitted|authori[sz]ed|opted in|"
    r"said yes)\b(?:\s+(?:to|for|that|in to))?\s*(.*)$",
    re.IGNORECASE,
)
_CUT = re.compile(
    r"\s+\(.*|\s*;.*|,?\s+(?:e\.g\.|for example|such as|i\.e\.|as (?:the|they|she|he|it|iso)\b|in iso|"
    r"iso\b|in e\.?164).*$|\s+-\s+.*",
    re.IGNORECASE,
)
_FIXED = {"email": "your e-mail address", "phone": "your phone number"}


@lru_cache(maxsize=1024)
def core(param: Param) -> str:
    """Return what a parameter is called in a question: "the monthly rent the property brings in, "
    "in dollars"."""
    if param.kind in _FIXED:
        return _FIXED[param.kind]
    if param.kind == "name":
        part = next((p for p in ("first", "last") if p in param.words), "")
        part = "last" if set(param.words) & {"family", "surname"} else part
        return f"your {part} name" if part else "your full name" if "full" in param.words else "your name"
    text = re.sub(r"^(?:optional|required)[.:,]?\s*", "", param.description.strip(), flags=re.IGNORECASE)
    text = _CUT.sub("", re.split(r"(?<=[a-z0-9)])\.(?:\s|$)|[:?!\n]", text)[0]).strip(" .,")
    if not 0 < len(text.split()) <= _CORE_WORDS_MAX:
        text = labelled(param.path[-1])
    text = _addressed(text)
    if re.match(r"(?:the|a|an|your|how|which|what|any|all|one)\b", text, re.IGNORECASE):
        return text[:1].lower() + text[1:]
    return f"the {_uncapital(text)}"


def _uncapital(text: str) -> str:
    return text[:1].lower() + text[1:] if not text[:2].isupper() else text


def _addressed(text: str) -> str:
    text = _WHOSE.sub("your", text)
    text = re.sub(r"\b(their|his|her|his or her)\b", "your", text)
    pattern = re.compile(_WHO.pattern + r"\s+(?:has |have )?(\w+)", re.IGNORECASE)
    return _WHO.sub("you", pattern.sub(lambda m: f"you {_you_form(m.group(0), m.group(1))}", text))


def _you_form(said: str, verb: str) -> str:
    if re.search(r"\bha(?:s|ve) \w+$", said):
        return f"have {verb}"
    plural = verb[:-1] if verb.endswith("s") and not verb.endswith("ss") else verb
    return _VERBS.get(verb.lower(), plural)


@lru_cache(maxsize=1024)
def question(param: Param) -> str:
    """Return the question that asks for ``param``."""
    described = param.description.strip()
    if _ASKS_ITSELF.match(described):
        asked = _ASKS_ITSELF.match(described)
        return _addressed(asked.group()) if asked else described
    if param.kind == "boolean":
        return _yes_no(param)
    if param.kind == "text" and not described:
        return f"What would you like me to put down as the {labelled(param.path[-1])}?"
    if param.kind == "text" and {"query", "question", "keywords"} & set(param.words):
        return "What would you like to know?"
    name = core(param)
    counted = re.match(r"(?:the )?(?:number of|how many) (.+)", name, re.IGNORECASE)
    if counted:
        return f"How many {counted.group(1)}?"
    plural = param.kind == "list" or _plural(name, param)
    if param.kind in {"date", "time", "instant"} and name == "the when":
        return "When would you like that?"
    if param.kind == "number" and plural and param.unit is None and not described:
        return f"How many {name.removeprefix('the ')}?"
    if re.match(r"(?:how|which|what|where|when)\b", name):
        return f"{name[:1].upper()}{name[1:]}?"
    text = f"What {'are' if plural else 'is'} {name}?"
    if param.kind == "enum":
        listed = [spoken(str(v).replace("-", " ")) for v in param.options[:_OPTIONS_SAID_MAX]]
        if all(each.lower() in name for each in listed):  # the description lists them already
            return f"Which {labelled(param.path[-1])}: {join(listed, 'or')}?"
        text += f" You can say {join(listed, 'or')}."
    return text


def _plural(name: str, param: Param) -> bool:
    head = re.split(
        r",|\s(?:of|in|for|that|per|to|with|on|from|before|the|as|at|by|you|a)\s", name.removeprefix("the ")
    )[0]
    last = (head.split() or [""])[-1]
    return (
        last.endswith("s")
        and not last.endswith(("ss", "us", "is", "address"))
        and param.unit not in {"year", "month"}
    )


def _yes_no(param: Param) -> str:
    text = re.split(r"(?<=[a-z0-9)])\.(?:\s|$)|[;\n]", param.description.strip())[0].strip(" .?")
    whether = _WHETHER.match(text)
    body = whether.group(1) if whether else text
    if param.consent:
        agreed = _AGREED.search(body)
        what = _addressed(agreed.group(1)).strip(" .,") if agreed else ""
        if (
            what
            and len(what.split()) <= _CORE_WORDS_MAX
            and not what.startswith(("and", "or", "before", "is", "was"))
        ):
            joint = (
                ""
                if re.match(r"(?:to|that|for)\b", what)
                else ("that " if re.match(r"(?:you|we|it|the)\b", what) else "to ")
            )
            joint = "to " if re.match(r"(?:be|being)\b", what) else joint
            return f"Do you agree {joint}{what}?"
        contact = re.search(r"contact|consent", f"{param.name} {body}", re.IGNORECASE)
        return (
            "Do you agree to be contacted about this?"
            if contact
            else f"Do you agree: {_uncapital(_addressed(body))}?"
        )
    whole = _addressed(body)
    verb = re.match(r"you (are|were|have|do|can|will|would) (.*)", whole)
    if verb:
        return f"{verb.group(1).capitalize()} you {verb.group(2)}?"
    if whole.startswith("you "):
        return f"Do {whole}?"
    there = re.match(r"(?:the |it |this |there )?(.*?)\s*\b(is|are|has|have|was|can)\b (.*)", whole)
    if whether and there and there.group(3):
        return f"Is it right that {_uncapital(whole)}?"
    whole = whole or labelled(param.path[-1])
    return f"{whole[:1].upper()}{whole[1:]}, yes or no?"


def questions(params: Sequence[Param]) -> str:
    """Return one sentence that asks for one or two parameters."""
    if len(params) == 2 and all(
        question(p).startswith(("What is ", "What are ")) and "You can say" not in question(p) for p in params
    ):
        return f"What are {core(params[0])} and {core(params[1])}?"
    return " ".join(question(p) for p in params)


def fault_said(param: Param, reason: str) -> str:
    """Return why a value was not taken: "The credit score must be at most 850."."""
    name = _FIXED.get(param.kind) or f"the {labelled(param.path[-1])}"
    return f"{name[:1].upper()}{name[1:]} {reason}."


def read_back(spec: Spec, arguments: Mapping[str, Any]) -> str:
    """Return the sentence that says names, addresses, numbers and moments back and asks whether they are right."""
    said = [spoken(value) for _, value in read_back_values(spec, arguments)]
    return f"I have {join(said)}. {CONFIRM}"


def read_back_values(spec: Spec, arguments: Mapping[str, Any]) -> list[tuple[Param, str]]:
    """Return the values that are to be read back, as "Daniel Cooper, daniel@example.com" lists them."""
    kinds = {"name", "email", "phone", "date", "time", "instant", "code"}
    return [
        (p, str(arguments[p.name]))
        for p in spec.signature.params
        if p.kind in kinds and not p.internal and p.name in arguments
    ]


def is_read_back(text: str) -> bool:
    """Return whether the agent's last words were a read-back, also when only its beginning was heard."""
    return (
        CONFIRM.lower() in text.lower()
        or re.search(r"(?:^|[.!?]\s)I have [^.?!]*(?:,| and |@|\d)[^?!]*$", text) is not None
    )


def recognised(text: str, kit: Kit, preferred: Iterable[str]) -> tuple[str, tuple[str, ...]] | None:
    """Return the tool and the parameters that the agent's words ask for, or None when they ask for none."""
    last = _flat(re.split(r"(?<=[.!])\s+(?=[A-Z])", text.strip())[-1] if "?" not in text else text)
    order = [*(n for n in preferred if n in kit.specs), *kit.specs]
    best: tuple[int, str, tuple[str, ...]] | None = None
    for name in dict.fromkeys(order):
        params = kit.specs[name].signature.params
        hits = tuple(p.name for p in params if _asks_for(text, last, p))[:2]
        if hits and (best is None or len(hits) > best[0]):
            best = (len(hits), name, hits)
    return best[1:] if best else None


def _asks_for(text: str, flat: str, param: Param) -> bool:
    asked = _flat(question(param))
    if asked and asked in _flat(text):
        return True
    name = _flat(core(param))
    if param.kind != "boolean" and "?" in text and re.search(rf"what (?:is|are) .*{re.escape(name)}", flat):
        return True
    return "?" not in text and len(flat.split()) >= 4 and _tail_begins(flat, asked)


def _tail_begins(flat: str, asked: str) -> bool:
    """Return whether the end of what was heard is the beginning of the question."""
    said, words = flat.split(), asked.split()
    for length in range(min(len(said), len(words)), 3, -1):
        ends = " ".join(said[-length:])
        if asked.startswith(ends):
            return True
    return False


@lru_cache(maxsize=2048)
def _flat(text: str) -> str:
    return " ".join(tokens(text))


def purpose(spec: Spec) -> str:
    """Return what a tool is for, as the end of "I can ...": "look up an order"."""
    first = re.split(r"(?<=[a-z0-9)])\.(?:\s|$)|[:;\n(]", str(spec.tool.description).strip())[0]
    first = re.sub(
        r"^(?:use this(?: tool)? to|used to|call this to|tool to|this tool)\s+",
        "",
        first,
        flags=re.IGNORECASE,
    ).strip(" .")
    for cut in ("", ",", " to ", " with ", " and ", " by "):
        words = (first.split(cut)[0] if cut else first).split()
        if 2 <= len(words) <= _PURPOSE_WORDS_MAX:
            return _addressed(_uncapital(_bare_verb(words)))
    return " ".join(name_words(spec.name))


def _bare_verb(words: list[str]) -> str:
    verb = words[0].lower()
    if verb.endswith("ies"):
        verb = verb[:-3] + "y"
    elif verb.endswith(("sses", "ches", "shes", "xes")):
        verb = verb[:-2]
    elif verb.endswith("s") and not verb.endswith("ss"):
        verb = verb[:-1]
    return " ".join([verb, *words[1:]])
