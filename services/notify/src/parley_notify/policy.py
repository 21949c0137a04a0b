"""Decides what an attempt's outcome means for its delivery: finished, or when to try again. PURE.

Does not send, store or look at a clock.

Law: only a destination's plain refusal, or the end of the time to try, makes a delivery fail.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from parley_notify.channels.outcome import Delivered, Outcome, Refused, TryAgain

DOUBLINGS_MAX = 30
"""2^30 times any first wait is past every give-up time; more would only overflow."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to wait between attempts, and when to stop."""

    first_s: float
    wait_max_s: float
    give_up_s: float
    """Counted from when the fact was taken in."""


@dataclass(frozen=True, slots=True)
class Finish:
    """The delivery is over. ``cause`` is null when it was delivered."""

    state: Literal["delivered", "failed"]
    cause: str | None


@dataclass(frozen=True, slots=True)
class Retry:
    """The delivery is tried again, not before ``at``."""

    at: datetime
    cause: str


Verdict = Finish | Retry


def judge(
    outcome: Outcome,
    *,
    attempts: int,
    since: datetime,
    now: datetime,
    policy: RetryPolicy,
    jitter: float,
) -> Verdict:
    """Return what becomes of a delivery after its ``attempts``-th attempt.

    The last attempt is made when the time to try ends, never later and not skipped.

    Args:
        since: when trying began: when it was planned, or an operator began it anew.
        jitter: 0 to 1; spreads waits between half and all of their length.
    """
    match outcome:
        case Delivered():
            return Finish("delivered", None)
        case Refused(cause):
            return Finish("failed", cause)
        case TryAgain(cause, retry_after_s):
            give_up_at = since + timedelta(seconds=policy.give_up_s)
            if now >= give_up_at:
                return Finish("failed", f"gave_up:{cause}")
            wait_s = max(backoff_s(policy, attempts, jitter), retry_after_s or 0.0)
            return Retry(min(now + timedelta(seconds=wait_s), give_up_at), cause)


def backoff_s(policy: RetryPolicy, attempts: int, jitter: float) -> float:
    """Return the wait after the ``attempts``-th attempt: doubling from ``first_s`` up to ``wait_max_s``."""
    full_s = min(policy.wait_max_s, policy.first_s * 2.0 ** min(attempts - 1, DOUBLINGS_MAX))
    return full_s * (0.5 + jitter / 2)
