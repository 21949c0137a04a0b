"""The spool: facts reach Kafka in order, outlive its absence and the process, and make room by what matters least."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from harness.waiting import until
from parley_common.contracts.record import Record
from parley_common.contracts.sessions import SessionEnded, TurnCompleted
from parley_common.errors import DependencyUnavailable
from parley_session import spool as of_spool
from parley_session.spool import Spool

NOW = datetime(2026, 3, 2, tzinfo=UTC)


class Kafka:
    """What was published, as session and turn; 0 is the end of a session."""

    def __init__(self, *, is_there: bool = True) -> None:
        self.is_there = is_there
        self.told: list[tuple[str, int]] = []

    async def publish(self, record: Record) -> None:
        if not self.is_there:
            raise DependencyUnavailable("away")
        type_ = dict(record.headers)["ce_type"].decode()
        fact = (SessionEnded if "ended" in type_ else TurnCompleted).model_validate_json(record.value or b"")
        self.told.append((record.key.decode(), getattr(fact, "turn", 0)))


def turn(session: str, number: int) -> TurnCompleted:
    return TurnCompleted(session_id=session, business="cap", at=NOW, turn=number, mode="voice")


def ended(session: str) -> SessionEnded:
    return SessionEnded(session_id=session, business="cap", at=NOW, reason="caller")


@asynccontextmanager
async def spooling(folder: Path, kafka: Kafka, facts_max: int = 1_000) -> AsyncIterator[Spool]:
    spool = Spool(folder, "session-0", kafka, facts_max=facts_max)  # type: ignore[arg-type]
    stop = asyncio.Event()
    task = asyncio.create_task(spool.run(stop))
    try:
        yield spool
    finally:
        stop.set()
        await asyncio.wait_for(task, 30)


async def test_facts_of_each_session_reach_kafka_in_their_order(tmp_path: Path) -> None:
    kafka = Kafka()
    async with spooling(tmp_path, kafka) as spool:
        for number in range(1, 4):
            for session in ("a", "b"):
                spool.record(turn(session, number), at=NOW)
            await until(lambda wanted=2 * number: len(kafka.told) == wanted, 10, "a batch of its own")
        for session in ("a", "b"):
            spool.record(ended(session), at=NOW)
    for session in ("a", "b"):
        assert [number for key, number in kafka.told if key == session] == [1, 2, 3, 0]


async def test_what_kafka_did_not_take_is_told_by_the_next_process(tmp_path: Path) -> None:
    away, there = Kafka(is_there=False), Kafka()
    async with spooling(tmp_path, away) as spool:
        for number in (1, 2):
            spool.record(turn("a", number), at=NOW)
        spool.record(ended("a"), at=NOW)
    assert away.told == []
    async with spooling(tmp_path, there) as spool:
        spool.record(turn("b", 1), at=NOW)
        await until(lambda: len(there.told) == 4, 15, "what was kept and what is new")
    assert [number for key, number in there.told if key == "a"] == [1, 2, 0]


async def test_a_full_disk_makes_room_by_the_oldest_turns_and_by_no_end(tmp_path: Path) -> None:
    kafka = Kafka(is_there=False)
    async with spooling(tmp_path, kafka, facts_max=10) as spool:
        spool.record(ended("first"), at=NOW)
        for number in range(1, 31):
            spool.record(turn("a", number), at=NOW)
        spool.record(ended("a"), at=NOW)
        await until(lambda: spool._rows == 10, 10, "room to be made")
        kafka.is_there = True
        await until(lambda: len(kafka.told) == 10, 20, "what was kept")
    assert ("first", 0) in kafka.told
    assert [number for key, number in kafka.told if key == "a"] == [*range(23, 31), 0]


async def test_a_full_memory_drops_turns_and_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_spool, "MEMORY_MAX", 3)
    kafka = Kafka()
    async with spooling(tmp_path, kafka) as spool:
        for number in range(1, 6):
            spool.record(turn("a", number), at=NOW)
        spool.record(ended("a"), at=NOW)
    assert [number for _, number in kafka.told] == [1, 2, 3, 0]


async def test_of_all_sessions_those_that_wrote_last_are_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_spool, "SESSIONS_REMEMBERED_MAX", 2)
    kafka = Kafka()
    async with spooling(tmp_path, kafka) as spool:
        for session in ("a", "b", "a", "c", "a"):
            spool.record(turn(session, 1), at=NOW)
        assert await until(lambda: len(kafka.told) == 5, 10, "all")
        assert spool._seqs == {"c": 1, "a": 3}
