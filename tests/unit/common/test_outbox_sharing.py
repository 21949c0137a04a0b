"""Relays that share an outbox on PostgreSQL: fair shards, order per aggregate, and locks that are really lost."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
import pytest

from harness.waiting import until
from parley_common.errors import DependencyUnavailable
from parley_common.outbox import PRESENCE, SHARDS, Relay, shard_of
from unit.common.stores import NOW, OUTBOX_TABLES, SCHEMA, Published, Store, make_tables, open_store

SPACE = zlib.crc32(f"outbox:{SCHEMA}".encode()) & 0x7FFFFFFF
NAMES = [
    next(f"{shard}-{n}" for n in range(999) if shard_of(f"{shard}-{n}") == shard) for shard in range(SHARDS)
]
"""One aggregate in each shard."""


@pytest.fixture
async def stores(postgres_url: str) -> AsyncIterator[list[Store]]:
    """The same database as three processes see it: two with relays, and the writer."""
    await make_tables(postgres_url)
    async with AsyncExitStack() as opened:
        yield [await opened.enter_async_context(open_store(postgres_url)) for _ in range(3)]


@pytest.fixture
async def direct(postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres_url.replace("+asyncpg", ""))
    yield connection
    await connection.close()


@asynccontextmanager
async def running(store: Store, published: Published) -> AsyncIterator[Relay]:
    relay = Relay(store.database, OUTBOX_TABLES, published, name="test", poll_ms=20)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(relay.run(stop))
        yield relay
        stop.set()


async def owners(direct: asyncpg.Connection) -> dict[int, int]:
    """Return how many shards each server process holds."""
    query = "SELECT pid, count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = $1 AND objid < $2 GROUP BY 1"
    return {row[0]: row[1] for row in await direct.fetch(query, SPACE, PRESENCE)}


async def presences(direct: asyncpg.Connection) -> list[int]:
    query = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = $1 AND objid = $2"
    return [row[0] for row in await direct.fetch(query, SPACE, PRESENCE)]


async def test_two_relays_share_the_shards_and_the_one_that_stays_takes_them_all_again(
    stores: list[Store], direct: asyncpg.Connection
) -> None:
    async def shares(*counts: int) -> bool:
        return sorted((await owners(direct)).values()) == sorted(counts)

    async with running(stores[0], Published()):
        await until(lambda: shares(SHARDS), 10, "one relay to hold all shards")
        async with running(stores[1], Published()):
            await until(lambda: shares(SHARDS // 2, SHARDS // 2), 10, "two relays to hold half each")
        await until(lambda: shares(SHARDS), 10, "the one that stayed to hold all again")


async def test_two_relays_never_publish_the_rows_of_one_aggregate_out_of_order_nor_twice(
    stores: list[Store],
) -> None:
    together: list[tuple[str, str, int]] = []
    writer = stores[2]

    class Side(Published):
        def __init__(self, number: int) -> None:
            super().__init__(lambda key, value: together.append((key, value, number)))

    async def write() -> None:
        for number in range(12):
            for name in NAMES:
                await writer.write(name, f"{number}")

    async with running(stores[0], Side(0)), running(stores[1], Side(1)):
        async with asyncio.TaskGroup() as group:
            for _ in range(2):  # two writers at once, of the same aggregates
                group.create_task(write())
        await until(lambda: len(together) >= 2 * 12 * len(NAMES), 30, "all rows to be published")
    assert {side for _, _, side in together} == {0, 1}, "both relays published"
    rows = await writer.rows()
    for name in NAMES:
        written = [row["value"].decode() for row in rows if row["aggregate_id"] == name]
        assert [value for key, value, _ in together if key == name] == written


async def test_a_relay_whose_lock_connection_died_publishes_nothing_until_it_holds_shards_again(
    stores: list[Store], direct: asyncpg.Connection
) -> None:
    published = Published()
    async with running(stores[0], published):
        await until(lambda: presences(direct), 10, "the relay to be there")
        (pid,) = await presences(direct)
        await until(lambda: owners(direct), 10, "the relay to hold its shards")
        await direct.fetchval("SELECT pg_terminate_backend($1, 5000)", pid)
        for shard in range(SHARDS):  # what another relay would do now
            await direct.fetchval("SELECT pg_advisory_lock($1, $2)", SPACE, shard)
        await stores[2].write("a", "a1")

        async def is_back() -> bool:
            return [found for found in await presences(direct) if found != pid] != []

        await until(is_back, 10, "the relay to have connected again")
        assert set(await owners(direct)) == {direct.get_server_pid()}
        assert published.taken == []
        await direct.fetchval("SELECT pg_advisory_unlock_all()")
        await until(lambda: published.taken, 10, "the row to be published")
    assert published.taken == [("a", "a1")]


async def test_an_outage_of_the_broker_does_not_leave_the_shards_locked_by_an_idle_connection(
    stores: list[Store],
) -> None:
    away = True

    def refuse(_key: str, _value: str) -> None:
        if away:
            raise DependencyUnavailable("away")

    store, published = stores[0], Published(refuse)
    # Other connections stand in the pool, so that the relay is not given its old one again.
    await asyncio.gather(*(store.write(f"a{number}", "1", created_at=NOW) for number in range(5)))
    async with running(store, published) as relay:
        await until(lambda: relay._backoff_ms, 10, "the relay to have failed")
        away = False
        await until(lambda: len(published.taken) == 5, 15, "all rows to be published")


async def test_a_relay_that_stopped_leaves_its_shards_to_others_at_once(
    stores: list[Store], direct: asyncpg.Connection
) -> None:
    async with running(stores[0], Published()):
        await until(lambda: owners(direct), 10, "the relay to hold its shards")
    await until(lambda: _is_empty(direct), 10, "its locks to be gone, its pool still open")


async def _is_empty(direct: asyncpg.Connection) -> bool:
    return await owners(direct) == {}
