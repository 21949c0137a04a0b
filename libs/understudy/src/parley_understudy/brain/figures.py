"""Decides which number in a sentence is which parameter: by the words around it, its unit, its size.

It knows only numeric parameters; it neither asks nor remembers.

Law: a number goes to at most one parameter, and never to one whose unit contradicts what was said.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .numbers import Amount
from .reading import Heard, Word
from .schema import Param
from .words import canon

_IMPOSSIBLE = -100.0
_ENOUGH = 1.0
_CLEAR_BY = 0.25
_WINDOW = 8
_MONTHLY_USUAL_MAX = 50_000
_PRICE_CUES = frozenset({canon("price"), canon("budget")})
_BREAKS = re.compile(r"[,.;:?!]|\band\b|\bwith\b|\bbut\b|\bplus\b")
_COUNTS = frozenset(
    {"for", "of", "want", "need", "take", "order", "get", "make", "add", "like", "reserve", "buy"}
)
_PER_YEAR = {"year": 1.0, "month": 12.0, "week": 52.0, "day": 365.0}
_IN_MINUTES = {
    "minute": 1.0,
    "hour": 60.0,
    "day": 1440.0,
    "night": 1440.0,
    "week": 10080.0,
    "month": 43800.0,
    "year": 525600.0,
}


@dataclass(frozen=True)
class Figures:
    """What numbers filled, and why others were refused (worded to follow the parameter's label)."""

    values: dict[str, Any] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    strength: dict[str, float] = field(default_factory=dict)


def assign(
    heard: Heard,
    params: Sequence[Param],
    *,
    asked: Sequence[str] = (),
    slots: Mapping[str, Any] | None = None,
) -> Figures:
    """Give each number of ``heard`` to the numeric parameter that it most likely is."""
    slots = slots or {}
    numeric = [p for p in params if p.kind == "number"]
    if not numeric or not heard.amounts:
        return Figures()
    shares = _shares(numeric)
    bids = [
        (_bid(heard, amount, param, shares, asked, slots), -i, -j, amount, param)
        for i, param in enumerate(_asked_first(numeric, asked))
        for j, amount in enumerate(heard.amounts)
    ]
    result = _settle(sorted(bids, key=lambda b: b[:3], reverse=True), asked, slots)
    if not result.values and not result.faults and heard.corrects:
        return _nearest(heard, numeric, slots)
    return result


def _asked_first(params: list[Param], asked: Sequence[str]) -> list[Param]:
    return sorted(params, key=lambda p: list(asked).index(p.name) if p.name in asked else len(asked))


def _shares(params: list[Param]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for param in params:
        for cue in param.cues:
            counts[cue] = counts.get(cue, 0) + 1
    return counts


def _bid(
    heard: Heard,
    amount: Amount,
    param: Param,
    shares: dict[str, int],
    asked: Sequence[str],
    slots: Mapping[str, Any],
) -> float:
    unit = _unit_score(amount, param)
    if unit <= _IMPOSSIBLE:
        return unit
    cue = _cue_score(heard, amount, param, shares)
    total = cue + unit + _period_score(amount, param, cue)
    total += 0.4 if param.required else 0.0
    total += 2.5 if param.name in asked else 0.0
    if param.name in slots and not heard.corrects and param.name not in asked:
        total -= 1.0
    if param.period == "month" and amount.value > _MONTHLY_USUAL_MAX:
        total -= 1.5
    if _PRICE_CUES & set(param.cues) and _word_before(heard, amount) == "for" and not amount.period:
        total += 0.8
    if cue or unit > 0 or param.name in asked:
        return total
    counted = param.required and param.unit is None and amount.unit is None and 0 < amount.value < 1000
    return total + 0.7 if counted and _word_before(heard, amount) in _COUNTS else _IMPOSSIBLE


def _unit_score(amount: Amount, param: Param) -> float:
    said, wanted = amount.unit, param.unit
    if said == "usd":
        return {"usd": 1.0, None: -0.5}.get(wanted, _IMPOSSIBLE)
    if said == "percent":
        return 1.5 if wanted in {"percent", "fraction"} else _IMPOSSIBLE
    if said in _IN_MINUTES:
        if wanted == said or (wanted is None and canon(said) in param.cues):
            return 1.5
        return 0.8 if wanted in _IN_MINUTES else _IMPOSSIBLE
    if wanted == "year" and "year" in param.words and 1900 <= amount.value <= 2100:
        return 1.2
    if wanted in {"percent", "fraction"} and amount.value > 100:
        return _IMPOSSIBLE
    if wanted == "usd" and param.cues.get(canon("price")) and amount.value >= 10_000:
        return 0.6
    return 0.0


def _period_score(amount: Amount, param: Param, cue: float) -> float:
    if amount.period is None:
        return 0.0
    if amount.period == param.period:
        return 1.2
    convertible = param.period in _PER_YEAR and amount.period in _PER_YEAR and cue > 0
    return -0.5 if convertible else -1.5


def _cue_score(heard: Heard, amount: Amount, param: Param, shares: dict[str, int]) -> float:
    before = [w for w in heard.words if w.end <= amount.start][-_WINDOW:][::-1]
    after = [w for w in heard.words if w.start >= amount.end][:_WINDOW]
    best: dict[str, float] = {}
    for words, behind in ((before, True), (after, False)):
        for distance, word in enumerate(words):
            weight = param.cues.get(word.canon)
            if weight is None:
                continue
            gain = weight / shares.get(word.canon, 1) / (1 + 0.25 * distance)
            gain *= 0.45 ** _breaks_between(heard, amount, word, behind=behind)
            best[word.canon] = max(best.get(word.canon, 0.0), gain)
    return sum(best.values())


def _breaks_between(heard: Heard, amount: Amount, word: Word, *, behind: bool) -> int:
    start, end = (word.end, amount.start) if behind else (amount.end, word.start)
    others = sum(1 for a in heard.amounts if a is not amount and start <= a.start < end)
    return len(_BREAKS.findall(heard.text[start:end].lower())) + 2 * others


def _word_before(heard: Heard, amount: Amount) -> str:
    words = heard.text[: amount.start].lower().split()
    return words[-1] if words else ""


_Bid = tuple[float, int, int, Amount, Param]


def _settle(bids: list[_Bid], asked: Sequence[str], slots: Mapping[str, Any]) -> Figures:
    result, used = Figures(), set[Amount]()
    for bid in bids:
        score, _, _, amount, param = bid
        if score < _ENOUGH or amount in used or param.name in result.values:
            continue
        if _ambiguous(bid, bids, result, asked, slots):
            continue
        value = _converted(amount, param)
        fault = param.fault(value)
        if fault is None:
            result.values[param.name] = value
            result.strength[param.name] = score
            used.add(amount)
        elif (param.name in asked or score > 2.0) and not any(param.name == p for p in result.faults):
            result.faults[param.name] = fault
    return Figures(
        result.values, {k: v for k, v in result.faults.items() if k not in result.values}, result.strength
    )


def _ambiguous(
    bid: _Bid, bids: list[_Bid], result: Figures, asked: Sequence[str], slots: Mapping[str, Any]
) -> bool:
    """Return whether another free parameter could be this number just as well, and nothing else decides."""
    score, _, _, amount, param = bid
    if param.name in asked:
        return False
    return any(
        other.name != param.name
        and other.name not in result.values
        and (other.name in slots) == (param.name in slots)
        and amount is same
        and rival > score - _CLEAR_BY
        and rival >= _ENOUGH
        and other.fault(_converted(amount, other)) is None
        for rival, _, _, same, other in bids
    )


def _converted(amount: Amount, param: Param) -> float:
    value = amount.value
    if param.unit == "fraction" and (amount.unit == "percent" or value > 1):
        return round(value / 100, 6)
    if param.period in _PER_YEAR and amount.period in _PER_YEAR:
        value = value * _PER_YEAR[amount.period] / _PER_YEAR[param.period]
    elif amount.unit in _IN_MINUTES and param.unit in _IN_MINUTES and amount.unit != param.unit:
        years = {"year": 12.0}.get(amount.unit) if param.unit == "month" else None
        value *= years or _IN_MINUTES[amount.unit] / _IN_MINUTES[param.unit]
    value = round(value, 6)
    return int(value) if float(value).is_integer() else value


def _nearest(heard: Heard, params: list[Param], slots: Mapping[str, Any]) -> Figures:
    """Take a correction that names no parameter we have for the value of that size: 250,000 replaces 300,000."""
    amount = heard.amounts[-1]
    if amount.value <= 0:
        return Figures()
    distances = sorted(
        (abs(math.log(_converted(amount, p) / slots[p.name])), p.name, p)
        for p in params
        if isinstance(slots.get(p.name), int | float)
        and slots[p.name] > 0
        and _unit_score(amount, p) > _IMPOSSIBLE
    )
    close = [d for d in distances if d[0] < math.log(3)]
    if len(close) != 1:
        return Figures()
    param = close[0][2]
    value = _converted(amount, param)
    fault = param.fault(value)
    return Figures({param.name: value}) if fault is None else Figures(faults={param.name: fault})
