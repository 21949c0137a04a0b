"""What an HTTP status and its Retry-After mean for a delivery. PURE."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from parley_notify.channels.outcome import RETRY_AFTER_MAX_S, Delivered, Outcome, Refused, TryAgain

TRANSIENT_STATUSES = frozenset({408, 425, 429})


def judge_status(status: int, retry_after: str | None, now: datetime) -> Outcome:
    """Return what a status means: 2xx took it; 408, 425, 429 and 5xx may yet; everything else never will."""
    if 200 <= status < 300:
        return Delivered()
    if status in TRANSIENT_STATUSES or status >= 500:
        return TryAgain(f"http_{status}", retry_after_s(retry_after, now))
    return Refused(f"http_{status}")


def retry_after_s(value: str | None, now: datetime) -> float | None:
    """Return the seconds that a Retry-After header asks for, as a number or a date; null when it says nothing."""
    if not value:
        return None
    if value.strip().isascii() and value.strip().isdigit():
        return min(float(value[:20]), RETRY_AFTER_MAX_S)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return min(max(0.0, (at - now).total_seconds()), RETRY_AFTER_MAX_S)
