"""One delivery as workers and channels see it: a fact, a destination, and how often it was tried."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Delivery:
    """A claimed delivery: a copy of its row at that moment.

    ``attempts`` counts this attempt already and is the claim's fence: only the newest claim may settle.
    """

    delivery_id: str
    fact_id: str
    fact_type: str
    fact_source: str
    fact_time: datetime
    business: str
    subject_id: str
    seq: int
    route: str
    channel: str
    destination: str
    host: str
    """The only part of the destination that may be logged."""
    template: str | None
    """Null: the one named as the fact."""
    payload: str | None
    """The fact as JSON; null once its subject was erased."""
    traceparent: str | None
    tracestate: str | None
    attempts: int
    created_at: datetime
    retried_at: datetime | None = None
    """When an operator began it anew: the time to try counts from then. Null: never."""
    booking: str | None = None
    """Times of the booking that this letter takes out of a calendar, as JSON. Null: none, or told by the fact."""
    retaken: bool = False
    """The attempt before this one ended without a word: whether it reached the destination is unknown."""


def host_of(channel: str, destination: str) -> str:
    """Return a destination's host (with its port, if it names one), without anything personal or secret."""
    if channel == "email":
        return destination.rpartition("@")[2].lower()
    if channel == "slack" and "://" not in destination:
        return f"slack:{destination}"
    try:
        return urlsplit(destination).netloc.rpartition("@")[2].lower()
    except ValueError:
        return ""  # its attempts are refused; storing it must not fail


def url_fault(url: str, *, https_only: bool) -> str | None:
    """Return what is wrong with a webhook's URL; null when nothing is."""
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.scheme not in {"http", "https"}:
        return "is not like https://host/path"
    if https_only and parts.scheme != "https":
        return "is not https, and production sends to https only"
    return None
