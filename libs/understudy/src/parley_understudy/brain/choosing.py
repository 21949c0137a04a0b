"""Finds which of the things offered the caller chooses: "the second one", "Tuesday at three", "the blue one".

It knows offers only, not tools.

Law: nothing is chosen unless exactly one offer fits best.
"""

from __future__ import annotations

import re
from datetime import datetime

from .reading import Heard
from .results import Offer
from .words import content

_NTH = {
    "first": 0, "second": 1, "third": 2, "fourth": 3, "fifth": 4, "1st": 0, "2nd": 1, "3rd": 2, "earliest": 0, "last": -1,
    "former": 0, "early": 0, "earlier": 0, "late": -1, "later": -1, "latter": 1, "latest": -1, "final": -1,
}  # fmt: skip
_ORDINAL = re.compile(
    r"\b(?:the |your |that )?(first|second|third|fourth|fifth|1st|2nd|3rd|last|earliest|latest|former|"
    r"latter|final|early|earlier|late|later)\b"
    r"(?: (?:one|option|slot|time|choice|appointment|available|please|of|works|is)\b|[\s.,!]*$)|"
    r"\b(?:number|option|slot) (one|two|three|four|five|\d)\b",
    re.IGNORECASE,
)
_CHOICE_WORDS_MAX = 6
_NUMBERS = {"one": 0, "two": 1, "three": 2, "four": 3, "five": 4}


def choice(heard: Heard, offers: tuple[Offer, ...]) -> Offer | None:
    """Return the offer that ``heard`` chooses, or None."""
    if not offers or heard.agrees is False:
        return None
    nth = _nth(heard.text)
    if nth is not None:
        return offers[nth] if -len(offers) <= nth < len(offers) else None
    by_moment = _by_moment(heard, offers)
    if by_moment is not None:
        return by_moment
    if len(offers) == 1 and heard.agrees and not heard.substance and len(heard.content) <= 2:
        return offers[0]
    talk = (
        heard.days
        or heard.clocks
        or heard.question
        or heard.details
        or len(heard.content) > _CHOICE_WORDS_MAX
    )
    return None if talk else _by_words(heard, offers)


def _nth(text: str) -> int | None:
    found = _ORDINAL.search(text)
    if found is None:
        return None
    if found.group(1):
        return _NTH[found.group(1).lower()]
    word = found.group(2).lower()
    return _NUMBERS[word] if word in _NUMBERS else int(word) - 1


def moment_of(offer: Offer) -> datetime | None:
    """Return the instant that an offer names, if it names one."""
    for value in offer.values.values():
        if isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d", value):
            try:
                return datetime.fromisoformat(value)
            except ValueError:
                continue
    return None


def _by_moment(heard: Heard, offers: tuple[Offer, ...]) -> Offer | None:
    if not heard.days and not heard.clocks:
        return None
    fitting = list[Offer]()
    for offer in offers:
        moment = moment_of(offer)
        if moment is None:
            continue
        day_fits = not heard.days or any(
            d.day == moment.date() or d.day.weekday() == moment.weekday() for d in heard.days
        )
        clock_fits = not heard.clocks or any(
            _clock_fits(c.clock, moment, vague=c.vague) for c in heard.clocks
        )
        if day_fits and clock_fits:
            fitting.append(offer)
    if len(fitting) > 1 and any(c.vague for c in heard.clocks):
        return fitting[0]
    return fitting[0] if len(fitting) == 1 else None


def _clock_fits(clock: object, moment: datetime, *, vague: bool) -> bool:
    hour, minute = getattr(clock, "hour", -1), getattr(clock, "minute", -1)
    if vague:
        return (hour < 12) == (moment.hour < 12)
    return hour % 12 == moment.hour % 12 and minute == moment.minute


def _by_words(heard: Heard, offers: tuple[Offer, ...]) -> Offer | None:
    said = set(heard.content)
    scores = [len(said & set(content(o.label))) for o in offers]
    best = max(scores, default=0)
    if best == 0 or scores.count(best) > 1:
        return None
    return offers[scores.index(best)]
