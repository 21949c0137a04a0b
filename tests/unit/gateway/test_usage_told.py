"""What session replicas tell of a business: summed, forgotten when old, and never trusted to be readable."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from parley_common.contracts.operations import UsageReport
from parley_common.contracts.record import to_json
from parley_gateway.usage import SessionsEverywhere

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.at = NOON

    def now(self) -> datetime:
        return self.at

    def now_ms(self) -> int:
        return int(self.at.timestamp() * 1000)

    async def sleep_ms(self, delay_ms: float) -> None:
        self.at += timedelta(milliseconds=delay_ms)


def told(everywhere: SessionsEverywhere, replica: str, business: str, sessions: int) -> str:
    report = UsageReport(replica=replica, business=business, at=NOON, sessions=sessions, day=NOON.date())
    everywhere.take(report.key, to_json(report))
    return report.key


def test_the_sessions_of_all_replicas_are_summed_per_business() -> None:
    everywhere = SessionsEverywhere(Clock())
    told(everywhere, "session-0", "cap", 9)
    told(everywhere, "session-0", "cap", 3)
    told(everywhere, "session-1", "cap", 4)
    told(everywhere, "session-1", "oak", 5)
    assert [everywhere.sessions(name) for name in ("cap", "oak", "elm")] == [7, 5, 0]


def test_a_replica_that_is_silent_for_five_seconds_counts_no_more() -> None:
    clock = Clock()
    everywhere = SessionsEverywhere(clock)
    told(everywhere, "session-0", "cap", 3)
    clock.at = NOON + timedelta(seconds=5)
    assert everywhere.sessions("cap") == 3
    clock.at += timedelta(milliseconds=1)
    assert everywhere.sessions("cap") == 0


def test_a_tombstone_takes_back_and_nonsense_changes_nothing() -> None:
    everywhere = SessionsEverywhere(Clock())
    key = told(everywhere, "session-0", "cap", 3)
    everywhere.take("session-1:cap", b"nonsense")
    everywhere.take("session-9:elm", None)
    assert everywhere.sessions("cap") == 3
    everywhere.take(key, None)
    assert everywhere.sessions("cap") == 0
