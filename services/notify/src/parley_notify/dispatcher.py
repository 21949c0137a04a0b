"""The workers: claim what is due, attempt it on its channel, settle it. Decides neither who is told nor when again.

One loop claims and starts attempts, up to a bound; each attempt settles itself, together with those that end meanwhile
(settler.py). A commit wakes the loop, polling is the fallback.

Law: an attempt's outcome is written before its place is given to another, however long the database is away.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from parley_common.clock import Clock
from parley_common.errors import DependencyUnavailable
from parley_common.telemetry import (
    LATENCY_BUCKETS_MS,
    Counter,
    Gauge,
    Histogram,
    SpanKind,
    join_logs,
    mark_failed,
    span,
)
from parley_notify.channels.outcome import Channel, Delivered, Outcome, Refused, TryAgain
from parley_notify.deliveries import Deliveries, Settlement
from parley_notify.delivery import Delivery
from parley_notify.due import Capacity
from parley_notify.pace import Pace
from parley_notify.policy import Retry, RetryPolicy, Verdict, judge
from parley_notify.settler import Settler

BACKOFF_MAX_MS = 5_000
CLAIM_BACKOFF_FIRST_MS = 100
SETTLE_FAULTS_MAX = 5

log = structlog.get_logger("dispatcher")

ATTEMPTS = Counter("parley_delivery_attempts", "Attempts, by outcome", ["channel", "outcome"])
ATTEMPT_MS = Histogram(
    "parley_delivery_attempt_ms", "How long attempts took", ["channel"], buckets=LATENCY_BUCKETS_MS
)
RETAKEN = Counter(
    "parley_deliveries_retaken",
    "Deliveries taken again after an attempt that ended without a word; on e-mail each may be a repeat",
    ["channel"],
)
CIRCUITS_OPEN = Gauge(
    "parley_delivery_circuits_open_count", "Destinations that failed so often in a row that they rest"
)
OVERTAKEN = Counter(
    "parley_deliveries_overtaken", "Attempts whose delivery was cancelled or retaken meanwhile", ["channel"]
)


@dataclass(frozen=True, slots=True)
class Limits:
    """How many attempts at once, how long each may take, how often to look, how long to wait at the end."""

    in_flight_max: int = 8
    attempt_deadline_s: float = 20.0
    lease_margin_s: float = 30.0
    poll_ms: int = 1_000
    stop_grace_s: float = 6.0

    @property
    def lease_s(self) -> float:
        return self.attempt_deadline_s + self.lease_margin_s


class Dispatcher:
    """The workers of one process."""

    def __init__(
        self,
        deliveries: Deliveries,
        channels: Mapping[str, Channel],
        *,
        policy: RetryPolicy,
        pace: Pace,
        limits: Limits,
        clock: Clock,
        jitter: Callable[[], float],
    ) -> None:
        self._deliveries = deliveries
        self._settler = Settler(deliveries)
        self._channels = channels
        self._policy = policy
        self._pace = pace
        self._limits = limits
        self._clock = clock
        self._jitter = jitter
        self._wake = asyncio.Event()
        self._in_flight: dict[str, asyncio.Task[None]] = {}
        self._host_free_at_ms: float | None = None
        self._backoff_ms = 0

    def wake(self) -> None:
        """Look for due deliveries now rather than at the next poll."""
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop``; attempts under way then have ``stop_grace_s`` to end."""
        async with asyncio.TaskGroup() as group:
            while not stop.is_set():
                self._wake.clear()
                claimed = await self._claim()
                for delivery in claimed:
                    wait_ms = self._pace.begin(delivery.host, self._clock.now_ms())
                    self._in_flight[delivery.delivery_id] = group.create_task(self._work(delivery, wait_ms))
                if not claimed:
                    await self._wait(stop)
            await self._drain()

    async def _claim(self) -> list[Delivery]:
        now_ms = self._clock.now_ms()
        # Taken at the same moment as the hosts to skip: one that gets free while we look must not wait for a poll.
        self._host_free_at_ms = self._pace.free_at_ms(now_ms)
        places = self._limits.in_flight_max - len(self._in_flight)
        if places <= 0:
            return []
        capacity = Capacity(
            count=places,
            each=min(places, self._pace.each_max),
            room=self._pace.room,
            skip_hosts=self._pace.busy(now_ms),
            skip_ids=tuple(self._in_flight),
        )
        try:
            claimed = await self._deliveries.claim(self._clock.now(), self._limits.lease_s, capacity)
        except Exception as wrong:  # noqa: BLE001 - the driver's own errors too: the workers must outlive them
            self._back_off(wrong)
            return []
        self._backoff_ms = 0
        return claimed

    def _back_off(self, wrong: Exception) -> None:
        self._backoff_ms = min(max(CLAIM_BACKOFF_FIRST_MS, self._backoff_ms * 2), BACKOFF_MAX_MS)
        if isinstance(wrong, DependencyUnavailable):
            log.warning("dispatcher.waiting", cause=str(wrong), backoff_ms=self._backoff_ms)
        else:
            log.error("dispatcher.claim_failed", cause=type(wrong).__name__, backoff_ms=self._backoff_ms)

    async def _wait(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            waits = [group.create_task(self._wake.wait()), group.create_task(stop.wait())]
            # Waking means new work; while the database is away there is none to be had.
            awaited = waits[1:] if self._backoff_ms else waits
            timeout_s = self._wait_ms() / 1000
            await asyncio.wait(awaited, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()

    def _wait_ms(self) -> float:
        if self._backoff_ms:
            return self._backoff_ms
        wait_ms: float = self._limits.poll_ms
        if self._host_free_at_ms is not None and len(self._in_flight) < self._limits.in_flight_max:
            wait_ms = min(wait_ms, max(0.0, self._host_free_at_ms - self._clock.now_ms()))
        return wait_ms

    async def _drain(self) -> None:
        under_way = list(self._in_flight.values())
        if not under_way:
            return
        _, late = await asyncio.wait(under_way, timeout=self._limits.stop_grace_s)
        for task in late:  # its lease runs out, and another worker takes it
            task.cancel()

    async def _work(self, delivery: Delivery, wait_ms: float) -> None:
        hold_s, failed = 0.0, False
        join_logs(session_id=_session_id(delivery), traceparent=delivery.traceparent)
        try:
            if wait_ms > 0:
                await self._clock.sleep_ms(wait_ms)
            with span(
                f"deliver {delivery.channel}",
                parent=delivery.traceparent,
                kind=SpanKind.CLIENT,
                attributes=_attributes(delivery),
            ) as current:
                outcome = await self._attempt(delivery)
                if not isinstance(outcome, Delivered):
                    mark_failed(current, outcome.cause)
                failed = isinstance(outcome, TryAgain)
                hold_s = (outcome.retry_after_s or 0.0) if isinstance(outcome, TryAgain) else 0.0
                await self._settle(delivery, outcome)
        finally:
            self._pace.end(delivery.host, self._clock.now_ms(), hold_s=hold_s, failed=failed)
            CIRCUITS_OPEN.set(self._pace.open_count())
            del self._in_flight[delivery.delivery_id]
            self._wake.set()

    async def _attempt(self, delivery: Delivery) -> Outcome:
        if delivery.retaken:
            RETAKEN.labels(delivery.channel).inc()
        started_ns = time.monotonic_ns()
        try:
            async with asyncio.timeout(self._limits.attempt_deadline_s):
                channel = self._channels.get(delivery.channel)
                # Its settings may have gone while it waited, and may come back.
                outcome = await channel.send(delivery) if channel else TryAgain("channel_not_set_up")
        except TimeoutError:
            outcome = TryAgain("timed_out")
        except Exception as wrong:  # noqa: BLE001 - this is notify's performer: a bug delays one lane, not the service
            log.error("delivery.attempt_broke", delivery_id=delivery.delivery_id, cause=type(wrong).__name__)
            outcome = TryAgain(f"internal:{type(wrong).__name__}")
        ATTEMPT_MS.labels(delivery.channel).observe((time.monotonic_ns() - started_ns) / 1e6)
        ATTEMPTS.labels(delivery.channel, _name(outcome)).inc()
        return outcome

    async def _settle(self, delivery: Delivery, outcome: Outcome) -> None:
        """Write the outcome, waiting for the database without end; other faults of it are tried a few times."""
        now = self._clock.now()
        verdict = judge(
            outcome,
            attempts=delivery.attempts,
            since=delivery.retried_at or delivery.created_at,
            now=now,
            policy=self._policy,
            jitter=self._jitter(),
        )
        faults = 0
        backoff_ms = 100
        while faults < SETTLE_FAULTS_MAX:
            try:
                written = await self._settler.settle(Settlement(delivery, verdict, now), alone=faults > 0)
            except DependencyUnavailable as wrong:
                log.warning("dispatcher.waiting", cause=str(wrong))
            except Exception as wrong:  # noqa: BLE001 - such as a deadlock that the database broke by failing us
                faults += 1
                log.error("dispatcher.settle_failed", cause=type(wrong).__name__, faults=faults)
            else:
                _report(delivery, verdict, written)
                return
            await self._clock.sleep_ms(backoff_ms)
            backoff_ms = min(backoff_ms * 2, BACKOFF_MAX_MS)


def _report(delivery: Delivery, verdict: Verdict, written: bool) -> None:
    if not written:
        OVERTAKEN.labels(delivery.channel).inc()
    log.info(
        "delivery.settled" if written else "delivery.overtaken",
        delivery_id=delivery.delivery_id,
        type=delivery.fact_type,
        business=delivery.business,
        route=delivery.route,
        channel=delivery.channel,
        host=delivery.host,
        attempts=delivery.attempts,
        outcome="retry" if isinstance(verdict, Retry) else verdict.state,
        cause=verdict.cause,
    )


def _session_id(delivery: Delivery) -> str | None:
    """Return the session that a delivery's fact came from; null where none is told, or the payload is erased."""
    try:
        told = json.loads(delivery.payload or "{}")
    except ValueError:
        return None
    session_id = told.get("session_id") if isinstance(told, dict) else None
    return session_id if isinstance(session_id, str) else None


def _attributes(delivery: Delivery) -> dict[str, str | int]:
    return {
        "parley.business": delivery.business,
        "parley.delivery.id": delivery.delivery_id,
        "parley.delivery.channel": delivery.channel,
        "parley.delivery.route": delivery.route,
        "parley.delivery.attempt": delivery.attempts,
        "parley.fact.type": delivery.fact_type,
        "server.address": delivery.host,
    }


def _name(outcome: Outcome) -> str:
    match outcome:
        case Delivered():
            return "delivered"
        case Refused():
            return "refused"
        case TryAgain():
            return "retry"
