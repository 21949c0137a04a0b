"""Fills a tool's parameters from one sentence of the caller.

It decides values by type, by name and by what was just asked; it does not decide which tool is meant, nor
what to ask next.

Law: a value is returned only if the caller said it and the schema admits it; a refused one comes back as a fault.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time
from typing import Any

from . import wordings
from .dates import bare_clock
from .entities import run_of_digits
from .figures import assign
from .reading import Heard
from .schema import Param, Signature
from .words import canon, each_of

_PAST = re.compile(
    r"birth|dob|transaction|since|history|past|happened|occurred|incident|last visit|purchased", re.IGNORECASE
)
_BORN = re.compile(r"birth|dob|born", re.IGNORECASE)
_CONSENTS = re.compile(
    r"\b(?:you (?:may|can) (?:contact|call|email|text) me\b(?! (?:at|on|by)\b)|i (?:agree|consent|"
    r"give (?:you )?(?:my )?(?:consent|permission))|"
    r"you have my (?:consent|permission)|feel free to (?:contact|call|email|reach)|(?:happy|fine|okay|"
    r"ok) (?:to be|with being) contacted)\b",
    re.IGNORECASE,
)
_REFUSES = re.compile(
    r"\b(?:(?:do not|don't|never|please don't) (?:contact|call|email|text|share)|i (?:do not|"
    r"don't) (?:agree|consent)|"
    r"not (?:okay|ok|happy|fine) (?:with|to be))\b",
    re.IGNORECASE,
)
_THINGS = frozenset(
    each_of(
        "product item drug medication medicine merchant title model device song dish artist treatment "
        "treatments service "
        "species breed ingredient instrument brand keyword food book movie category plant animal crop "
        "vehicle planet"
    )
)


@dataclass(frozen=True)
class Half:
    """A moment of which only the day, or only the time of day, was said so far."""

    day: date | None = None
    clock: time | None = None


@dataclass(frozen=True)
class Setting:
    """What else decides how a sentence fills parameters."""

    now: datetime
    asked: tuple[str, ...] = ()
    opening: bool = False
    about: frozenset[str] = frozenset()
    slots: Mapping[str, Any] = field(default_factory=dict)
    halves: Mapping[str, Half] = field(default_factory=dict)


@dataclass(frozen=True)
class Filled:
    """What one sentence gave: values, half-said moments, and faults by parameter name."""

    values: dict[str, Any] = field(default_factory=dict)
    halves: dict[str, Half] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    options: dict[tuple[Any, ...], set[Any]] = field(default_factory=dict)

    def picked(self, options: tuple[Any, ...]) -> set[Any]:
        """Return which of ``options`` this sentence already gave to a parameter: one word fills one of two."""
        return self.options.get(options, set())


def fill(heard: Heard, signature: Signature, setting: Setting) -> Filled:
    """Return what ``heard`` gives for the parameters of ``signature``."""
    figures = assign(heard, signature.params, asked=setting.asked, slots=setting.slots)
    result = Filled(dict(figures.values), {}, dict(figures.faults))
    _fill_moments(heard, signature, setting, result)
    for param in sorted(signature.params, key=lambda p: p.name not in setting.asked):
        if param.name in result.values or param.kind in {"number", "date", "time", "instant"}:
            continue
        _keep(result, param, _value(heard, param, setting, result))
    return result


def _keep(result: Filled, param: Param, value: Any) -> None:
    if value is None:
        return
    fault = param.fault(value)
    if fault is None:
        result.values[param.name] = value
        if param.kind == "enum":
            result.options.setdefault(param.options, set()).add(value)
        result.faults.pop(param.name, None)
    else:
        result.faults[param.name] = fault


def _value(heard: Heard, param: Param, setting: Setting, result: Filled) -> Any:
    asked = param.name in setting.asked
    if param.personal:
        return _personal(heard, param, result, asked=asked)
    if param.kind == "boolean":
        return _boolean(heard, param, asked=asked)
    if param.kind == "enum":
        value = wordings.option(heard, param, asked=asked)
        return None if not asked and value in result.picked(param.options) else value
    if param.kind == "code":
        value, refused = wordings.code(heard, param, asked=asked)
        if refused:
            result.faults[param.name] = "does not look right"
        return value
    if asked and not heard.content and result.values:
        return None  # what was said is a figure or a moment, and is taken
    return _worded(heard, param, setting, asked=asked)


def _worded(heard: Heard, param: Param, setting: Setting, *, asked: bool) -> Any:
    opening = setting.opening and param.required and param.name not in setting.slots
    if param.kind == "list":
        return wordings.listed(heard, param, asked=asked) if asked or opening or param.options else None
    if param.kind == "place":
        return wordings.place(heard, param, asked=asked)
    if param.kind == "text":
        if asked:
            return wordings.own_words(heard, about=(), least=0) if heard.agrees is not False else None
        seeks = bool({"query", "question", "search", "keywords"} & set(param.words))
        least = 1 if seeks else 2
        about = () if seeks and heard.question else setting.about
        return wordings.own_words(heard, about=about, least=least) if opening else None
    cued = wordings.after_cue(heard, param) or wordings.colour(heard, param)
    if cued is not None:
        return cued
    if asked and (heard.emails or heard.phones):
        return None
    if asked:
        return (
            (wordings.answer(heard.text) or None) if heard.agrees is None or len(heard.content) > 1 else None
        )
    return (
        wordings.thing(heard, setting.about | set(param.cues))
        if opening and _THINGS & set(param.words)
        else None
    )


def _personal(heard: Heard, param: Param, result: Filled, *, asked: bool) -> str | None:
    if param.kind == "name":
        whole = heard.names[-1].value if heard.names else ""
        if not whole and asked:
            first = min((f.start for f in (*heard.emails, *heard.phones)), default=len(heard.text))
            whole = wordings.bare_name(re.split(r"[,.]?\s+and\s+|,\s", heard.text[:first])[0])
        return name_part(param, whole)
    found = heard.emails if param.kind == "email" else heard.phones
    if found:
        return shaped(param, found[-1].value)
    if asked and param.kind == "email" and re.search(r"\bat\b|@", heard.text):
        result.faults[param.name] = "did not come through whole"
    if asked and param.kind == "phone" and len(run_of_digits(heard.text)) >= 3:
        result.faults[param.name] = "did not come through whole"
    return None


def name_part(param: Param, whole: str) -> str | None:
    """Return the part of a name that ``param`` asks for."""
    words = whole.split()
    if not words:
        return None
    if set(param.words) & {"first", "given"}:
        return words[0]
    if set(param.words) & {"last", "family", "surname"}:
        return words[-1] if len(words) > 1 else None
    return whole


def shaped(param: Param, value: str) -> str:
    """Return an e-mail address or phone number in the form that the schema asks for."""
    if param.kind != "phone":
        return value
    digits = re.sub(r"\D", "", value)
    national = value if value.startswith("+") else f"+1{digits}" if len(digits) == 10 else value
    if (
        re.search(r"e\.?164|\+1|with country code|international", param.description, re.IGNORECASE)
        and len(digits) >= 10
    ):
        return national
    for form in (value, national, digits, f"({digits[:3]}) {digits[3:6]}-{digits[6:]}"):
        if param.fault(form) is None:
            return form
    return value


def _boolean(heard: Heard, param: Param, *, asked: bool) -> bool | None:
    if param.consent:
        contact = "contact" in f"{param.name} {param.description}".lower() or "consent" in param.name
        if contact and _REFUSES.search(heard.text):
            return False
        if contact and _CONSENTS.search(heard.text):
            return True
        return heard.agrees if asked else None
    if asked and heard.agrees is not None:
        return heard.agrees
    head = {canon(w) for w in param.words} - {"is", "has", "want", "need", "be", "with"}
    said = {w.canon for w in heard.words} | set(heard.implied)
    if not head or not head <= said or heard.question:
        return None
    return (
        re.search(r"\b(?:not|no|don't|without|isn't|never|haven't|am not)\b", heard.text, re.IGNORECASE)
        is None
    )


def _fill_moments(heard: Heard, signature: Signature, setting: Setting, result: Filled) -> None:
    moments = [p for p in signature.params if p.kind in {"date", "time", "instant"}]
    days = list(heard.days)
    for param in _by_claim(heard, moments, setting):
        born = _BORN.search(f"{param.name} {param.description}") is not None
        if not _claims(heard, param, setting, born=born):
            continue
        if param.kind == "time":
            _keep(result, param, _time_value(heard, param, setting))
            continue
        day = days.pop(0) if days else None
        if param.kind == "date":
            if day is not None:
                _keep(result, param, _dated(param, day.day, setting.now))
        else:
            _fill_instant(heard, param, day.day if day else None, setting, result)


def _by_claim(heard: Heard, moments: list[Param], setting: Setting) -> list[Param]:
    said = {w.canon for w in heard.words}

    def rank(param: Param) -> tuple[bool, bool, bool]:
        cued = any(canon(w) in said for w in param.words if w not in {"date", "time", "day"})
        return (param.name not in setting.asked, not cued, not param.required)

    return sorted(moments, key=rank)


def _claims(heard: Heard, param: Param, setting: Setting, *, born: bool) -> bool:
    """Return whether a moment in this sentence may be this parameter's: a birthday is never an appointment."""
    if param.name in setting.asked:
        return True
    birthday = re.search(r"\b(?:born|birth(?:day)?|dob)\b", heard.text, re.IGNORECASE) is not None
    if born or birthday:
        return born and birthday
    return bool(heard.days or heard.clocks)


def _dated(param: Param, day: date, now: datetime) -> str:
    if _PAST.search(f"{param.name} {param.description}") and day > now.date():
        try:
            day = day.replace(year=day.year - 1)
        except ValueError:
            day = day.replace(year=day.year - 1, day=28)
    return day.isoformat()


def _time_value(heard: Heard, param: Param, setting: Setting) -> str | None:
    clock = _clock_of(heard, asked=param.name in setting.asked)
    if clock is None:
        return None
    short = clock.strftime("%H:%M")
    return short if param.fault(short) is None else clock.isoformat()


def _clock_of(heard: Heard, *, asked: bool) -> time | None:
    if heard.clocks:
        return heard.clocks[-1].clock
    return bare_clock(wordings.answer(heard.text)) if asked else None


def _fill_instant(heard: Heard, param: Param, day: date | None, setting: Setting, result: Filled) -> None:
    """Join a day and a time of day, also from two sentences, to one instant in the time zone of now."""
    half = setting.halves.get(param.name, Half())
    clock = _clock_of(heard, asked=param.name in setting.asked)
    if day is None and clock is None:
        return
    known = setting.slots.get(param.name)
    if isinstance(known, str) and (day is None or clock is None):
        half = _halved(known)
    half = Half(day or half.day, clock or half.clock)
    if half.day is None and half.clock is not None and heard.clocks and "today" in heard.text.lower():
        half = Half(setting.now.date(), half.clock)
    result.halves[param.name] = half
    if half.day is not None and half.clock is not None:
        instant = datetime.combine(half.day, half.clock, tzinfo=setting.now.tzinfo)
        _keep(result, param, instant.isoformat())


def _halved(text: str) -> Half:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        return Half()
    return Half(instant.date(), instant.time())
