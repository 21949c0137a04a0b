"""The outbox and its relay on SQLite and PostgreSQL: seqs, order, refused rows, pruning, waking."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import update

from harness.waiting import until
from parley_common import outbox as module
from parley_common.contracts.leads import LeadErased
from parley_common.contracts.record import Envelope
from parley_common.errors import DependencyUnavailable, InvalidRecord
from parley_common.outbox import SHARDS, Relay, shard_of
from unit.common.stores import ALL_SHARDS, NOW, OUTBOX_TABLES, Published, Store, make_tables, open_store

NEVER_MS = 3_600_000


class RolledBack(Exception):
    """The unit of work is given up."""


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    await make_tables(database_url)
    async with open_store(database_url) as opened:
        yield opened


def relay_of(store: Store, published: Published, **options: int) -> Relay:
    return Relay(store.database, OUTBOX_TABLES, published, name="test", **options)


@asynccontextmanager
async def running(relay: Relay) -> AsyncIterator[asyncio.Event]:
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(relay.run(stop))
        yield stop
        stop.set()


def times(count: int, wrong: Callable[[], Exception], *, of: str = "") -> Callable[[str, str], None]:
    """Refuse the first ``count`` records (of that value) with an error."""
    left = deque(range(count))

    def refuse(_key: str, value: str) -> None:
        if left and of in {"", value}:
            left.popleft()
            raise wrong()

    return refuse


async def test_each_aggregate_counts_its_own_facts_from_one_without_gaps(store: Store) -> None:
    assert await store.write("a", "a1", "a2") == [1, 2]
    assert await store.write("b", "b1") == [1]
    assert await store.write("a", "a3") == [3]


async def test_concurrent_writers_of_one_aggregate_get_every_seq_once_and_rows_in_that_order(
    store: Store,
) -> None:
    seqs = await asyncio.gather(*(store.write("a", f"first-{n}", f"second-{n}") for n in range(8)))
    assert sorted(seq for pair in seqs for seq in pair) == list(range(1, 17))
    assert all(second == first + 1 for first, second in seqs), "a unit of work is not interleaved"
    assert [row["seq"] for row in await store.rows()] == list(range(1, 17))


async def test_an_aggregate_is_locked_until_its_writer_commits(store: Store) -> None:
    async with asyncio.TaskGroup() as group:
        async with store.database.begin() as session:
            assert await store.add(session, "a", "a1") == 1
            second = group.create_task(store.write("a", "a2"))
            await session.connection()
            assert not second.done()
        assert await second == [2]


async def test_a_unit_of_work_rolled_back_leaves_no_gap_that_blocks(store: Store) -> None:
    await store.write("a", "a1")
    with suppress(RolledBack):
        async with store.database.begin() as session:
            assert await store.add(session, "a", "lost") == 2
            raise RolledBack
    assert await store.write("a", "a2") == [2]
    published = Published()
    assert await relay_of(store, published).publish_batch(ALL_SHARDS) == 2
    assert published.taken == [("a", "a1"), ("a", "a2")]


async def test_a_fact_goes_out_with_its_envelope_and_key(store: Store) -> None:
    records = []

    async def keep(record: object) -> None:
        records.append(record)

    fact = LeadErased(lead_id="lead-1", seq=1, business="cap", at=NOW, subject_hash="00")
    async with store.database.begin() as session:
        seq = await store.outbox.next_seq(session, fact.key)
        fact_id = await store.outbox.add(session, fact, seq=seq, now=NOW)
    await Relay(store.database, OUTBOX_TABLES, keep, name="test").publish_batch(ALL_SHARDS)
    (record,) = records
    envelope = Envelope.of_headers(record.headers)
    assert (envelope.id, envelope.type, envelope.time) == (fact_id, fact.fact_type, NOW)
    assert (record.topic, record.key) == ("parley.lead.events", b"lead-1")
    assert LeadErased.model_validate_json(record.value) == fact


async def test_an_outage_in_the_middle_keeps_the_marks_and_the_order_of_each_aggregate(store: Store) -> None:
    await store.write("a", "a1", "a2", "a3")
    await store.write("b", "b1", "b2")
    published = Published(times(1, lambda: DependencyUnavailable("away"), of="a2"))
    relay = relay_of(store, published)
    with pytest.raises(DependencyUnavailable):
        await relay.publish_batch(ALL_SHARDS)
    assert sorted(published.taken) == [("a", "a1"), ("b", "b1"), ("b", "b2")]
    assert await store.unsent() == ["a2", "a3"]
    assert await relay.publish_batch(ALL_SHARDS) == 2
    assert published.by_key() == {"a": ["a1", "a2", "a3"], "b": ["b1", "b2"]}


async def test_a_row_that_no_broker_will_take_blocks_its_own_aggregate_alone(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_key: str, value: str) -> None:
        if value == "a2":
            raise InvalidRecord("a record for facts is too large", code="record_too_large")

    labels = {"outbox": "test", "code": "record_too_large"}
    before = REGISTRY.get_sample_value("parley_outbox_refused_total", labels) or 0
    await store.write("a", "a1", "a2", "a3")
    await store.write("b", "b1", "b2")
    published = Published(refuse)
    relay = relay_of(store, published)
    assert await relay.publish_batch(ALL_SHARDS) == 3
    assert await store.unsent() == ["a2", "a3"]
    await store.write("a", "a4")
    await store.write("b", "b3")
    assert await relay.publish_batch(ALL_SHARDS) == 1
    assert published.by_key() == {"a": ["a1"], "b": ["b1", "b2", "b3"]}
    assert REGISTRY.get_sample_value("parley_outbox_refused_total", labels) == before + 1
    assert REGISTRY.get_sample_value("parley_outbox_blocked_count", {"outbox": "test"}) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "outbox.refused" in line]
    assert "error" in line
    assert "record_too_large" in line


async def test_blocked_rows_that_would_fill_a_batch_do_not_hold_up_the_others(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH_ROWS", 4)
    await store.write("a", "a1", "a2", "a3", "a4", "a5")
    await store.write("b", "b1")
    published = Published(times(1, lambda: InvalidRecord("refused"), of="a1"))
    relay = relay_of(store, published)
    assert await relay.publish_batch(ALL_SHARDS) == 0
    assert await relay.publish_batch(ALL_SHARDS) == 1
    assert published.taken == [("b", "b1")]


async def test_a_refused_row_is_tried_again_later_and_then_all_that_waited_goes_out_in_order(
    store: Store,
) -> None:
    await store.write("a", "a1", "a2")
    published = Published(times(2, lambda: InvalidRecord("refused"), of="a1"))
    relay = relay_of(store, published, refused_retry_ms=0)
    assert [await relay.publish_batch(ALL_SHARDS) for _ in range(3)] == [0, 0, 2]
    assert published.taken == [("a", "a1"), ("a", "a2")]


async def test_more_blocked_aggregates_than_the_bound_forget_the_oldest(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REFUSED_MAX", 2)
    for name in ("a", "b", "c"):
        await store.write(name, name)
    published = Published(times(3, lambda: InvalidRecord("refused")))
    relay = relay_of(store, published)
    await relay.publish_batch(ALL_SHARDS)
    assert await relay.publish_batch(ALL_SHARDS) == 1
    assert published.taken == [("a", "a")]


async def test_an_error_that_nobody_foresaw_keeps_the_marks_and_the_relay_alive(store: Store) -> None:
    await store.write("a", "a1", "a2")
    await store.write("b", "b1")
    published = Published(times(1, lambda: RuntimeError("a bug"), of="a2"))
    async with running(relay_of(store, published)):
        await until(lambda: len(published.taken) == 3, 10, "all three to be published")
    assert published.by_key() == {"a": ["a1", "a2"], "b": ["b1"]}


async def test_waiting_for_a_broker_backs_off_and_begins_anew_after_success(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    failures = {"a1": 2, "a2": 1}

    def refuse(_key: str, value: str) -> None:
        failures[value] -= 1
        if failures[value] >= 0:
            raise DependencyUnavailable("away")

    published = Published(refuse)
    relay = relay_of(store, published)
    store.outbox.on_commit(relay.wake)
    async with running(relay):
        for count, value in enumerate(("a1", "a2"), 1):
            await store.write("a", value)
            await until(lambda count=count: len(published.taken) == count, 10, "the row to be published")
    lines = [line for line in capsys.readouterr().out.splitlines() if "outbox.waiting" in line]
    assert [line.partition("backoff_ms=")[2].split()[0] for line in lines] == ["250", "500", "250"]


async def test_a_commit_wakes_the_relay(store: Store) -> None:
    published = Published()
    relay = relay_of(store, published, poll_ms=NEVER_MS)
    store.outbox.on_commit(relay.wake)
    async with running(relay):
        for number in range(5):
            await store.write("a", f"a{number}")
            await until(lambda number=number: len(published.taken) == number + 1, 10, "the row to go out")


async def test_a_savepoint_wakes_nobody_and_its_commit_does(store: Store) -> None:
    woken: list[int] = []
    store.outbox.on_commit(lambda: woken.append(1))
    async with store.database.begin() as session:
        async with session.begin_nested():
            await store.add(session, "a", "a1")
        assert woken == []
    assert woken == [1]


async def test_a_rollback_wakes_nobody(store: Store) -> None:
    woken: list[int] = []
    store.outbox.on_commit(lambda: woken.append(1))
    with suppress(RolledBack):
        async with store.database.begin() as session:
            await store.add(session, "a", "a1")
            raise RolledBack
    assert woken == []


async def test_a_graceful_stop_sends_what_can_be_sent(store: Store) -> None:
    published = Published()
    async with running(relay_of(store, published, poll_ms=NEVER_MS)):
        await until(lambda: module.OUTBOX_AGE_S.labels("test")._value.get() == 0, 10, "the relay to be idle")
        await store.write("a", "a1")
    assert published.taken == [("a", "a1")]


async def test_sent_rows_are_pruned_after_their_time_and_unsent_ones_never(store: Store) -> None:
    long_ago = datetime.now(UTC) - timedelta(hours=module.SENT_KEPT_H + 1)
    await store.write("a", "old", created_at=long_ago)
    await store.write("b", "new")
    published = Published()
    relay = relay_of(store, published)
    await relay.publish_batch(ALL_SHARDS)
    rows = OUTBOX_TABLES.rows
    async with store.database.begin() as session:
        await session.execute(update(rows).where(rows.c.aggregate_id == "a").values(sent_at=long_ago))
    await store.write("c", "unsent", created_at=long_ago)
    published.refuse = times(10_000, lambda: InvalidRecord("refused"))
    async with running(relay):

        async def left() -> bool:
            return [row["value"] for row in await store.rows()] == [b"new", b"unsent"]

        await until(left, 10, "the old row to be gone")


async def test_the_age_of_the_oldest_unsent_fact_is_measured(store: Store) -> None:
    await store.write("a", "a1", created_at=datetime.now(UTC) - timedelta(seconds=90))
    relay = relay_of(store, Published())
    await relay.publish_batch(ALL_SHARDS)
    age_s = REGISTRY.get_sample_value("parley_outbox_age_s", {"outbox": "test"})
    assert age_s is not None
    assert 90 <= age_s < 400
    await relay.publish_batch(ALL_SHARDS)
    assert REGISTRY.get_sample_value("parley_outbox_age_s", {"outbox": "test"}) == 0


def test_the_shard_of_an_aggregate_is_the_same_in_every_process_and_release() -> None:
    assert [shard_of(name) for name in ("lead-1", "lead-2", "0198c0de")] == [0, 10, 9]
    assert {shard_of(f"lead-{number}") for number in range(400)} == set(range(SHARDS))
