"""Finds the passages of a business's articles that answer a question: BM25 over articles cut at their headings.

Callers rarely use an article's words, so a word of the question also counts, for less, as a word that stands for it
(synonyms.py, and the business's own groups) and as one that begins alike. An answer is taken from the text, never
made up. Relevance is the share of the question's weight (rarer words weigh more) that a passage holds; below
``COVERAGE_MIN`` nothing was found.

Law: the same articles and question give the same passages, in the same order.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import bm25s
import numpy as np
from numpy.typing import NDArray

from parley_tools.rules.synonyms import SYNONYMS

COVERAGE_MIN = 0.22
ALIKE_WEIGHT = 0.8
"""What a word counts that begins as the one asked for: "bankrupt" for "bankruptcy"."""
ALIKE_CHARS_MIN = 5
SYNONYM_WEIGHT = 0.6
OWN_SYNONYM_WEIGHT = 0.95
"""Of a business's own groups: there the words mean the same."""
LOOKED_AT = 8
"""Times as many passages as are wanted are looked at, best first: some are of one article, some hold too little."""
UNKNOWN_WEIGHT = 0.5
"""What a word counts that no article has: spoken questions are full of them."""
SAID_CHARS_MAX = 320
TITLE_WEIGHT = 2
"""How many times a passage's title and heading count as words of it."""
_WORD = re.compile(r"[a-z0-9]+")
_HYPHENATED = re.compile(r"[a-z]+(?:-[a-z]+)+")
_HEADING = re.compile(r"^(#{1,6})\s+(.+?)\s*#*$", re.MULTILINE)
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9\"“])")
_STOP = (
    "a about all also am an and any are as at be been but by can could did do does doing for from get "
    "give had has have having hello hey hi how i if in into is it its just know let like long may me "
    "might more much must my need no not now of off ok okay on one or our out over please say should so "
    "some someone something tell than thank thanks that the their them then there these they thing things "
    "this those to too up us want was we well were what whats when where which who whom why will with "
    "would yes you your "
)
STOP_WORDS = frozenset(_STOP.split())
_SUFFIXES = ("ations", "ation", "ments", "ment", "ings", "ing", "ies", "ied", "ed", "es", "s", "ly", "y", "e")


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of an article: what stands under one heading."""

    title: str
    heading: str
    source: str
    text: str


@dataclass(frozen=True, slots=True)
class Found:
    """A passage and how much of the question it holds, 0 to 1."""

    passage: Passage
    coverage: float


def stem(word: str) -> str:
    """Return a word without its ending, so that its forms meet; deliberately crude, and the same for all."""
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            return word[: -len(suffix)]
    return word


def words(text: str) -> list[str]:
    """Return the stems that carry meaning."""
    plain = text.lower().replace("'", "").replace("’", "")
    # "pre-approval" is found by that, by "approval" and by "preapproval".
    joined = [match[0].replace("-", "") for match in _HYPHENATED.finditer(plain)]
    return [stem(word) for word in _WORD.findall(plain) + joined if word not in STOP_WORDS]


def passages_of(source: str, markdown: str) -> list[Passage]:
    """Cut one article at its headings; its first heading is its title."""
    headings = list(_HEADING.finditer(markdown))
    title = headings[0][2] if headings else source
    bounds = [match.start() for match in headings] + [len(markdown)]
    cut = [Passage(title, title, source, _plain(markdown[: bounds[0]]))]
    for match, end in zip(headings, bounds[1:], strict=True):
        cut.append(Passage(title, match[2], source, _plain(markdown[match.end() : end])))
    return [passage for passage in cut if passage.text]


def _plain(markdown: str) -> str:
    """Return text that can be spoken: no links, emphasis, code marks or list marks."""
    text = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", markdown)
    text = re.sub(r"^\s*(?:[-*+]|\d+\.)\s+", "", text, flags=re.MULTILINE)
    return " ".join(re.sub(r"[*_`|>]", "", text).split())


class Index:
    """The passages of one business, ready to be searched. Immutable; building it takes milliseconds per article."""

    def __init__(self, passages: Sequence[Passage], groups: Iterable[Sequence[str]] = ()) -> None:
        self._passages = tuple(passages)
        texts = [
            words(f"{passage.title} {passage.heading} ") * TITLE_WEIGHT + words(passage.text)
            for passage in passages
        ]
        self._words = [frozenset(text) for text in texts]
        self._idf = _idf(self._words)
        self._unknown = UNKNOWN_WEIGHT * math.log(1 + len(texts)) if texts else 0.0
        self._general, self._own = _grouped(SYNONYMS), _grouped(groups)
        self._ranking = bm25s.BM25() if any(texts) else None
        if self._ranking is not None:
            self._ranking.index(texts, show_progress=False)

    @property
    def passages(self) -> tuple[Passage, ...]:
        return self._passages

    def find(self, question: str, count: int) -> list[Found]:
        """Return up to ``count`` relevant passages, best first: of each article the best, for another article
        tells more than a second piece of the same one.
        """
        asked = {word: self._standing_for(word) for word in words(question)}
        if self._ranking is None or not any(asked.values()):
            return []
        ranking = self._ranking
        scores: NDArray[np.float64] = np.zeros(len(self._passages))
        for meant in asked.values():
            if meant:  # the best of what stands for a word counts, not all of it
                scores += np.max(
                    [ranking.get_scores([word]) * weight for word, weight in meant.items()], axis=0
                )
        best = sorted(range(len(scores)), key=lambda place: (-scores[place], place))[: LOOKED_AT * count]
        found = [Found(self._passages[place], self._coverage(asked, place)) for place in best]
        by_article: dict[str, Found] = {}
        for each in found:
            if each.coverage >= COVERAGE_MIN:
                by_article.setdefault(each.passage.source, each)
        return list(by_article.values())[:count]

    def _standing_for(self, asked: str) -> dict[str, float]:
        """Return the articles' words that one asked for may mean, and what each counts."""
        meant = dict.fromkeys(self._general.get(asked, ()), SYNONYM_WEIGHT)
        meant |= dict.fromkeys(self._own.get(asked, ()), OWN_SYNONYM_WEIGHT)
        meant = {word: weight for word, weight in meant.items() if word in self._idf}
        meant |= {word: ALIKE_WEIGHT for word in self._idf if _begin_alike(asked, word)}
        return meant | ({asked: 1.0} if asked in self._idf else {})

    def _coverage(self, asked: Mapping[str, Mapping[str, float]], place: int) -> float:
        held = total = 0.0
        for word, meant in asked.items():
            weight = self._idf.get(word) or max((self._idf[other] for other in meant), default=self._unknown)
            total += weight
            held += weight * max(
                (share for other, share in meant.items() if other in self._words[place]), default=0
            )
        return held / total


def _grouped(groups: Iterable[Sequence[str]]) -> dict[str, frozenset[str]]:
    """Return, by stem, the stems that stand for it."""
    found: dict[str, set[str]] = {}
    for group in groups:
        stems = {stem for word in group for stem in words(word)}
        for each in stems:
            found.setdefault(each, set()).update(stems - {each})
    return {each: frozenset(others) for each, others in found.items()}


def _begin_alike(asked: str, word: str) -> bool:
    shorter = min(len(asked), len(word))
    return asked != word and shorter >= ALIKE_CHARS_MIN and asked[:shorter] == word[:shorter]


def _idf(texts: Sequence[Iterable[str]]) -> dict[str, float]:
    seen = Counter(word for text in texts for word in text)
    return {word: math.log(1 + (len(texts) - n + 0.5) / (n + 0.5)) for word, n in seen.items()}


def answer(question: str, passage: Passage) -> str:
    """Return the one or two sentences of ``passage`` that hold most of the question."""
    asked = set(words(question))
    sentences = [sentence.strip() for sentence in _SENTENCE.split(passage.text) if sentence.strip()]
    best = max(range(len(sentences)), key=lambda n: (len(asked & set(words(sentences[n]))), -n))
    said = sentences[best]
    if best + 1 < len(sentences) and len(said) + len(sentences[best + 1]) < SAID_CHARS_MAX:
        said = f"{said} {sentences[best + 1]}"
    return said if len(said) <= SAID_CHARS_MAX else said[:SAID_CHARS_MAX].rsplit(" ", 1)[0] + " …"
