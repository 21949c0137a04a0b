"""Usage across replicas: what each business runs and has spent today, here and elsewhere.

This replica tells its own counts on parley.usage, a second after they changed and else every two, and reads
everyone's. Counts expire, spending does not before its day (UTC) is over. Replicas see each other's sessions a second or
two late, and their spending up to three, so limits overshoot by what opens, or is spent, in that time.

Law: a replica that starts again goes on from what it had said it spent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

import structlog

from parley_common.clock import Clock
from parley_common.contracts.operations import (
    USAGE_AT_LEAST_EVERY_S,
    USAGE_DEAD_AFTER_S,
    USAGE_EVERY_S,
    UsageReport,
)
from parley_common.contracts.record import Record, read_contract, to_json
from parley_common.contracts.topics import USAGE
from parley_common.errors import DependencyUnavailable, InvalidRecord
from parley_common.kafka import Publisher
from parley_common.telemetry import Gauge
from parley_session.meters import INVALID_RECORDS

WINDOW_S = 60
AT_LEAST_EVERY = timedelta(seconds=USAGE_AT_LEAST_EVERY_S)

log = structlog.get_logger("usage")
USD_TODAY = Gauge(
    "parley_business_usd_today", "What a business has spent today on all replicas", ["business"]
)


@dataclass(frozen=True, slots=True)
class Spent:
    """What a session has come to so far."""

    business: str
    tokens: int
    usd: float


@dataclass(slots=True)
class _Own:
    """This replica's own account of one business."""

    day: date
    usd: float = 0.0
    """Spent today, also before a restart."""
    sessions: int = 0
    tokens: int = 0
    said: bool = False
    """Its counts of zero have been told."""
    told: tuple[int, datetime] | None = None
    """The sessions that were last told, and when."""
    window: deque[int] = field(default_factory=lambda: deque(maxlen=WINDOW_S))
    """Tokens of each of the last seconds."""


class UsageBook:
    """One replica's view of all usage."""

    def __init__(self, replica: str, clock: Clock) -> None:
        self._replica = replica
        self._clock = clock
        self._own: dict[str, _Own] = {}
        self._reports: dict[str, UsageReport] = {}
        self._seen: dict[str, Spent] = {}

    # -- this replica's own -------------------------------------------------------------------------

    def count(self, running: Iterable[tuple[str, Spent]]) -> None:
        """Take stock of the sessions that run now, by session id; call it every second."""
        today = self._clock.now().date()
        now = dict(running)
        for own in self._own.values():
            own.sessions = own.tokens = 0
            if own.day != today:
                own.day, own.usd = today, 0.0
        for session_id, spent in now.items():
            own = self._account(spent.business, today)
            before = self._seen.get(session_id, Spent(spent.business, 0, 0.0))
            own.sessions += 1
            own.tokens += max(0, spent.tokens - before.tokens)
            own.usd += max(0.0, spent.usd - before.usd)
        self._seen = now
        for own in self._own.values():
            own.window.append(own.tokens)

    def ended(self, session_id: str, spent: Spent) -> None:
        """A session is over: what it spent since it was last counted is spent."""
        before = self._seen.pop(session_id, Spent(spent.business, 0, 0.0))
        own = self._account(spent.business, self._clock.now().date())
        own.usd += max(0.0, spent.usd - before.usd)
        own.said = False

    def _account(self, business: str, today: date) -> _Own:
        own = self._own.get(business)
        if own is None:
            own = self._own[business] = _Own(today)
        return own

    def reports(self) -> list[UsageReport]:
        """Return what is to be told now: every business that runs, or has just ceased to."""
        now = self._clock.now()
        told = []
        for business, own in self._own.items():
            idle = not own.sessions and not any(own.window)
            if idle and own.said:
                continue
            if not idle and own.told is not None:
                sessions, at = own.told
                if sessions == own.sessions and now - at < AT_LEAST_EVERY:
                    continue
            own.said, own.told = idle, (own.sessions, now)
            told.append(
                UsageReport(
                    replica=self._replica,
                    business=business,
                    at=now,
                    sessions=own.sessions,
                    tokens_per_min=sum(own.window),
                    day=own.day,
                    usd_today=round(own.usd, 6),
                )
            )
        return told

    # -- everyone's ---------------------------------------------------------------------------------

    def take(self, key: str, value: bytes | None) -> None:
        """Take in a record of parley.usage; our own tells what we had spent before a restart."""
        if value is None:
            self._reports.pop(key, None)
            return
        try:
            report = read_contract(UsageReport, value)
        except InvalidRecord as wrong:
            INVALID_RECORDS.labels("usage").inc()
            log.warning("usage.invalid_report", code=wrong.stable_code)
            return
        if report.replica != self._replica:
            self._reports[key] = report
        elif report.business not in self._own and report.day == self._clock.now().date():
            self._own[report.business] = _Own(report.day, usd=report.usd_today, said=True)

    def sessions(self, business: str) -> int:
        """Return how many sessions of a business run on all replicas, as far as is known."""
        alive = self._clock.now() - timedelta(seconds=USAGE_DEAD_AFTER_S)
        others = sum(r.sessions for r in self._reports.values() if r.business == business and r.at >= alive)
        own = self._own.get(business)
        return others + (own.sessions if own else 0)

    def usd_today(self, business: str) -> float:
        """Return what a business has spent today on all replicas."""
        today = self._clock.now().date()
        others = sum(r.usd_today for r in self._reports.values() if r.business == business and r.day == today)
        own = self._own.get(business)
        return others + (own.usd if own and own.day == today else 0.0)


async def publish_usage(
    book: UsageBook,
    publisher: Publisher,
    running: Callable[[], Iterable[tuple[str, Spent]]],
    clock: Clock,
    stop: asyncio.Event,
) -> None:
    """Count and tell every second until ``stop``; a broker that is away loses no spending, only news of it."""
    while not stop.is_set():
        book.count(running())
        for report in book.reports():
            USD_TODAY.labels(report.business).set(book.usd_today(report.business))
            record = Record(
                USAGE.name, report.key.encode(), to_json(report), (("content-type", b"application/json"),)
            )
            try:
                await publisher.publish(record)
            except DependencyUnavailable as away:
                log.warning("usage.not_told", code=away.stable_code)
                break
        await clock.sleep_ms(USAGE_EVERY_S * 1000)
