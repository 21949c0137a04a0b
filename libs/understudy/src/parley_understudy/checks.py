"""Checks a client's JSON against declared shapes and refuses it in the API's own words.

It knows types, ranges and names, not what the fields mean. Checks never change what they accept.

Law: the first fault refuses the whole event; a check either passes or raises ``Refused`` with the field's path.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from parley_understudy.wire import Refused

Check: TypeAlias = Callable[[Any, str], None]

_JSON_NAMES = {
    bool: "a boolean",
    int: "an integer",
    float: "a decimal",
    str: "a string",
    list: "an array",
    dict: "an object",
}


def text(max_chars: int | None = None) -> Check:
    """Accept a string, up to a length counted in characters."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, str):
            raise _wrong_type(value, path, "a string")
        if max_chars is not None and len(value) > max_chars:
            raise Refused(
                f"Invalid '{path}': string too long. Expected a string with maximum length {max_chars}, "
                f"but got a string with length {len(value)} instead.",
                "string_above_max_length",
                path,
            )

    return check


def pattern(expression: str, max_chars: int) -> Check:
    """Accept a string of this form."""
    form = re.compile(expression)
    fits = text(max_chars)

    def check(value: Any, path: str) -> None:
        fits(value, path)
        if not form.fullmatch(value):
            raise Refused(
                f"Invalid '{path}': string does not match pattern. Expected a string that matches the pattern "
                f"'{expression}'.",
                "invalid_value",
                path,
            )

    return check


def one_of(*allowed: str) -> Check:
    """Accept one of these strings."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, str):
            raise _wrong_type(value, path, f"one of {_listed(allowed, 'or')}")
        if value not in allowed:
            raise unsupported(value, allowed, path)

    return check


def boolean(value: Any, path: str) -> None:
    """Accept true or false."""
    if not isinstance(value, bool):
        raise _wrong_type(value, path, "a boolean")


def integer(low: int | None = None, high: int | None = None) -> Check:
    """Accept a whole number in this range."""

    def check(value: Any, path: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int):
            raise _wrong_type(value, path, "an integer")
        _in_range(value, low, high, path, "integer")

    return check


def number(low: float | None = None, high: float | None = None) -> Check:
    """Accept any number in this range."""

    def check(value: Any, path: str) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _wrong_type(value, path, "a decimal")
        _in_range(value, low, high, path, "decimal")

    return check


def anything(_value: Any, _path: str) -> None:
    """Accept any JSON value."""


def mapping(value: Any, path: str) -> None:
    """Accept any JSON object."""
    if not isinstance(value, dict):
        raise _wrong_type(value, path, "an object")


def nullable(inner: Check) -> Check:
    """Accept null, or what ``inner`` accepts."""

    def check(value: Any, path: str) -> None:
        if value is not None:
            inner(value, path)

    return check


def items(inner: Check, max_count: int = 1024) -> Check:
    """Accept an array whose elements all pass."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, list):
            raise _wrong_type(value, path, "an array")
        if len(value) > max_count:
            raise Refused(
                f"Invalid '{path}': array too long. Expected an array with maximum length {max_count}, "
                f"but got an array with length {len(value)} instead.",
                "array_above_max_length",
                path,
            )
        for at, element in enumerate(value):
            inner(element, f"{path}[{at}]")

    return check


def fields(known: Mapping[str, Check], required: Sequence[str] = ()) -> Check:
    """Accept an object with these fields only, and these of them always."""

    def check(value: Any, path: str) -> None:
        mapping(value, path)
        for name in value:
            if name not in known:
                raise Refused(
                    f"Unknown parameter: '{_join(path, name)}'.", "unknown_parameter", _join(path, name)
                )
        for name in required:
            if name not in value:
                raise missing(_join(path, name))
        for name, element in value.items():
            known[name](element, _join(path, name))

    return check


def tagged(kinds: Mapping[str, Check]) -> Check:
    """Accept an object whose ``type`` chooses its check."""

    def check(value: Any, path: str) -> None:
        mapping(value, path)
        if "type" not in value:
            raise missing(_join(path, "type"))
        one_of(*kinds)(value["type"], _join(path, "type"))
        kinds[value["type"]](value, path)

    return check


def either(plain: Check, objects: Check) -> Check:
    """Accept an object by one check and anything else by the other."""

    def check(value: Any, path: str) -> None:
        (objects if isinstance(value, dict) else plain)(value, path)

    return check


def missing(path: str) -> Refused:
    """Return the refusal for a field that must be there."""
    return Refused(f"Missing required parameter: '{path}'.", "missing_required_parameter", path)


def unsupported(value: str, allowed: Sequence[str], path: str) -> Refused:
    """Return the refusal for a string that is not one of those supported."""
    shown = value if len(value) <= 64 else value[:61] + "..."
    return Refused(
        f"Invalid value: '{shown}'. Supported values are: {_listed(allowed, 'and')}.", "invalid_value", path
    )


def _in_range(value: float, low: float | None, high: float | None, path: str, kind: str) -> None:
    if low is not None and not value >= low:
        raise Refused(
            f"Invalid '{path}': {kind} below minimum value. Expected a value >= {low}, but got {value} instead.",
            f"{kind}_below_min_value",
            path,
        )
    if high is not None and value > high:
        raise Refused(
            f"Invalid '{path}': {kind} above maximum value. Expected a value <= {high}, but got {value} instead.",
            f"{kind}_above_max_value",
            path,
        )


def _wrong_type(value: Any, path: str, wanted: str) -> Refused:
    got = "null" if value is None else _JSON_NAMES.get(type(value), "another type")
    return Refused(
        f"Invalid type for '{path}': expected {wanted}, but got {got} instead.", "invalid_type", path
    )


def _listed(names: Sequence[str], joiner: str) -> str:
    quoted = [f"'{name}'" for name in names]
    if len(quoted) < 3:
        return f" {joiner} ".join(quoted)
    return ", ".join(quoted[:-1]) + f", {joiner} {quoted[-1]}"


def _join(path: str, name: str) -> str:
    shown = name if len(name) <= 64 else name[:61] + "..."
    return f"{path}.{shown}" if path else shown
