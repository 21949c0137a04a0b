"""Tells whether a change of a contract would break someone: pure, from two JSON Schemas to sentences.

Consumers read what we write, and we read again what we wrote long ago; so a field may neither take less nor
hold more than was promised. What may come is an optional field, and a further word in a list of words, which
consumers are told to expect.

Law: nothing of version 1 changes its meaning; a breaking change is a new type with the next version.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]
ANYTHING = "anything"
_AT_LEAST = ("minimum", "exclusiveMinimum", "minLength", "minItems")
_AT_MOST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")


def breaking_changes(promised: Schema, today: Schema) -> list[str]:
    """Return what in ``today`` breaks ``promised``, each with its field; empty when nothing does."""
    return [*_moved(promised, today), *_compare("value", promised, today, promised, today)]


def breaking_protocol_changes(promised: Schema, today: Schema) -> list[str]:
    """Do the same for the client protocol: each direction keeps its messages, each message its fields."""
    found = list(_moved(promised, today))
    before, after = promised["$defs"], today["$defs"]
    for name, part in before.items():
        if name not in after:
            found.append(f"{name}: no longer exists")
        elif "anyOf" in part:
            gone = {ref["$ref"] for ref in part["anyOf"]} - {ref["$ref"] for ref in after[name]["anyOf"]}
            found += [f"{name}: no longer carries {ref.rpartition('/')[2]}" for ref in sorted(gone)]
        else:
            found += _compare(name, part, after[name], promised, today)
    return found


def _moved(promised: Schema, today: Schema) -> Iterator[str]:
    """Compare how the record travels: topic, key, partitions."""
    for name, was in promised["x-parley"].items():
        now = today["x-parley"].get(name)
        if now != was:
            yield f"{name}: was {was!r}, is {now!r}"


def _compare(where: str, old: Schema, new: Schema, old_root: Schema, new_root: Schema) -> Iterator[str]:
    before, after = _kinds(old, old_root), _kinds(new, new_root)
    yield from (f"{where}: can no longer be {kind}" for kind in before if kind not in after)
    yield from (f"{where}: may now be {kind}" for kind in after if kind not in before)
    for kind in before.keys() & after.keys():
        was, now = before[kind], after[kind]
        yield from _tightened(where, was, now)
        if kind == "object":
            yield from _compare_fields(where, was, now, old_root, new_root)
            if isinstance(was.get("additionalProperties"), dict):
                values = (was["additionalProperties"], now.get("additionalProperties", {}))
                yield from _compare(f"{where}.*", *values, old_root, new_root)
        if kind == "array":
            yield from _compare(f"{where}[]", was.get("items", {}), now.get("items", {}), old_root, new_root)


def _compare_fields(
    where: str, was: Schema, now: Schema, old_root: Schema, new_root: Schema
) -> Iterator[str]:
    before, after = was.get("properties", {}), now.get("properties", {})
    needed_before, needed_after = set(was.get("required", ())), set(now.get("required", ()))
    for name in before:
        if name not in after:
            yield f"{where}.{name}: removed"
        else:
            yield from _compare(f"{where}.{name}", before[name], after[name], old_root, new_root)
    yield from (f"{where}.{name}: is now required" for name in sorted(needed_after - needed_before))
    lost = (needed_before - needed_after) & after.keys()
    yield from (f"{where}.{name}: is no longer always there" for name in sorted(lost))


def _tightened(where: str, was: Schema, now: Schema) -> Iterator[str]:
    words_before, words_after = _words(was), _words(now)
    if words_after is not None:
        gone = [ANYTHING] if words_before is None else [w for w in words_before if w not in words_after]
        yield from (f"{where}: can no longer be {word!r}" for word in gone)
    for bounds, sign in ((_AT_LEAST, 1), (_AT_MOST, -1)):
        for bound in bounds:
            if bound in now and (bound not in was or sign * now[bound] > sign * was[bound]):
                yield f"{where}: {bound} is now {now[bound]}"
    for rule in ("pattern", "format"):
        if rule in now and now[rule] != was.get(rule):
            yield f"{where}: {rule} is now {now[rule]!r}"


def _words(schema: Schema) -> list[Any] | None:
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _kinds(schema: Schema, root: Schema) -> dict[str, Schema]:
    """Return what a value may be, by JSON type; references are followed, alternatives are taken apart."""
    if "$ref" in schema:
        target: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        return _kinds(target, root)
    for alternatives in ("anyOf", "oneOf"):
        if alternatives in schema:
            found: dict[str, Schema] = {}
            for part in schema[alternatives]:
                found |= _kinds(part, root)
            return found
    if "type" in schema:
        names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        return {str(name): schema for name in names}
    words = _words(schema)
    if words is not None:
        return {"string" if isinstance(words[0], str) else "number": schema}
    return {ANYTHING: schema}
