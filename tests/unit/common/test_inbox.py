"""The inbox: a fact that comes twice has one effect, also when both come at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from parley_common.inbox import KEPT_DAYS, is_first_time, prune
from unit.common.stores import INBOX, NOW, OUTBOX_TABLES, Store, make_tables, open_store


class RolledBack(Exception):
    """The unit of work is given up."""


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    await make_tables(database_url)
    async with open_store(database_url) as opened:
        yield opened


async def take(store: Store, fact_id: str) -> bool:
    """Do what a consumer does: an effect, once per fact, in the transaction of the inbox."""
    async with store.database.begin() as session:
        first = await is_first_time(session, INBOX, fact_id, NOW)
        if first:
            await store.add(session, "effects", f"effect of {fact_id}")
        return first


async def effects(store: Store) -> int:
    async with store.database.begin() as session:
        return int((await session.execute(select(func.count()).select_from(OUTBOX_TABLES.rows))).scalar_one())


async def test_the_same_id_in_two_transactions_has_one_effect(store: Store) -> None:
    assert [await take(store, name) for name in ("one", "one", "two")] == [True, False, True]
    assert await effects(store) == 2


async def test_the_same_id_racing_has_one_effect(store: Store) -> None:
    outcomes = await asyncio.gather(*(take(store, f"fact-{number % 3}") for number in range(24)))
    assert (sum(outcomes), await effects(store)) == (3, 3)


async def test_an_id_whose_first_transaction_was_rolled_back_is_new_to_the_one_that_waited(
    store: Store,
) -> None:
    async with asyncio.TaskGroup() as group:
        with suppress(RolledBack):
            async with store.database.begin() as session:
                assert await is_first_time(session, INBOX, "one", NOW)
                waiting = group.create_task(take(store, "one"))
                await session.connection()
                raise RolledBack
        assert await waiting
    assert await effects(store) == 1


async def test_ids_are_forgotten_only_after_any_record_could_still_come_again(store: Store) -> None:
    await take(store, "old")
    async with store.database.begin() as session:
        await prune(session, INBOX, NOW + timedelta(days=KEPT_DAYS) - timedelta(seconds=1))
    assert not await take(store, "old")
    async with store.database.begin() as session:
        await prune(session, INBOX, NOW + timedelta(days=KEPT_DAYS, seconds=1))
    assert await take(store, "old")
