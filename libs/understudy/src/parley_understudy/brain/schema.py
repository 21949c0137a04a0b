"""Reads a tool's JSON Schema: what each parameter is, how people speak of it, which values it admits.

It never looks at what was said. Schemas are taken as they come: what cannot be understood is a plain
parameter of no known kind.

Law: a value for which ``Param.fault`` returns None holds to the schema.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from .words import STOP, canon, content, each_of, name_words

Kind = Literal[
    "email", "phone", "name", "number", "boolean", "enum", "date", "time", "instant", "list", "text", "code",
    "place", "plain",
]  # fmt: skip
_PERSON = frozenset(
    each_of(
        "name full first last family given legal customer caller patient client contact guest user "
        "person your applicant "
        "borrower holder employee member owner student passenger tenant attendee reporter surname "
        "lead my buyer"
    )
)
_TEXT = frozenset(
    each_of(
        "query question notes note summary description reason details detail message symptoms symptom "
        "complaint comment "
        "comments topic issue problem subject text request concern feedback instructions story "
        "explanation context body "
        "search keywords purpose wish"
    )
)
_CODE = frozenset(
    each_of(
        "id number code no sku reference ref zip postal postcode policy serial vin tracking confirmation "
        "pin isbn plate "
        "barcode digits ssn iban passport licence license"
    )
)
_PLACE = frozenset(
    each_of(
        "city town place location area neighborhood county country market state region destination origin"
    )
)
_MONEY = frozenset(
    each_of(
        "usd dollar dollars price amount rent cost income payment budget value tax taxes insurance "
        "balance salary fee fees "
        "deposit revenue spend money loan cash debt fare tip subtotal limit"
    )
)
_PERCENT = frozenset(each_of("percent percentage pct rate ratio apr share vacancy ltv discount probability"))
_LOOKS_UP = frozenset(each_of("id ids uuid"))
_CONSENT = re.compile(r"consent|agree|permission|authori[sz]|opt[ _-]?in|may contact|allow", re.IGNORECASE)
_DEPTH_MAX = 6


@dataclass(frozen=True, eq=False)
class Param:
    """One parameter of one tool; a field of a nested object has a ``path`` of two names. Compared by identity."""

    tool: str
    path: tuple[str, ...]
    kind: Kind
    required: bool
    schema: Mapping[str, Any]
    description: str
    unit: str | None = None
    period: str | None = None
    options: tuple[Any, ...] = ()
    cues: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def name(self) -> str:
        return ".".join(self.path)

    @cached_property
    def words(self) -> list[str]:
        return name_words(self.path[-1])

    @property
    def consent(self) -> bool:
        return self.kind == "boolean" and _CONSENT.search(f"{self.name} {self.description}") is not None

    @property
    def personal(self) -> bool:
        return self.kind in {"email", "phone", "name"}

    @property
    def internal(self) -> bool:
        """Whether only a system would know it, as an id that another tool's result carries."""
        return self.kind == "code" and self.words[-1:] != [] and self.words[-1] in _LOOKS_UP

    def fault(self, value: Any) -> str | None:
        """Return why ``value`` does not hold to the schema, worded to follow the parameter's label."""
        return _fault(self.schema, value)


@dataclass(frozen=True)
class Signature:
    """What a tool takes."""

    params: tuple[Param, ...]

    def get(self, name: str) -> Param | None:
        return next((p for p in self.params if p.name == name), None)

    @property
    def required(self) -> tuple[Param, ...]:
        return tuple(p for p in self.params if p.required)


def signature(tool: str, schema: Any) -> Signature:
    """Return the parameters that the JSON Schema object ``schema`` declares; nested objects one level deep."""
    root = schema if isinstance(schema, Mapping) else {}
    return Signature(tuple(_params(tool, root, root, (), 0)))


def _params(
    tool: str, root: Mapping[str, Any], schema: Mapping[str, Any], path: tuple[str, ...], depth: int, *, needed: bool = True
) -> list[Param]:  # fmt: skip
    properties = schema.get("properties")
    required = schema.get("required")
    names = {n for n in required if isinstance(n, str)} if isinstance(required, list) else set()
    found = list[Param]()
    for name, raw in properties.items() if isinstance(properties, Mapping) else ():
        if not isinstance(name, str) or not name or not isinstance(raw, Mapping):
            continue
        inner = _resolved(root, raw)
        must = needed and name in names and "default" not in inner
        if isinstance(inner.get("properties"), Mapping) and depth == 0:
            found += _params(tool, root, inner, (*path, name), depth + 1, needed=must)
        else:
            found.append(_param(tool, (*path, name), inner, required=must))
    return found[:80]


def _resolved(root: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return ``schema`` with local references followed and a nullable union reduced to its one real branch."""
    for _ in range(_DEPTH_MAX):
        if isinstance(schema.get("$ref"), str):
            schema = {**_pointed(root, schema["$ref"]), **{k: v for k, v in schema.items() if k != "$ref"}}
            continue
        branches = next(
            (schema[k] for k in ("anyOf", "oneOf", "allOf") if isinstance(schema.get(k), list)), None
        )
        if branches is None:
            return schema
        real = [b for b in branches if isinstance(b, Mapping) and b.get("type") != "null"]
        rest = {k: v for k, v in schema.items() if k not in {"anyOf", "oneOf", "allOf"}}
        schema = {**(real[0] if real else {}), **rest}
    return schema


def _pointed(root: Mapping[str, Any], reference: str) -> Mapping[str, Any]:
    place: Any = root
    for step in reference.removeprefix("#/").split("/"):
        place = place.get(step) if isinstance(place, Mapping) else None
    return place if isinstance(place, Mapping) else {}


def _type(schema: Mapping[str, Any]) -> str:
    declared = schema.get("type")
    if isinstance(declared, list):
        declared = next((t for t in declared if isinstance(t, str) and t != "null"), "string")
    if isinstance(declared, str):
        return declared
    return "string"


def _options(schema: Mapping[str, Any]) -> tuple[Any, ...]:
    listed = schema.get("enum")
    if isinstance(listed, list):
        return tuple(v for v in listed if isinstance(v, str | int | float) and not isinstance(v, bool))
    constant = schema.get("const")
    return (constant,) if isinstance(constant, str) else ()


def _param(tool: str, path: tuple[str, ...], schema: Mapping[str, Any], *, required: bool) -> Param:
    description = " ".join(str(schema[k]) for k in ("description",) if isinstance(schema.get(k), str))
    if not description and isinstance(schema.get("title"), str):
        description = str(schema["title"])
    words = name_words(path[-1])
    kind, options = _kind(schema, words, description)
    unit, period = _unit(schema, kind, words, description)
    cues = _cues(path, words, description, options)
    if period is not None:  # the period is judged by itself; as a cue it would outbid what the number is for
        cues = {word: weight for word, weight in cues.items() if word not in _PERIOD_CUES}
    return Param(tool, path, kind, required, schema, description, unit, period, options, cues)


def _kind(schema: Mapping[str, Any], words: list[str], description: str) -> tuple[Kind, tuple[Any, ...]]:
    declared, options = _type(schema), _options(schema)
    if declared == "array":
        inner = schema.get("items")
        return "list", _options(inner) if isinstance(inner, Mapping) else ()
    if declared == "boolean":
        return "boolean", ()
    if options:
        return "enum", options
    if declared in {"number", "integer"}:
        return "number", ()
    return _string_kind(schema, words, description.lower()), ()


def _string_kind(schema: Mapping[str, Any], words: list[str], description: str) -> Kind:
    named, form = set(words), schema.get("format")
    by_format: dict[Any, Kind] = {
        "email": "email",
        "date": "date",
        "time": "time",
        "date-time": "instant",
        "phone": "phone",
    }
    by_format["idn-email"] = "email"
    if isinstance(form, str) and form in by_format:
        return by_format[form]
    if named & {"email", "mail"} or "e mail" in " ".join(words):
        return "email"
    if named & {"phone", "telephone", "mobile", "cell"}:
        return "phone"
    if named & {"name", "surname"} and named <= _PERSON:
        return "name"
    moment = _moment_kind(named, description)
    if moment is not None:
        return moment
    if named & _TEXT and not named & _LOOKS_UP:
        return "text"
    if named & _CODE or (words and words[-1] == "account"):
        return "code"
    pattern = schema.get("pattern")
    if isinstance(pattern, str) and (r"\d" in pattern or "0-9" in pattern):
        return "code"
    return "place" if named & _PLACE else "plain"


def _moment_kind(named: set[str], description: str) -> Kind | None:
    if named & {"zone", "timezone", "duration", "minutes"}:
        return None
    iso_instant = (
        re.search(r"iso.?8601|date.?time|yyyy-mm-ddt|date and time|day and time", description) is not None
    )
    if named & {"datetime", "when", "instant", "timestamp"} or "starts" in named or named == {"start"}:
        return "instant"
    if named & {"date", "day", "birthday", "dob", "birthdate"}:
        return (
            "instant"
            if iso_instant and "yyyy-mm-dd" not in description.replace("yyyy-mm-ddt", "")
            else "date"
        )
    if named & {"time", "hour"}:
        return "instant" if iso_instant else "time"
    if named & {"slot"}:
        return "instant"
    return None


def _unit(
    schema: Mapping[str, Any], kind: Kind, words: list[str], description: str
) -> tuple[str | None, str | None]:
    """Return the unit a number is counted in, and the period it is counted by."""
    if kind != "number":
        return None, None
    named, low = set(words), description.lower()
    period = next(
        (p for p, hints in _PERIOD_HINTS.items() if named & hints or any(h in low.split() for h in hints)),
        None,
    )
    top = schema.get("maximum", schema.get("exclusiveMaximum"))
    fraction = isinstance(top, int | float) and top <= 1
    said = re.search(r"as a (?:decimal|fraction)|between 0 and 1|\b0\.\d+\b", low) is not None
    if named & _PERCENT or re.search(r"percent|%", low):
        return "fraction" if fraction or (
            said and "percent" not in named and "pct" not in named
        ) else "percent", period
    for unit in ("year", "month", "week", "day", "night", "hour", "minute"):
        if named & {unit, f"{unit}s"} and not named & _MONEY:
            return unit, None
    money = named & _MONEY or "dollar" in low or "usd" in low or "$" in low
    return ("usd", period) if money else (None, None)


_PERIOD_HINTS = {
    "month": frozenset({"monthly", "month"}),
    "year": frozenset({"annual", "yearly", "annually"}),
    "week": frozenset({"weekly"}),
}
_PERIOD_CUES = frozenset(canon(w) for hints in _PERIOD_HINTS.values() for w in (*hints, "year", "week"))
_WEAK_CUES = frozenset(
    canon(w) for w in each_of("amount number total value usd percent pct id date time count")
)


def _cues(
    path: tuple[str, ...], words: list[str], description: str, options: tuple[Any, ...]
) -> dict[str, float]:
    """Return the canonical words by which people speak of a parameter, with their weights."""
    cues = dict.fromkeys(content(description.replace("_", " ")), 1.0)
    cues |= {canon(w): 2.0 for outer in path[:-1] for w in name_words(outer)}
    cues |= {
        canon(w): (1.2 if canon(w) in _WEAK_CUES else 3.0)
        for w in words
        if w not in STOP or w in {"down", "new"}
    }
    for option in options:
        cues |= {w: max(1.0, cues.get(w, 0)) for w in content(str(option).replace("_", " "))}
    return cues


def _fault(schema: Mapping[str, Any], value: Any) -> str | None:
    if isinstance(value, list):
        return "must not be empty" if not value and schema.get("minItems") else None
    if isinstance(value, bool):
        listed = [schema[k] for k in ("const",) if k in schema]
        return "must be agreed to" if listed and listed[0] is not value else None
    if isinstance(value, int | float):
        return _number_fault(schema, value)
    return _text_fault(schema, value) if isinstance(value, str) else None


_BOUNDS: tuple[tuple[str, Callable[[float, float], bool], str], ...] = (
    ("minimum", operator.ge, "must be at least"),
    ("maximum", operator.le, "must be at most"),
    ("exclusiveMinimum", operator.gt, "must be more than"),
    ("exclusiveMaximum", operator.lt, "must be less than"),
)


def _number_fault(schema: Mapping[str, Any], value: float) -> str | None:
    if _type(schema) == "integer" and value != int(value):
        return "must be a whole number"
    for key, holds, words in _BOUNDS:
        limit = schema.get(key)
        if isinstance(limit, int | float) and not isinstance(limit, bool) and not holds(value, limit):
            return f"{words} {limit:,}"
    step = schema.get("multipleOf")
    if isinstance(step, int | float) and step > 0 and abs(value / step - round(value / step)) > 1e-9:
        return f"must be a multiple of {step:,}"
    return None


def _text_fault(schema: Mapping[str, Any], value: str) -> str | None:
    shortest, longest, pattern = (schema.get(k) for k in ("minLength", "maxLength", "pattern"))
    if isinstance(shortest, int) and len(value) < shortest:
        return f"must have at least {shortest} characters"
    if isinstance(longest, int) and len(value) > longest:
        return f"must have at most {longest} characters"
    if isinstance(pattern, str):
        try:
            return None if re.search(pattern, value[:256]) else "does not look right"
        except re.error:
            return None
    return None
