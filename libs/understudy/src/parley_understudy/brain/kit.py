"""Reads the tools: what each is about, whom it follows, and which of them a sentence asks for.

Matching is by stemmed words and synonyms, weighed by how few of the tools share them. It fills no
parameters and keeps no state.

Law: a tool is judged only by its own name, description and schema.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import wordings
from .figures import assign
from .schema import Param, Signature, signature
from .words import canon, content, each_of, name_words

if TYPE_CHECKING:
    from .reading import Heard
    from .types import Tool

ENOUGH = 1.2
_ALMOST = 0.8
_TOOLS_MAX = 128
_SEEKS = re.compile(r"\b(?:search|knowledge|faq|faqs|articles?|look(?:s|ing)? up|answers? (?:general |"
    r"common )?questions?|help cent(?:er|re)|information about|policies)\b", re.IGNORECASE)  # fmt: skip
_LOOKUP_VERBS = frozenset(
    each_of(
        "get look lookup check find verify search list show read query fetch track analyze analyse "
        "calculate compute "
        "estimate evaluate compare recommend research quote score assess tell forecast predict explain describe answer"
    )
)
_SAVES = re.compile(
    r"\b(?:save|store|record|capture|register|sign up|signup|enrol|enroll|lead|contact details|"
    r"subscribe|intake)\b",
    re.IGNORECASE,
)
_IF_WANTED = re.compile(
    r"\b(?:if|when|once|only) (?:the )?(?:caller|customer|user|patient|client|they|someone|asked|"
    r"requested)\b|\boffer\b|\bask\b",
    re.IGNORECASE,
)
_FOLLOWS = r"\b(?:after|following|once|as soon as|whenever|right after)\b[^.;]{0,60}?\b"
_GENERIC_ABOUT = frozenset(
    canon(w) for w in each_of("help question problem report issue ask call request business thing")
)


@dataclass(frozen=True)
class Spec:
    """One tool as the brain sees it."""

    tool: Tool
    signature: Signature
    weights: Mapping[str, float]
    about: frozenset[str]
    seeks: bool
    looks_up: bool

    @property
    def name(self) -> str:
        return self.tool.name

    @property
    def read_back(self) -> bool:
        """Whether what it is given must be read back: it writes down who somebody is."""
        return not self.looks_up and not self.seeks and any(p.personal for p in self.signature.params)

    @property
    def takes_contact(self) -> bool:
        """Whether giving one's contact details is reason enough to use it."""
        kinds = {p.kind for p in self.signature.params}
        needed = [p for p in self.signature.required if not (p.personal or p.consent or p.kind == "text")]
        return not self.looks_up and not needed and bool(kinds & {"email", "phone"})

    @property
    def saves(self) -> bool:
        return _SAVES.search(f"{self.name.replace('_', ' ')} {self.tool.description}") is not None


@dataclass(frozen=True)
class Kit:
    """All tools of a view, with how many of them share each word."""

    specs: Mapping[str, Spec]
    shared: Mapping[str, int]

    def get(self, name: str) -> Spec | None:
        return self.specs.get(name)

    def rarity(self, word: str) -> float:
        """Return how telling a word is: 1 when one tool has it, less the more do."""
        count = len(self.specs)
        return math.log((count + 1) / (self.shared.get(word, 0) + 0.5)) / math.log((count + 1) / 1.5)


def read_kit(tools: tuple[Tool, ...]) -> Kit:
    """Return the tools as the brain sees them; of two with one name the first counts."""
    specs: dict[str, Spec] = {}
    for tool in tools[:_TOOLS_MAX]:
        specs.setdefault(tool.name, _spec(tool))
    return Kit(specs, Counter(word for spec in specs.values() for word in spec.weights))


def _spec(tool: Tool) -> Spec:
    taken = signature(tool.name, tool.parameters)
    named = name_words(tool.name)
    first, _, rest = str(tool.description).partition(". ")
    weights: dict[str, float] = {}
    for words, weight in (
        (content(rest), 0.5),
        (content(first), 1.0),
        (tuple(canon(w) for w in named), 2.0),
    ):
        weights |= {w: max(weight, weights.get(w, 0.0)) for w in words}
    for param in taken.params:
        for word, weight in param.cues.items():
            weights[word] = max(weights.get(word, 0.0), 0.8 if weight >= 2 else 0.3)
        for word in content(" ".join(str(v) for v in param.options).replace("_", " ")):
            weights[word] = max(weights.get(word, 0.0), 0.6)
    about = frozenset(canon(w) for w in named) | _GENERIC_ABOUT
    seeks = _SEEKS.search(f"{' '.join(named)} {first}") is not None and any(
        p.kind == "text" for p in taken.params
    )
    looks_up = seeks or bool(set(named[:1]) & _LOOKUP_VERBS) or canon(_first_word(first)) in _LOOKUP_CANONS
    return Spec(tool, taken, weights, about, seeks, looks_up)


def _first_word(text: str) -> str:
    words = text.lower().split()
    return words[0].strip(".,") if words else ""


_LOOKUP_CANONS = frozenset(canon(w) for w in _LOOKUP_VERBS) - {"", "get"}


@dataclass(frozen=True)
class Wish:
    """A tool that a sentence asks for, and how strongly."""

    spec: Spec
    score: float


def wishes(kit: Kit, heard: Heard) -> list[Wish]:
    """Return the tools that ``heard`` asks for, best first; empty when it asks for none of them."""
    scored = [Wish(spec, _score(kit, spec, heard)) for spec in kit.specs.values()]
    found = sorted((w for w in scored if w.score >= ENOUGH), key=lambda w: -w.score)
    if found or not heard.question or not heard.content:
        return found
    lookups = sorted((w for w in scored if w.spec.looks_up and w.score >= _ALMOST), key=lambda w: -w.score)
    if lookups:
        return lookups[:1]
    seekers = sorted((w for w in scored if w.spec.seeks), key=lambda w: -w.score)
    return [Wish(w.spec, ENOUGH) for w in seekers[:1]]


def _score(kit: Kit, spec: Spec, heard: Heard) -> float:
    total = sum(spec.weights.get(w, 0.0) * kit.rarity(w) for w in {*heard.content, *heard.implied})
    if total <= 0:
        return 0.0
    if heard.question:
        total = (
            total + 0.6
            if spec.seeks
            else total * (0.4 if _wants_figures(spec, heard) else 0.8 if spec.looks_up else 0.6)
        )
    cued = assign(heard, spec.signature.params).strength
    figures = min(1.8, 0.6 * sum(1 for s in cued.values() if s >= 2.0))
    fits = min(1.6, sum(_fit(p, heard) for p in spec.signature.params))
    fits *= 0.5 if heard.question and not spec.looks_up else 1.0
    return total + max(figures, min(0.2, 0.2 * len(cued))) + fits


def _wants_figures(spec: Spec, heard: Heard) -> bool:
    """Return whether a tool calculates from figures while the question brings none."""
    return not heard.amounts and sum(p.kind == "number" for p in spec.signature.required) > 0


def _fit(param: Param, heard: Heard) -> float:
    """Return how well something in the sentence fits a parameter by its type alone."""
    if param.kind == "enum":
        return 0.7 if wordings.option(heard, param, asked=False) is not None else 0.0
    if param.kind == "place":
        return 0.6 if wordings.place(heard, param, asked=False) is not None else 0.0
    if param.kind == "code":
        return 0.6 if wordings.code(heard, param, asked=False)[0] is not None else 0.0
    if param.kind in {"date", "time", "instant"} and param.required:
        return 0.6 if heard.days or heard.clocks else 0.0
    return 0.0


def contact_tool(kit: Kit, heard: Heard) -> Spec | None:
    """Return the tool for which the contact details just given are the whole request, if there is one."""
    fitting = [s for s in kit.specs.values() if s.takes_contact]
    given = bool(heard.emails) + bool(heard.phones) + bool(heard.names)

    def rank(spec: Spec) -> tuple[bool, int, int]:
        kinds = {p.kind for p in spec.signature.params}
        return (not spec.saves, -len(kinds & {"email", "phone", "name"}), len(spec.signature.required))

    best = min(fitting, key=rank, default=None)
    return best if given and best is not None else None


def followers(kit: Kit, name: str) -> list[str]:
    """Return the tools whose description, or whose forerunner's, says that they come right after ``name``."""
    found = list[str]()
    done = kit.get(name)
    for spec in kit.specs.values():
        if spec.name == name:
            continue
        after = rf"{_FOLLOWS}{re.escape(name)}\b"
        told = rf"\b(?:then|next|afterwards?|followed by|always)\b[^.;]{{0,40}}\b{re.escape(spec.name)}\b"
        for text, pattern in ((spec.tool.description, after), (done.tool.description if done else "", told)):
            said = [s for s in re.split(r"(?<=[.;])\s", str(text)) if re.search(pattern, s, re.IGNORECASE)]
            if said and not any(_IF_WANTED.search(s) for s in said) and spec.name not in found:
                found.append(spec.name)
    return found


def forerunner(kit: Kit, spec: Spec) -> str | None:
    """Return the tool after which ``spec`` says it is called, if it says so."""
    for other in kit.specs:
        if other != spec.name and re.search(
            rf"{_FOLLOWS}{re.escape(other)}\b", str(spec.tool.description), re.IGNORECASE
        ):
            return other
    return None


def takes_moment(spec: Spec) -> Param | None:
    """Return the parameter of ``spec`` that takes an instant, if it has one."""
    return next((p for p in spec.signature.params if p.kind == "instant"), None)
