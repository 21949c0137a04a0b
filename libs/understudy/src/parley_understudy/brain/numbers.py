"""Finds numbers in what was said: figures, words, money, percent, spans of time.

It knows nothing of what a number is for, nor of dates and phone numbers (those are found first and
blanked out by the caller of this module).

Law: saying a number in words and writing it in figures give the same ``Amount.value``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from .words import each_of

SMALL = {
    word: value
    for value, word in enumerate(
        each_of(
            "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
            "seventeen eighteen nineteen"
        )
    )
} | {
    word: 10 * value
    for value, word in enumerate(each_of("twenty thirty forty fifty sixty seventy eighty ninety"), 2)
}
SMALL |= {"oh": 0, "fourty": 40}
_SCALES = {"thousand": 10**3, "k": 10**3, "grand": 10**3, "million": 10**6, "mil": 10**6, "m": 10**6}
_SCALES |= {"billion": 10**9, "bn": 10**9}
_FRACTIONS = {"half": 0.5, "quarter": 0.25, "third": 1 / 3, "quarters": 0.25, "thirds": 1 / 3}
_UNITS = {
    **dict.fromkeys(("dollar", "dollars", "bucks", "usd", "grand"), "usd"),
    **dict.fromkeys(("%", "percent", "pct", "percentage"), "percent"),
    **dict.fromkeys(("year", "years", "yr", "yrs"), "year"),
    **dict.fromkeys(("month", "months"), "month"),
    **dict.fromkeys(("week", "weeks"), "week"),
    **dict.fromkeys(("day", "days"), "day"),
    **dict.fromkeys(("night", "nights"), "night"),
    **dict.fromkeys(("hour", "hours"), "hour"),
    **dict.fromkeys(("minute", "minutes", "min", "mins"), "minute"),
}
_PERIODS = {"monthly": "month", "annually": "year", "yearly": "year", "annual": "year", "weekly": "week"}
_TOKEN = re.compile(r"\$|%|\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+|[a-z]+(?:'[a-z]+)?")
_DIGITS_MAX = 15
_NOT_A_COUNT = frozenset(
    each_of("the that this which second first third last other next no any every some each another right")
)


_LASTING = frozenset({"for", "about", "over", "within", "around", "almost", "nearly"})


@dataclass(frozen=True)
class Amount:
    """A number as it was said. ``unit`` and ``period`` are null when none was said; ``digits`` is its raw run."""

    start: int
    end: int
    value: float
    unit: str | None = None
    period: str | None = None
    digits: str = ""


@dataclass(frozen=True)
class _Token:
    text: str
    start: int
    end: int


def join_small(group: list[int]) -> float:
    """Return the number that small spoken numbers mean together: 7 40 is 740, 19 85 is 1985, 7 oh 5 is 705."""
    if not group:
        return 0
    if len(group) > 1 and (0 in group or all(n < 10 for n in group)):
        return float("".join(str(n) for n in group)[:_DIGITS_MAX])
    total = group[0]
    for n in group[1:]:
        fits_after_tens = n < 10 and total % 100 >= 20 and total % 10 == 0
        fits_after_hundred = n < 100 and total >= 100 and total % 100 == 0
        total = total + n if fits_after_tens or fits_after_hundred else total * 100 + n
    return float(total)


def _evaluate(words: list[str]) -> float:
    total, group = 0.0, list[int]()
    for word in words:
        if word in SMALL:
            group.append(SMALL[word])
        elif word == "hundred":
            group = [int(join_small(group) or 1) * 100]
        elif word in _SCALES:
            total += (join_small(group) or 1) * _SCALES[word]
            group = []
    return total + join_small(group)


def _scan(text: str) -> list[_Token]:
    return [_Token(m.group(), m.start(), m.end()) for m in _TOKEN.finditer(text.lower())]


def _broken(text: str, before: _Token, after: _Token) -> bool:
    """Return whether punctuation between two tokens ends a number."""
    gap = text[before.end : after.start]
    return any(sign in gap for sign in ",;.!?:/") or len(gap) > 3


class _Reader:
    """Walks the tokens of one text and collects amounts."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = _scan(text)

    def word(self, i: int) -> str:
        return self.tokens[i].text if 0 <= i < len(self.tokens) else ""

    def read(self) -> list[Amount]:
        found, i = list[Amount](), 0
        while i < len(self.tokens):
            taken = self._figure(i) or self._leading_fraction(i) or self._a_span(i) or self._words(i)
            if taken is None:
                i += 1
                continue
            value, following, digits = taken
            found.append(self._amount(i, following, value, digits))
            i = following
        return found

    def _figure(self, i: int) -> tuple[float, int, str] | None:
        raw = self.word(i)
        if not raw or not (raw[0].isdigit() or raw[0] == "."):
            return None
        if len(raw) > _DIGITS_MAX:
            return None
        value, j = self._tail(float(raw.replace(",", "")), i + 1)
        while self._continues(j) and (self.word(j) in _SCALES or self.word(j) == "hundred"):
            value *= _SCALES.get(self.word(j), 100)
            j += 1
        return value, j, raw.replace(",", "") if j == i + 1 else ""

    def _leading_fraction(self, i: int) -> tuple[float, int, str] | None:
        """Read "half a million", "a quarter million", "a half percent"."""
        j = i + 1 if self.word(i) in {"a", "one"} else i
        fraction = _FRACTIONS.get(self.word(j))
        if fraction is None or self.word(j).endswith("s"):
            return None
        j += 1
        while self.word(j) in {"a", "of"}:
            j += 1
        if self.word(j) in _SCALES:
            return fraction * _SCALES[self.word(j)], j + 1, ""
        return (fraction, j, "") if _UNITS.get(self.word(j)) == "percent" else None

    def _a_span(self, i: int) -> tuple[float, int, str] | None:
        """Read "for a week" as one week."""
        spans = {"day", "night", "week", "month", "year", "hour"}
        if (
            self.word(i) not in {"a", "an"}
            or self.word(i + 1) not in spans
            or self.word(i - 1) not in _LASTING
        ):
            return None
        return 1.0, i + 1, ""

    def _words(self, i: int) -> tuple[float, int, str] | None:
        j = self._run(i)
        if j == i or self._is_pronoun(i, j):
            return None
        words = [t.text for t in self.tokens[i:j]]
        if words == ["oh"] or words[0] in {"k", "m", "mil", "bn"}:
            return None
        singles = all(SMALL.get(w, 10) < 10 for w in words)
        digits = "".join(str(SMALL[w]) for w in words) if singles else ""
        value, after = self._tail(_evaluate(words), j)
        while after > j and self._continues(after) and self.word(after) in _SCALES:
            value *= _SCALES[self.word(after)]
            after += 1
        return value, max(after, j), digits if after == j else ""

    def _run(self, i: int) -> int:
        """Return where the run of number words that begins at ``i`` ends."""
        j = i + 1 if self.word(i) == "a" and self.word(i + 1) in {"hundred", "thousand", "million"} else i
        ranged = self.word(i - 1) in {"between", "from"}
        while j < len(self.tokens):
            word = self.word(j)
            if j > i and _broken(self.text, self.tokens[j - 1], self.tokens[j]) and not self._goes_on(j):
                break
            joins = word == "and" and j > i and not ranged and self.word(j - 1) in {"hundred", *_SCALES}
            if word in SMALL or word in _SCALES or word == "hundred":
                j += 1
            elif joins and self.word(j + 1) in SMALL and not self._another(j + 1):
                j += 2
            else:
                break
        return j

    def _goes_on(self, j: int) -> bool:
        """Return whether a number goes on after a comma: "one million, two hundred thousand"."""
        comma = self.text[self.tokens[j - 1].end : self.tokens[j].start].strip() == ","
        lower = any(self.word(k) in {"hundred", "thousand"} for k in range(j, j + 3))
        return comma and self.word(j - 1) in {"million", "billion", "thousand"} and lower

    def _another(self, j: int) -> bool:
        """Return whether a number of its own begins at ``j``: "and seven forty" after a number in hundreds."""
        return 0 < SMALL[self.word(j)] < 10 and (
            SMALL.get(self.word(j + 1), 0) >= 10 or self.word(j + 1) == "hundred"
        )

    def _continues(self, j: int) -> bool:
        return 0 < j < len(self.tokens) and not _broken(self.text, self.tokens[j - 1], self.tokens[j])

    def _tail(self, value: float, j: int) -> tuple[float, int]:
        """Add what follows a number: "point two five", "and a half", "and three quarters"."""
        if self.word(j) == "point" and self.word(j + 1) in SMALL:
            k = j + 1
            while self.word(k) in SMALL and self._continues(k):
                k += 1
            return float(f"{int(value)}.{_spoken_decimals([self.word(n) for n in range(j + 1, k)])}"), k
        if self.word(j) == "and" and self.word(j + 1) == "a" and self.word(j + 2) in _FRACTIONS:
            return value + _FRACTIONS[self.word(j + 2)], j + 3
        if self.word(j) == "and" and self.word(j + 2) in {"quarters", "thirds"} and self.word(j + 1) in SMALL:
            return value + SMALL[self.word(j + 1)] * _FRACTIONS[self.word(j + 2)], j + 3
        return value, j

    def _is_pronoun(self, i: int, j: int) -> bool:
        """Return whether a lone "one" stands for a thing, as in "the second one" or "one of them"."""
        if j != i + 1 or self.word(i) != "one":
            return False
        return self.word(i - 1) in _NOT_A_COUNT or self.word(j) == "of" or self.word(j) == "more"

    def _amount(self, i: int, j: int, value: float, digits: str) -> Amount:
        unit, end = self._unit(i, j)
        start = self.tokens[i].start
        if self.word(i - 1) == "$":
            start = self.tokens[i - 1].start
        if self.word(i - 1) in {"minus", "negative"}:
            value, start = -value, self.tokens[i - 1].start
        value = round(value, 6)
        period = self._period(end)
        return Amount(start, self.tokens[end - 1].end, _whole(value), unit, period, digits)

    def _unit(self, i: int, j: int) -> tuple[str | None, int]:
        if self.word(i - 1) == "$":
            return "usd", j + 1 if self.word(j) in {"dollars", "usd"} else j
        word = self.word(j)
        if word == "per" and self.word(j + 1) == "cent":
            return "percent", j + 2
        if word in _UNITS:
            return _UNITS[word], j + 1
        return ("usd", j) if self.word(j - 1) == "grand" else (None, j)

    def _period(self, j: int) -> str | None:
        word, following = self.word(j), self.word(j + 1)
        if word in {"a", "per", "each", "every", "/"}:
            return (
                _UNITS.get(following) if _UNITS.get(following) in {"year", "month", "week", "day"} else None
            )
        return _PERIODS.get(word)


def _spoken_decimals(words: list[str]) -> str:
    """Return the digits after "point": "two five" and "twenty five" are both 25."""
    digits = ""
    for word in words:
        value = SMALL[word]
        tens_before = digits.endswith("0") and len(digits) > 1 and 0 < value < 10
        digits = digits[:-1] + str(value) if tens_before else digits + str(value)
    return digits[:9] or "0"


def _whole(value: float) -> float:
    return int(value) if float(value).is_integer() else value


@lru_cache(maxsize=1024)
def amounts(text: str) -> tuple[Amount, ...]:
    """Return the numbers in ``text``, in order, none overlapping."""
    return tuple(_Reader(text).read())


def small_number(text: str) -> int | None:
    """Return the whole number that ``text`` is, in words or figures, or None when it is not just that."""
    found = amounts(text.strip())
    if len(found) != 1 or found[0].value != int(found[0].value):
        return None
    return int(found[0].value)
