"""Reads one sentence of the caller once: everything in it that could fill a parameter or move the dialogue.

It does not know the tools; what a piece is for is decided elsewhere.

Law: no stretch of text is read as two things, except that a bare "at nine" stays a number too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from .dates import Clock, Day, clocks, days
from .entities import Found, agreement, emails, names, phones
from .numbers import Amount, amounts
from .phrases import implied
from .words import canon, content, plain

if TYPE_CHECKING:
    from datetime import datetime

TEXT_MAX = 2000
_QUESTION = re.compile(
    r"^(?:(?:hi|hello|hey|um|uh|so|and|but|well|okay|ok|thanks|great|alright|also|first|then|yes|no|"
    r"wait|hold on|before that|one more thing|by the way)[\s,.!]+)*"
    r"(?:what|what's|how|how's|why|when|where|who|which|is|are|does|do|did|was|were|will|am|has|have|"
    r"whose)\b",
    re.IGNORECASE,
)
_ASKS = re.compile(
    r"\b(?:tell me (?:about|what|how|whether|if|more|when|why|where)|explain|wonder(?:ing)?|"
    r"i have a question|want to know|"
    r"like to know|need to know|can (?:i|you|we) (?:know|ask)|do you know|curious|can i ask|any idea)\b",
    re.IGNORECASE,
)
_REQUEST = re.compile(
    r"^(?:\w+[\s,.!]+){0,3}?(?:can|could|would|will|may) (?:i|you|we|someone|somebody|anyone)\b|"
    r"\bi'd like|\bi would like|\bi want to\b",
    re.IGNORECASE,
)
_CORRECTS = re.compile(
    r"\b(?:actually|instead|change|changed|i meant?|make (?:it|that)|correction|rather|what if|"
    r"should be|scratch that|"
    r"wait|i said|correct (?:the|my)|fix|update|switch|how about|what about|wrong|not right|incorrect|"
    r"mistake|misspoke)\b|"
    r"^(?:oh |um |sorry,? )*no\b|^sorry\b",
    re.IGNORECASE,
)
_SELF_REPAIR = re.compile(
    r"\b(?:no,|no wait|sorry|i mean|actually|make that|scratch that|rather|correction)\b", re.IGNORECASE
)


@dataclass(frozen=True)
class Word:
    """A word of the sentence in its canonical form, and where it stands."""

    canon: str
    start: int
    end: int


@dataclass(frozen=True)
class Heard:
    """One sentence of the caller and what was found in it."""

    text: str
    words: tuple[Word, ...]
    content: tuple[str, ...]
    implied: tuple[str, ...]
    emails: tuple[Found, ...]
    phones: tuple[Found, ...]
    names: tuple[Found, ...]
    days: tuple[Day, ...]
    clocks: tuple[Clock, ...]
    amounts: tuple[Amount, ...]
    agrees: bool | None
    question: bool
    corrects: bool

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Where something with a meaning of its own stands: an address, a name, a moment, a number."""
        people = [(f.start, f.end) for f in (*self.emails, *self.phones, *self.names)]
        moments = [(d.start, d.end) for d in self.days] + [(c.start, c.end) for c in self.clocks]
        return people + moments + [(a.start, a.end) for a in self.amounts]

    @property
    def details(self) -> bool:
        """Whether the caller gave an e-mail address, a phone number or a name."""
        return bool(self.emails or self.phones or self.names)

    @property
    def substance(self) -> bool:
        """Whether there is anything in it that could fill a parameter."""
        return bool(self.details or self.days or self.clocks or self.amounts)


@lru_cache(maxsize=512)
def read(text: str, now: datetime) -> Heard:
    """Return what ``text`` holds; text beyond 2,000 characters is left out."""
    text = plain(text)[:TEXT_MAX]
    found_emails, found_phones = emails(text), phones(text)
    rest = _blanked(text, (*found_emails, *found_phones))
    found_days, found_clocks = days(rest, now), clocks(rest)
    firm = tuple(c for c in found_clocks if not c.weak)
    numbers = _repaired(rest, amounts(_blanked(rest, (*found_days, *firm))))
    introduced = names(text)
    return Heard(
        text=text,
        words=tuple(
            Word(canon(m.group()), m.start(), m.end()) for m in re.finditer(r"[a-z0-9']+", text.lower())
        ),
        content=content(_blanked(rest, (*found_days, *firm, *numbers, *introduced)).replace(";", " ")),
        implied=implied(text),
        emails=found_emails,
        phones=found_phones,
        names=introduced,
        days=found_days,
        clocks=found_clocks,
        amounts=numbers,
        agrees=agreement(text),
        question=_is_question(text),
        corrects=_CORRECTS.search(text) is not None,
    )


def _is_question(text: str) -> bool:
    if _ASKS.search(text):
        return True
    last = re.split(r"(?<=[.!?])\s+", text.strip())[-1]
    if _QUESTION.match(text) or _QUESTION.match(last):
        return True
    return "?" in text and not _REQUEST.search(text)


def _blanked(text: str, spans: tuple[Found | Day | Clock | Amount, ...]) -> str:
    for span in spans:
        text = text[: span.start] + ";" * (span.end - span.start) + text[span.end :]
    return text


def _repaired(text: str, found: tuple[Amount, ...]) -> tuple[Amount, ...]:
    """Drop a number that the speaker takes back at once: "300, no, 350 thousand"."""
    kept = list[Amount]()
    for amount in found:
        if (
            kept
            and amount.start - kept[-1].end < 25
            and _SELF_REPAIR.search(text[kept[-1].end : amount.start])
        ):
            kept.pop()
        kept.append(amount)
    return tuple(kept)


_FILLER = re.compile(
    r"^(?:hi|hello|hey|um+|uh+|er|so|well|okay|ok|please|yes|yeah|sure|alright|oh|and|also|actually|"
    r"thanks|thank you|great|"
    r"there|no|wait|hold on|good (?:morning|afternoon|evening)|can you (?:please )?(?:tell me|explain|"
    r"check|look up|find out)|"
    r"could you (?:please )?(?:tell me|explain|check|look up|find out)|i (?:want|need|would like|"
    r"wanted) to know|i'd like to know|"
    r"i have a question(?: about)?|tell me|i was wondering|i'm wondering|do you know|by the way|"
    r"before that|one more thing|"
    r"it's|it is|that's|that would be|i think|maybe|probably|the answer is)\b[\s,.!:-]*",
    re.IGNORECASE,
)


def trimmed(text: str) -> str:
    """Return the caller's own sentence without greetings and filler, beginning with a capital."""
    text = plain(text).strip()
    for _ in range(8):
        shorter = _FILLER.sub("", text, count=1)
        if shorter == text or not shorter:
            break
        text = shorter
    text = text.strip(" ,;:")
    return text[:1].upper() + text[1:]
