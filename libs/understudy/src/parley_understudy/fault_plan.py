"""The grammar of fault scripts: what may be asked for, read from JSON and checked.

A script is a list of rules, or ``{"seed": 7, "rules": [...]}``. A rule says when and what::

    {"when": {"server": "response.output_audio.delta", "nth": 3}, "do": "drop"}
    {"when": {"response": 2}, "do": {"fail": {"code": "rate_limit_exceeded", "retry_after_s": 1.5}}}
    {"when": {"client": "response.create"}, "do": "collide", "times": "always", "p": 0.1}

``when`` is ``"open"``, or an object with ``server`` or ``client`` (an event type; ``*`` at the end stands for any
rest), ``response`` (the nth of the session; with ``server`` too, an event within it) or ``at_ms`` (since the session
opened, on its own clock). ``nth`` is the first match that counts; ``times`` how often the rule fires from then on (1,
or ``"always"``), each time with probability ``p``. Event types are those of the GA API, whatever the client speaks.

It decides nothing at run time: faults.py says when a rule fires, line.py does what it asks for.

Law: a wrong script is refused whole, with the place in it and what was expected there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from parley_common.errors import Permanent

RULES_MAX = 200
_TYPE_CHARS_MAX = 100

Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=_TYPE_CHARS_MAX)]
Count: TypeAlias = Annotated[int, Meta(ge=1, le=100_000)]
Ms: TypeAlias = Annotated[int, Meta(ge=0, le=86_400_000)]


class FaultsInvalid(Permanent):
    """A fault script that cannot be read; says where and what was expected."""

    code = "invalid_faults"


class Closing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A close frame."""

    code: Annotated[int, Meta(ge=1000, le=4999)]
    reason: Annotated[str, Meta(max_length=120)] = ""


class Trouble(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An ``error`` event, or the close that refuses a session; what is left out follows from the code."""

    code: str | None = None
    message: str | None = None
    type: str | None = None
    param: str | None = None
    close: Annotated[int, Meta(ge=3000, le=4999)] | None = None


class Failure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A failed response; what is left out follows from the code."""

    code: str | None = None
    message: str | None = None
    type: str | None = None
    retry_after_s: Annotated[float, Meta(ge=0, le=86_400)] | None = None


class ScriptedCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A call of a tool that the model is to make."""

    name: Name
    arguments: dict[str, Any] = {}


class Transcript(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What becomes of a turn's transcription: ``late_ms``, or ``failed`` with this code."""

    late_ms: Ms | None = None
    failed: str | None = None


ACTS: dict[str, Any] = {
    "drop": Literal[True],
    "close": Closing | Annotated[int, Meta(ge=1000, le=4999)],
    "refuse": Trouble | str,
    "silence": Literal[True],
    "expire": Literal[True],
    # A pair as a list: msgspec 0.22 crashes the process on a bounded number or a fixed tuple.
    "delay_ms": Ms | Annotated[list[Ms], Meta(min_length=2, max_length=2)],
    "duplicate": Literal[True] | Annotated[int, Meta(ge=1, le=1000)],
    "swap": Literal[True],
    "lose": Literal[True],
    "malformed": Literal[True],
    "odd_audio": Literal[True],
    "error": Trouble | str,
    "send": dict[str, Any],
    "transcript": Transcript | Literal["missing", "failed", "after_next"],
    "fail": Failure | str,
    "incomplete": Literal["content_filter", "max_output_tokens"],
    "cancel": Literal["turn_detected", "client_cancelled"],
    "late_deltas": Annotated[int, Meta(ge=0, le=10_000)],
    "collide": Literal[True],
    "say": str,
    "call": ScriptedCall | list[ScriptedCall],
    "messages": Annotated[int, Meta(ge=1, le=50)],
}
"""What may be done, and what each takes."""

_ON_SERVER_EVENTS = frozenset({"delay_ms", "duplicate", "swap", "malformed", "odd_audio"})
_ON_RESPONSES = frozenset({"say", "call", "messages", "late_deltas"})
_ON_CREATE = "response.create"
_ON_COMMIT = "input_audio_buffer.committed"


@dataclass(frozen=True)
class Act:
    """One thing to do, with its checked value."""

    name: str
    value: Any


@dataclass(frozen=True)
class When:
    """What a rule waits for: exactly one of opening, a moment, and an event or a response."""

    opening: bool = False
    client: str | None = None
    server: str | None = None
    response: int | None = None
    at_ms: int | None = None
    nth: int = 1


@dataclass(frozen=True)
class Rule:
    """When to do what. ``times`` is None for always."""

    when: When
    acts: tuple[Act, ...]
    times: int | None
    probability: float


@dataclass(frozen=True)
class Plan:
    """A fault script."""

    rules: tuple[Rule, ...]
    seed: int = 0


class _When(msgspec.Struct, forbid_unknown_fields=True):
    client: Name | None = None
    server: Name | None = None
    response: Count | None = None
    at_ms: Ms | None = None
    nth: Count = 1


class _Rule(msgspec.Struct, forbid_unknown_fields=True):
    do: Any
    when: _When | Literal["open"]
    times: Count | Literal["always"] = 1
    p: Annotated[float, Meta(gt=0, le=1)] = 1.0


class _Plan(msgspec.Struct, forbid_unknown_fields=True):
    rules: Annotated[list[_Rule], Meta(max_length=RULES_MAX)]
    seed: int = 0


def read_plan(text: str | bytes) -> Plan:
    """Return the script that a JSON text holds. Raises FaultsInvalid."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as wrong:
        raise FaultsInvalid(f"faults: not JSON: {wrong}") from wrong
    return plan_of(value)


def plan_of(value: Any) -> Plan:
    """Return the script that decoded JSON holds. Raises FaultsInvalid."""
    whole = {"rules": value} if isinstance(value, list) else value
    shape = _converted(whole, _Plan, "faults")
    return Plan(tuple(_rule(rule, f"faults[{at}]") for at, rule in enumerate(shape.rules)), shape.seed)


def _rule(rule: _Rule, place: str) -> Rule:
    when = _when(rule.when, f"{place}.when")
    given = rule.do if isinstance(rule.do, list) else [rule.do]
    if not given:
        raise FaultsInvalid(f"{place}.do: expected at least one thing to do")
    acts = tuple(_act(each, when, f"{place}.do") for each in given)
    return Rule(when, acts, None if rule.times == "always" else rule.times, rule.p)


def _when(given: _When | Literal["open"], place: str) -> When:
    if not isinstance(given, _When):
        return When(opening=True)
    kinds = [given.client, given.at_ms, given.server if given.response is None else given.response]
    if sum(kind is not None for kind in kinds) != 1 or (
        given.server is not None and (given.client is not None or given.at_ms is not None)
    ):
        raise FaultsInvalid(
            f'{place}: expected "open", or one of client, server, response (with server or without) and at_ms'
        )
    return When(
        client=given.client, server=given.server, response=given.response, at_ms=given.at_ms, nth=given.nth
    )


def _act(given: Any, when: When, place: str) -> Act:
    if isinstance(given, str):
        given = {given: True}
    if not isinstance(given, dict) or len(given) != 1:
        raise FaultsInvalid(
            f"{place}: expected a name, or an object with one name; names are {_listed(ACTS)}"
        )
    ((name, value),) = given.items()
    if name not in ACTS:
        raise FaultsInvalid(f"{place}: {str(name)[:64]!r} is not known; names are {_listed(ACTS)}")
    read = _converted(value, ACTS[name], f"{place}.{name}")
    _check_place(name, when, f"{place}.{name}")
    return Act(name, _READ.get(name, lambda each: each)(read))


def _check_place(name: str, when: When, place: str) -> None:
    """Refuse what cannot be done at such a moment."""
    if name == "refuse" and not when.opening:
        raise FaultsInvalid(f'{place}: a session is refused when it opens: "when": "open"')
    if name in _ON_SERVER_EVENTS and when.server is None and when.response is None:
        raise FaultsInvalid(f"{place}: needs a server event or a response to be done to")
    if name == "lose" and (when.opening or when.at_ms is not None):
        raise FaultsInvalid(f"{place}: needs an event to lose")
    if name in _ON_RESPONSES and when.response is None:
        raise FaultsInvalid(f'{place}: needs a response: "when": {{"response": n}}')
    if name in _ON_RESPONSES - {"late_deltas"} and when.server is not None:
        raise FaultsInvalid(f"{place}: is settled before the response begins: leave server out")
    if name == "collide" and when.client != _ON_CREATE:
        raise FaultsInvalid(
            f'{place}: collides with a client\'s create: "when": {{"client": "{_ON_CREATE}"}}'
        )
    if name == "transcript" and when.server != _ON_COMMIT:
        raise FaultsInvalid(
            f'{place}: is chosen as a turn is committed: "when": {{"server": "{_ON_COMMIT}"}}'
        )


def _closing(value: Any) -> Closing:
    return Closing(value) if isinstance(value, int) else value


def _trouble(value: Any) -> Trouble:
    return Trouble(code=value) if isinstance(value, str) else value


def _failure(value: Any) -> Failure:
    return Failure(code=value) if isinstance(value, str) else value


def _range(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (min(value), max(value))


def _copies(value: Any) -> int:
    return int(value)


def _calls(value: Any) -> list[ScriptedCall]:
    return [value] if isinstance(value, ScriptedCall) else value


_READ: dict[str, Callable[[Any], Any]] = {
    "close": _closing,
    "refuse": _trouble,
    "error": _trouble,
    "fail": _failure,
    "delay_ms": _range,
    "duplicate": _copies,
    "call": _calls,
}


def _converted(value: Any, shape: Any, place: str) -> Any:
    try:
        return msgspec.convert(value, shape)
    except (msgspec.ValidationError, RecursionError) as wrong:
        said, _, path = str(wrong).partition(" - at `$")
        inner = path.rstrip("`").removeprefix(".rules") if place == "faults" else path.rstrip("`")
        raise FaultsInvalid(f"{place}{inner}: {said}") from wrong


def _listed(names: dict[str, Any]) -> str:
    return ", ".join(names)
