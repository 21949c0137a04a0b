"""How many sessions of each business run anywhere, as session replicas tell it on parley.usage.

A count is a second or two old and dies after five: when Kafka is away the gateway goes on with its own counts alone.
Law: this is news, never a condition: nothing waits for it.
"""

from __future__ import annotations

from datetime import timedelta

import structlog

from parley_common.clock import Clock
from parley_common.contracts.operations import USAGE_DEAD_AFTER_S, UsageReport
from parley_common.contracts.record import read_contract
from parley_common.errors import InvalidRecord

REPORTS_MAX = 100_000
"""Replicas times businesses; a topic that holds more is not ours."""

log = structlog.get_logger("usage")


class SessionsEverywhere:
    """The newest report of each replica on each business."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._reports: dict[str, dict[str, UsageReport]] = {}
        self._count = 0

    def take(self, key: str, value: bytes | None) -> None:
        """Take in a record of parley.usage."""
        business = key.rpartition(":")[2]
        if value is None:
            self._count -= self._reports.get(business, {}).pop(key, None) is not None
            return
        try:
            report = read_contract(UsageReport, value)
        except InvalidRecord as wrong:
            log.warning("usage.invalid_report", code=wrong.stable_code)
            return
        known = self._reports.setdefault(business, {})
        if key not in known:
            if self._count >= REPORTS_MAX:
                return
            self._count += 1
        known[key] = report

    def sessions(self, business: str) -> int:
        """Return how many sessions of a business run on all replicas, as far as was told lately."""
        alive = self._clock.now() - timedelta(seconds=USAGE_DEAD_AFTER_S)
        reports = self._reports.get(business, {}).values()
        return sum(report.sessions for report in reports if report.at >= alive)
