"""What a client asks of the understudy itself, in the query of its URL: a faster clock, an earlier end, faults.

The API knows none of these names and ignores what it does not know; so a URL with them works there too.

Law: pure; a condition that cannot be met refuses the session with a message that names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from parley_common.errors import Permanent
from parley_understudy.fault_plan import FaultsInvalid, Plan, read_plan

TIME_SCALE_MAX = 10_000.0


class ConditionsInvalid(Permanent):
    """A query that cannot be followed."""

    code = "invalid_query"


@dataclass(frozen=True)
class Conditions:
    """What one connection asks for; None leaves it to the settings.

    ``time_scale`` is how many times faster than the machine's the session's clock runs; ``expiry_s`` and ``pace`` are
    in that clock's time.
    """

    azure: bool = False
    beta: bool = False
    time_scale: float | None = None
    expiry_s: float | None = None
    pace: float | None = None
    seed: int | None = None
    plan: Plan | None = None


def read_conditions(query: Mapping[str, str]) -> Conditions:
    """Return what a query asks for. Raises ConditionsInvalid."""
    try:
        plan = read_plan(query["faults"]) if "faults" in query else None
    except FaultsInvalid as wrong:
        raise ConditionsInvalid(wrong.message, code=wrong.stable_code) from wrong
    return Conditions(
        azure=_choice(query, "host", ("openai", "azure")) == "azure",
        beta=_choice(query, "dialect", ("ga", "beta")) == "beta",
        time_scale=_number(query, "time_scale", 0.001, TIME_SCALE_MAX),
        expiry_s=_number(query, "expiry_s", 0.001, 86_400),
        pace=_number(query, "pace", 0, 10_000),
        seed=_seed(query),
        plan=plan,
    )


def _choice(query: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str | None:
    value = query.get(name)
    if value is not None and value not in allowed:
        raise ConditionsInvalid(f"{name}: expected {' or '.join(allowed)}, got {value[:40]!r}")
    return value


def _number(query: Mapping[str, str], name: str, low: float, high: float) -> float | None:
    value = query.get(name)
    if value is None:
        return None
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not low <= number <= high:
        raise ConditionsInvalid(f"{name}: expected a number from {low:g} to {high:g}, got {value[:40]!r}")
    return number


def _seed(query: Mapping[str, str]) -> int | None:
    value = query.get("seed")
    if value is None:
        return None
    if not value.removeprefix("-").isdigit() or len(value) > 18:
        raise ConditionsInvalid(f"seed: expected a whole number, got {value[:40]!r}")
    return int(value)
