"""Reads what a tool answered: what to say, what went wrong, what to call next, what the caller may choose from.

It knows no tool; it goes by field names that tools commonly use and by the shapes of values.

Law: any text at all is read; what is not JSON is spoken as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .speech import labelled, spoken, spoken_moment
from .words import each_of, join, name_words

_SAYS = ("say", "speak", "speech", "message", "summary", "answer", "verdict", "reply", "text")
_HIDDEN = frozenset(
    each_of("id ok success next url link version score_version trace code created_at updated_at type say")
)
_BAD_STATUS = frozenset(
    each_of("error refused failed rejected denied invalid not_found unavailable unknown_outcome expired")
)
_DULL_STATUS = frozenset({"ok", "success", "saved", "done", "created", "completed", "accepted", "updated"})
_LABELS = ("label", "name", "title", "product", "description", "time", "when", "summary", "text")
_BODIES = ("text", "snippet", "content", "answer", "body", "excerpt", "passage", "summary", "description")
_SPOKEN_MAX = 420
_FIELDS_MAX = 4


@dataclass(frozen=True)
class Offer:
    """One thing that the caller may choose, and the fields it would fill."""

    label: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Outcome:
    """A tool's answer, read."""

    say: str
    failed: bool = False
    missing: tuple[str, ...] = ()
    next_tools: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    first: tuple[str, Mapping[str, Any]] | None = None
    """Of a refusal: the tool that must succeed before this one, and what is known for it."""
    suggested: str | None = None
    offers: tuple[Offer, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)


def outcome(output: str, known_tools: Collection[str]) -> Outcome:
    """Return what the JSON text ``output`` says."""
    try:
        data = json.loads(output)
    except (ValueError, RecursionError):
        return Outcome(output.strip()[:_SPOKEN_MAX] or "That is done.")
    if isinstance(data, list):
        data = {"results": data}
    if not isinstance(data, dict):
        return Outcome(f"It is {spoken(data)}." if not isinstance(data, str) else _sentence(data))
    if isinstance(data.get("result"), dict):
        data = {**{k: v for k, v in data.items() if k != "result"}, **data["result"]}
    error = data.get("error")
    failed = bool(error) or str(data.get("status", "")).lower() in _BAD_STATUS or data.get("ok") is False
    source = error if isinstance(error, dict) else data
    next_tools, suggested = _next(data, known_tools)
    return Outcome(
        _failure(data, error) if failed else _success(data),
        failed,
        _missing(data, source),
        () if failed else next_tools,
        _first(error, known_tools) if failed else None,
        suggested,
        _offers(data),
        {k: v for k, v in data.items() if isinstance(k, str)},
    )


def _text_of(data: Mapping[str, Any], keys: Collection[str]) -> str:
    return next((data[k].strip() for k in keys if isinstance(data.get(k), str) and data[k].strip()), "")


def _sentence(text: str) -> str:
    text = re.sub(r"[*_#`]+", "", text).strip()
    return text if text.endswith((".", "?", "!")) or not text else f"{text}."


def _failure(data: Mapping[str, Any], error: Any) -> str:
    inner = error if isinstance(error, dict) else {}
    said = (
        _text_of(data, ("say", "speak"))
        or _text_of(inner, (*_SAYS, "detail", "reason"))
        or _text_of(data, (*_SAYS, "reason"))
    )
    if said:
        return _sentence(said)
    if isinstance(error, str) and " " in error:
        return f"I'm sorry, that did not work: {_sentence(error)}"
    return "I'm sorry, that did not work."


def _success(data: Mapping[str, Any]) -> str:
    said = _text_of(data, _SAYS)
    if said:
        return said
    for value in data.values():
        if isinstance(value, list) and value:
            return _told_list(value)
    lists_empty = [k for k, v in data.items() if v == []]
    if lists_empty:
        return f"I'm sorry, I found no {' '.join(name_words(str(lists_empty[0]))) or 'results'}."
    facts = [(k, v) for k, v in data.items() if _speakable(k, v)][:_FIELDS_MAX]
    if not facts:
        return "That is done."
    return _capital(join([f"the {labelled(k)} {_verb(k, v)} {spoken(v, k)}" for k, v in facts])) + "."


def _verb(key: str, value: Any) -> str:
    """Return "are" for a count of several things, as in "the visits are 2"."""
    last = labelled(key).split()[-1:] or [""]
    counted = isinstance(value, int) and not isinstance(value, bool) and value != 1
    return "are" if counted and last[0].endswith("s") and not last[0].endswith(("ss", "us", "is")) else "is"


def _speakable(key: Any, value: Any) -> bool:
    if not isinstance(key, str) or key in _HIDDEN or key.endswith(("_id", "_url", "_token")):
        return False
    if key == "status" and str(value) in _DULL_STATUS:
        return False
    return isinstance(value, str | int | float) and value != "" and len(str(value)) <= 160


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _told_list(items: list[Any]) -> str:
    first = items[0]
    if isinstance(first, dict) and not _when(first):
        body = _text_of(first, _BODIES)
        if len(body) > 40:
            return _first_sentences(body)
    labels = [_label(item) for item in items[:3]]
    if len(items) == 1:
        return f"I have found one: {labels[0]}."
    more = "" if len(items) <= 3 else f" The first of {len(items)} are"
    head = f"I found {len(items)}." if more else "I found"
    return f"{head}{more} {join(labels)}.".replace("..", ".")


def _first_sentences(text: str) -> str:
    text = re.sub(r"\s+", " ", re.sub(r"[*_#`>]+", "", text)).strip()
    said = ""
    for sentence in re.split(r"(?<=[.!?])\s+", text)[:3]:
        if said and len(said) + len(sentence) > 300:
            break
        said = f"{said} {sentence}".strip()
    return _sentence(said[:_SPOKEN_MAX])


def _when(item: Mapping[str, Any]) -> datetime | None:
    for value in item.values():
        if isinstance(value, str):
            moment = _moment(value)
            if moment is not None:
                return moment
    return None


def _moment(text: str) -> datetime | None:
    if not re.match(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d", text):
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _label(item: Any) -> str:
    if isinstance(item, dict):
        label = _text_of(item, _LABELS)
        if label and _moment(label) is None:
            price = next(
                (
                    f" at {spoken(v, k)}"
                    for k, v in item.items()
                    if "price" in str(k) and isinstance(v, int | float)
                ),
                "",
            )
            return label.rstrip(".") + price
        moment = _when(item)
        parts = [spoken(v, str(k)) for k, v in item.items() if _speakable(k, v)][:3]
        return spoken_moment(moment) if moment else " ".join(parts) or "one"
    if isinstance(item, str):
        moment = _moment(item)
        return spoken_moment(moment) if moment else item[:120]
    return spoken(item)


def _offers(data: Mapping[str, Any]) -> tuple[Offer, ...]:
    for key, value in data.items():
        if (
            not isinstance(value, list)
            or not value
            or key in {"missing", "missing_arguments", "sources", "errors"}
        ):
            continue
        singular = str(key).removesuffix("s")
        offers = list[Offer]()
        for item in value[:20]:
            if isinstance(item, dict):
                offers.append(Offer(_label(item), {str(k): v for k, v in item.items()}))
            elif isinstance(item, str | int | float):
                offers.append(Offer(_label(item), {singular: item}))
        return tuple(offers)
    return ()


def _missing(data: Mapping[str, Any], source: Mapping[str, Any]) -> tuple[str, ...]:
    for place in (source, data):
        for key in ("missing", "missing_arguments", "missing_fields", "required"):
            listed = place.get(key)
            if isinstance(listed, list):
                return tuple(n for n in listed if isinstance(n, str))[:20]
        for key in ("argument", "field", "parameter", "param"):
            if isinstance(place.get(key), str):
                return (str(place[key]),)
    return ()


def _first(error: Any, tools: Collection[str]) -> tuple[str, Mapping[str, Any]] | None:
    """Return what an error names as its next step, when it names a tool that there is."""
    step = error.get("next") if isinstance(error, dict) else None
    steps, _ = _next({"next": step}, tools) if isinstance(step, dict) else ((), None)
    return steps[0] if steps else None


def _next(
    data: Mapping[str, Any], tools: Collection[str]
) -> tuple[tuple[tuple[str, Mapping[str, Any]], ...], str | None]:
    """Return the tools that the result asks to be called next, and one it only suggests to offer."""
    steps = next(
        (
            data[k]
            for k in ("next", "next_step", "next_tool", "then", "follow_up", "next_steps")
            if data.get(k)
        ),
        None,
    )
    wanted = list[tuple[str, Mapping[str, Any]]]()
    suggested: str | None = None
    for step in steps[:5] if isinstance(steps, list) else [steps]:
        if isinstance(step, dict):
            name = step.get("tool") or step.get("name") or step.get("call") or step.get("function")
            given = step.get("arguments") or step.get("args") or step.get("parameters")
            if isinstance(name, str) and name in tools:
                wanted.append((name, given if isinstance(given, dict) else {}))
        elif isinstance(step, str):
            named = [t for t in tools if re.search(rf"(?<![\w]){re.escape(t)}(?![\w])", step)]
            if re.search(r"\b(?:offer|ask|suggest|if the|if they|may)\b", step, re.IGNORECASE):
                suggested = named[0] if named else None
            else:
                wanted += [(t, {}) for t in named]
    return tuple(wanted), suggested
