"""Fills the parameters whose value is words: one of a list, a place, a code, a name, the caller's own sentence.

Numbers, moments and yes or no are filled elsewhere.

Law: each value returned holds to the parameter's schema and was said by the caller.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from .entities import codes, name_at
from .phrases import spans
from .reading import Heard, trimmed
from .schema import Param
from .words import STOP, canon, each_of, name_words, near, stem, tokens

_GENERIC_OPTIONS = frozenset(
    each_of("other none any standard normal high low general now new yes no unknown basic")
)
_COLOUR = re.compile(
    r"\b(?:(?:dark|light|bright|pale|navy) )?(?:red|blue|green|yellow|black|white|grey|gray|brown|pink|purple|orange|"
    r"beige|silver|gold|navy)\b",
    re.IGNORECASE,
)
_ORIGINS = frozenset({"from", "origin", "start", "source", "departure", "pickup"})
_DESTINATIONS = frozenset({"to", "destination", "end", "target", "arrival", "dropoff"})
_CALLED = re.compile(
    r"\b(?:called|named|name is|name's|goes by)\s+((?:[A-Z][\w'-]*)(?:\s+[A-Z][\w'-]*){0,2})"
)
_ANSWER_LEAD = re.compile(
    r"^(?:(?:(?:my|the|her|his|its|their|our)(?: \w+){1,3} (?:is|are|would be)|um+|uh+|oh|well|so|"
    r"yes|yeah|sure|okay|ok|please|no|actually|sorry|it's|it is|its|that's|that is|that would be|"
    r"they are|they're|he's|she's|i think|i'd say|i want|i'd like|i would like|i need|we|let's say|"
    r"make it|make that|just|"
    r"probably|maybe|around|about|the|a|an|in|at|for|with|from|to|my|i live in|i'm in|we're in|i have|"
    r"i've got|i feel|"
    r"i mean|change it to)\b[\s,.:]*)+",
    re.IGNORECASE,
)
_SPLIT = re.compile(r"\s*(?:,\s*and\s+|,\s*|;\s*|\s+and\s+|\s+plus\s+|\s+as well as\s+)", re.IGNORECASE)
_ARTICLE = re.compile(r"^(?:a|an|some|the|my|also)\s+", re.IGNORECASE)
_SUFFERS = re.compile(
    r"\b(?:i have|i've got|i've had|i've been having|i got|having|suffering from|i feel|feeling|symptoms are|"
    r"allergic to|interested in|looking for|i want|i need|i'd like)\s+(.+)",
    re.IGNORECASE,
)
_TAIL = re.compile(
    r"(?:[\s,]+(?:please|thanks|thank you|for (?:now|me)|if possible|i think|i guess|today|"
    r"right now))+[.!?]*$",
    re.IGNORECASE,
)
_CLAUSE = re.compile(
    r"[,.;?!]|\b(?:and|but|because|with|for|at|on|by|to|so|is|are|was|please|that|which|my|from|since|"
        r"tomorrow|today|"
    r"next|this|right|now|like|as|if|when|i|it|do|does|in)\b", re.IGNORECASE
)  # fmt: skip


def option(heard: Heard, param: Param, *, asked: bool) -> Any | None:
    """Return the listed value that was said; when asked for, a misheard one is taken too."""
    found = options(heard, param, asked=asked)
    return found[0] if found else None


def options(heard: Heard, param: Param, *, asked: bool) -> list[Any]:
    """Return every listed value that was said, the most fully worded first."""
    said = [w.canon for w in heard.words]
    numbers = {str(a.value) for a in heard.amounts} | {str(w.canon) for w in heard.words}
    scored = list[tuple[int, int, Any]]()
    for index, value in enumerate(param.options):
        words = [canon(w) for w in name_words(str(value))]
        if not words or (not asked and not _worth(words, said, param)):
            continue
        places = [_place(word, said, numbers, asked=asked) for word in words]
        if any(p is None for p in places) or _denied(heard, places) or _leads_elsewhere(heard, param, places):
            continue
        scored.append((-len(words), index, value))
    if not scored and (asked or param.required):
        return _telling(heard, param, said, asked=asked)
    longest = sorted(scored)
    whole = [v for _, _, v in longest]
    return [v for v in whole if not any(v is not w and str(v).lower() in str(w).lower() for w in whole)]


def _telling(heard: Heard, param: Param, said: list[str], *, asked: bool) -> list[Any]:
    """Return the one listed value of which a word was said that no other value has: "a family doctor"."""
    split = [[canon(w) for w in name_words(str(v))] for v in param.options]
    found = list[Any]()
    for value, words in zip(param.options, split, strict=True):
        own = [w for w in words if len(w) > 3 and sum(w in other for other in split) == 1]
        own = [
            w
            for w in own
            if w not in _GENERIC_OPTIONS and w not in param.words and w not in STOP and w not in heard.implied
        ]
        places = [_place(w, said, (), asked=asked) for w in own]
        if any(
            p is not None and not _denied(heard, [p]) and not _leads_elsewhere(heard, param, [p])
            for p in places
        ):
            found.append(value)
    return found if len(found) == 1 else []


def _worth(words: list[str], said: list[str], param: Param) -> bool:
    """Return whether a value may be taken unasked: an everyday word needs the parameter named beside it."""
    if not all(w in _GENERIC_OPTIONS or w in STOP for w in words):
        return True
    return any(canon(w) in said for w in param.words)


def _place(word: str, said: list[str], numbers: Collection[str], *, asked: bool) -> int | None:
    for index, other in enumerate(said):
        short = min(len(word), len(other)) >= 4 and (word.startswith(other) or other.startswith(word))
        if word == other or stem(word) == stem(other) or short or (asked and near(word, other)):
            return index
    return -1 if word in numbers else None


def _denied(heard: Heard, places: list[int | None]) -> bool:
    first = min((p for p in places if p is not None and p >= 0), default=-1)
    before = heard.text[: heard.words[first].start].lower().split()[-3:] if first >= 0 else []
    return any(w.strip(",.") in {"not", "isn't", "don't", "never", "without"} for w in before)


def _leads_elsewhere(heard: Heard, param: Param, places: list[int | None]) -> bool:
    """Return whether "from" or "to" before a value says that it belongs to the parameter of the other direction."""
    first = min((p for p in places if p is not None and p >= 0), default=-1)
    before = heard.text[: heard.words[first].start].lower().split()[-1:] if first >= 0 else []
    leaves = bool(_ORIGINS & set(param.words)) and before == ["to"]
    return leaves or (bool(_DESTINATIONS & set(param.words)) and before == ["from"])


def answer(text: str, *, words_max: int = 12) -> str:
    """Return a bare answer without its filler: "It's Austin, please." gives Austin; "" when it is no bare answer."""
    text = _TAIL.sub("", text.strip())
    shorter = _ANSWER_LEAD.sub("", text, count=1).strip(" .,!?;:")
    shorter = _ARTICLE.sub("", shorter)
    return shorter if 0 < len(shorter.split()) <= words_max else ""


def bare_name(text: str) -> str:
    """Return the name that answers "What is your name?"."""
    shorter = answer(text, words_max=6)
    value, end = name_at(shorter, 0, capitals_only=False)
    rest = shorter[end:].strip(" .,!?")
    return value if value and len(rest.split()) <= 2 else ""


def place(heard: Heard, param: Param, *, asked: bool) -> str | None:
    """Return the place named after "in", "near", "at" ...; or the whole answer when it was asked for."""
    names = re.finditer(
        r"\b(?:in|near|around|at|to|from|for|of|into)\s+((?:[A-Z][\w'.-]*)(?:,?\s+[A-Z][\w'.-]*){0,3})",
        heard.text,
    )
    for match in names:
        value = match.group(1).strip(" .,")
        word = value.split()[0].lower().strip(",")
        busy = any(f.value.startswith(value.split()[0]) for f in heard.names)
        leads = match.group(0).lower().split()[0]
        if (leads == "to" and _ORIGINS & set(param.words)) or (
            leads == "from" and _DESTINATIONS & set(param.words)
        ):
            continue
        if word not in STOP and not busy and not any(d.start <= match.start(1) < d.end for d in heard.days):
            return value
    cued = after_cue(heard, param)
    if cued is not None:
        return cued
    if asked:
        return _capitalised(answer(heard.text, words_max=6)) or None
    return None


def _capitalised(text: str) -> str:
    return " ".join(w[:1].upper() + w[1:] for w in text.split()) if text.islower() else text


def colour(heard: Heard, param: Param) -> str | None:
    """Return the colour that was said, for a parameter that is one."""
    found = _COLOUR.search(heard.text) if {"color", "colour"} & set(param.words) else None
    return found.group().lower() if found else None


def after_cue(heard: Heard, param: Param) -> str | None:
    """Return what was said right after the parameter's own name: "the make is Volvo", "size 42", "model: X2"."""
    head = [canon(w) for w in param.words if w not in STOP]
    named = _CALLED.search(heard.text) if "name" in param.words else None
    if named is not None:
        return named.group(1)
    if not head:
        return None
    for i in range(len(heard.words)):
        run = [w.canon for w in heard.words[i : i + len(head)]]
        if run != head:
            continue
        rest = heard.text[heard.words[i + len(head) - 1].end :]
        match = re.match(
            r"\s*(?::|is|are|called|named|should be|to|of|was|=)?\s*(?:called|the|a|an)?\s*(.+)",
            rest,
            re.IGNORECASE | re.DOTALL,
        )
        linked = (
            re.match(r"\s*(?::|is|are|called|named|should be|to|was|=)\s", rest, re.IGNORECASE) is not None
        )
        value = _until_clause(match.group(1)) if match else ""
        if value and (linked or any(c.isdigit() for c in value) or value[0].isupper()):
            return value
    return None


def _until_clause(text: str) -> str:
    end = _CLAUSE.search(text)
    value = text[: end.start()] if end else text
    words = value.strip(" .,!?'\"").split()
    return " ".join(words[:5])


def code(heard: Heard, param: Param, *, asked: bool) -> tuple[str | None, bool]:
    """Return the code that was said and whether one was said that the schema refuses."""
    said = {w.canon for w in heard.words}
    cued = any(canon(w) in said for w in param.words if w not in {"id", "number", "no", "code"})
    if not (asked or cued or param.schema.get("pattern")):
        return None, False
    taken = [(t.start, t.end) for t in (*heard.emails, *heard.phones)] + [
        (d.start, d.end) for d in heard.days
    ]
    refused = False
    for found in codes(heard.text):
        if any(start < found.end and found.start < end for start, end in taken) and not asked:
            continue
        for form in _forms(found.value, param):
            if param.fault(form) is None:
                return form, False
        refused = True
    if asked and not refused:
        words = answer(heard.text, words_max=3)
        if words and param.fault(words) is None and heard.agrees is None:
            return words, False
    return None, refused and (asked or cued)


def _forms(raw: str, param: Param) -> list[str]:
    """Return how a code may be written; a pattern's literal beginning (ORD-) is supplied when only digits were said."""
    compact = re.sub(r"[\s-]", "", raw)
    forms = [raw, raw.replace(" ", "-"), compact, compact.lower()]
    split = re.match(r"([A-Z]+)(\d+)$", compact)
    if split:
        forms += ["-".join(split.groups()), split.group(2)]
    pattern = param.schema.get("pattern")
    prefix = re.match(r"\^?([A-Za-z]+-?)", pattern) if isinstance(pattern, str) else None
    if prefix:
        forms.append(prefix.group(1) + re.sub(r"^[A-Z]+", "", compact))
    return forms if isinstance(pattern, str) else [raw]


def listed(heard: Heard, param: Param, *, asked: bool) -> list[Any] | None:
    """Return the several things that were said, for a parameter that takes a list."""
    if param.options:
        return options(heard, param, asked=asked) or None
    inner = param.schema.get("items")
    if isinstance(inner, dict) and inner.get("type") not in {None, "string"}:
        return (
            [a.value for a in heard.amounts] or None
            if inner.get("type") in {"number", "integer"} and asked
            else None
        )
    phrase = _SUFFERS.search(heard.text)
    direct = phrase is not None and " and " not in heard.text[: phrase.start()]
    said = phrase.group(1) if phrase and direct else answer(heard.text, words_max=40)
    said = re.split(r"[.?!]\s|\b(?:since|because|for the (?:last|past))\b", _TAIL.sub("", said))[0]
    parts = [_ARTICLE.sub("", p).strip(" .,!?") for p in _SPLIT.split(said)]
    parts = [p for p in parts if p and p.lower() not in STOP][:12]
    return parts or None


def own_words(heard: Heard, *, about: Collection[str], least: int) -> str | None:
    """Return the caller's own sentence when it says more than the request itself (words in ``about``)."""
    more = {w for w in heard.content if w not in about}
    sentence = trimmed(heard.text)
    return sentence if len(more) >= least and sentence else None


def thing(heard: Heard, about: Collection[str]) -> str | None:
    """Return the longest stretch of words that are neither filler nor the request itself: "trail shoes"."""
    best, run = list[str](), list[str]()
    taken = [*heard.spans, *spans(heard.text)]
    for match in re.finditer(r"[\w'-]+|[.,;?!]", heard.text):
        word = match.group()
        busy = any(start <= match.start() < end for start, end in taken)
        if word in ".,;?!" or word.lower() in STOP or canon(word.lower()) in about or busy:
            run = []
        else:
            run = [*run, word]
            best = run if len(run) > len(best) else best
    return " ".join(best[:6]) if best and not set(tokens(" ".join(best))) <= STOP else None
