"""Decides what an attempt of a tool call means: run it, answer it, wait, or refuse it. No I/O.

Law: an effect in SQL never happens twice; an external one that cannot be repeated safely is never repeated.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Held:
    """What the table knows of a call."""

    is_done: bool
    lease_until: datetime
    run: int
    result: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Run:
    """Run it; ``number`` tells this run from those before."""

    number: int


@dataclass(frozen=True, slots=True)
class Answer:
    """It is finished: answer from its stored result."""

    result: dict[str, Any]


@dataclass(frozen=True, slots=True)
class StillRunning:
    """Its run goes on and will answer at the new address; look again at ``look_again_at`` unless it runs here."""

    look_again_at: datetime | None


@dataclass(frozen=True, slots=True)
class Stale:
    """A later owner of the session has spoken: this one is refused."""


@dataclass(frozen=True, slots=True)
class OutcomeUnknown:
    """Its worker died in mid-run and the effect may or may not have happened: never again."""


Claim = Run | Answer | StillRunning | Stale | OutcomeUnknown


def judge(held: Held | None, *, now: datetime, may_rerun: bool, runs_here: bool) -> Claim:
    """Return what to do with an attempt whose fence is not stale.

    Args:
        held: null when this is the call's first attempt to arrive.
        may_rerun: whether doing it again after a worker died is one effect (reads, SQL, keyed targets).
        runs_here: whether this very process is running it now: then no lease can have run out.
    """
    if held is None:
        return Run(1)
    if held.is_done:
        return Answer(held.result or {})
    if runs_here:
        return StillRunning(None)
    if now < held.lease_until:
        return StillRunning(held.lease_until)
    return Run(held.run + 1) if may_rerun else OutcomeUnknown()
