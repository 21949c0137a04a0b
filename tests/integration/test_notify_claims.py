"""Claiming on SQLite and on PostgreSQL: order, leases, many workers, many at once; and what it reads to find them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, text

from integration.notify_world import LEASE_S, ROUTES, SECOND_LEAD, World, make_world
from parley_notify.due import DUE
from parley_notify.tables import deliveries as table
from unit.notify.samples import AT, CASE, LEAD, captured, opened, qualified


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    made = await make_world(database_url, tmp_path / "businesses", *ROUTES)
    yield made
    await made.database.aclose()


async def test_only_the_oldest_unfinished_delivery_of_a_lane_can_be_claimed(world: World) -> None:
    await world.take(captured())
    await world.take(qualified())
    await world.take(captured(SECOND_LEAD))
    await world.take(opened())
    assert await world.claim_all() == [
        ("crm", LEAD, 1),
        ("crm", SECOND_LEAD, 1),
        ("sales", LEAD, 1),
        ("sales", SECOND_LEAD, 1),
        ("sales", CASE, 1),
    ]


async def test_the_next_of_a_lane_is_free_once_the_one_before_is_finished(world: World) -> None:
    await world.take(captured())
    await world.take(qualified())
    for state in ("delivered", "failed"):
        delivery = await world.claim(skip_hosts=["example.com"])
        assert delivery is not None
        assert delivery.seq == (1 if state == "delivered" else 2)
        await world.finish(delivery, state, None if state == "delivered" else "http_410")
    assert [row for row in await world.rows("route", "seq", "state") if row[0] == "crm"] == [
        ("crm", 1, "delivered"),
        ("crm", 2, "failed"),
    ]


async def test_order_holds_while_a_destination_is_down_and_other_lanes_go_on(world: World) -> None:
    await world.take(captured())
    await world.take(qualified())
    down = await world.claim(skip_hosts=["example.com"])
    assert down is not None
    await world.retry(down, after_s=100)
    assert await world.claim_all() == [("sales", LEAD, 1)]
    await world.clock.advance(99_000)
    assert [claimed for claimed in await world.claim_all() if claimed[0] == "crm"] == []
    await world.clock.advance(1_000)
    assert [claimed for claimed in await world.claim_all() if claimed[0] == "crm"] == [("crm", LEAD, 1)]


async def test_what_arrives_while_the_head_waits_goes_right_after_it(world: World) -> None:
    await world.take(captured())
    head = await world.claim(skip_hosts=["example.com"])
    assert head is not None
    await world.take(qualified())
    await world.retry(head, after_s=50)
    await world.clock.advance(50_000)
    again = await world.claim(skip_hosts=["example.com"])
    assert again is not None
    assert (again.seq, again.attempts) == (1, 2)
    await world.finish(again)
    follower = await world.claim(skip_hosts=["example.com"])
    assert follower is not None
    assert follower.seq == 2


async def test_a_leased_delivery_is_not_claimed_twice(world: World) -> None:
    await world.take(captured())
    assert len(await world.claim_all()) == 2
    await world.clock.advance(int(LEASE_S * 1_000) - 1)
    assert await world.claim() is None


async def test_a_killed_workers_delivery_is_taken_again_when_its_lease_is_over(world: World) -> None:
    await world.take(captured())
    first = await world.claim(skip_hosts=["example.com"])
    assert first is not None
    await world.clock.advance(int(LEASE_S * 1_000))
    second = await world.claim(skip_hosts=["example.com"])
    assert second is not None
    assert second.delivery_id == first.delivery_id
    assert (first.retaken, second.retaken) == (False, True)
    assert (first.attempts, second.attempts) == (1, 2)


async def test_a_worker_whose_claim_was_overtaken_settles_nothing(world: World) -> None:
    await world.take(captured())
    slow = await world.claim(skip_hosts=["example.com"])
    assert slow is not None
    await world.clock.advance(int(LEASE_S * 1_000))
    fast = await world.claim(skip_hosts=["example.com"])
    assert fast is not None
    assert not await world.finish(slow, "failed", "http_410")
    assert await world.finish(fast)
    assert not await world.finish(fast)
    assert [fact["type"] for fact in await world.told()] == ["parley.delivery.delivered.v1"]


async def test_an_ordinary_retry_is_no_retaken_delivery(world: World) -> None:
    await world.take(captured())
    first = await world.claim(skip_hosts=["example.com"])
    assert first is not None
    await world.retry(first, after_s=0)
    again = await world.claim(skip_hosts=["example.com"])
    assert again is not None
    assert not again.retaken


async def test_what_this_process_holds_is_not_claimed_by_it_again(world: World) -> None:
    await world.take(captured())
    mine = await world.claim(skip_hosts=["example.com"])
    assert mine is not None
    await world.clock.advance(10 * int(LEASE_S * 1_000))
    assert await world.claim(skip_hosts=["example.com"], skip_ids=[mine.delivery_id]) is None


async def test_many_workers_claim_each_delivery_once(world: World) -> None:
    for number in range(10):
        await world.take(captured(f"{LEAD[:-2]}{number:02d}"))
    claimed: list[str] = []

    async def work() -> None:
        while (delivery := await world.claim()) is not None:
            claimed.append(delivery.delivery_id)

    async with asyncio.TaskGroup() as group:
        for _ in range(6):
            group.create_task(work())
    missed = await world.claim_all()  # a claim may pass over a row that another has locked
    assert len(claimed) == len(set(claimed))
    assert len(claimed) + len(missed) == 20


async def test_one_claim_takes_many_but_of_a_lane_one_and_of_a_host_what_it_has_room_for(
    world: World,
) -> None:
    for number in range(4):
        await world.take(captured(f"{LEAD[:-2]}{number:02d}"))
        await world.take(qualified(f"{LEAD[:-2]}{number:02d}"))
    room = {"example.com": 1}
    claimed = await world.claim_many(count=9, each=3, room=lambda host: room.get(host, 9))
    assert sorted((each.route, each.seq) for each in claimed) == [("crm", 1)] * 3 + [("sales", 1)]
    assert len({(each.route, each.subject_id) for each in claimed}) == 4
    assert {each.attempts for each in claimed} == {1}
    rest = await world.claim_many(count=3, each=9)
    assert len(rest) == 3
    assert not {each.delivery_id for each in rest} & {each.delivery_id for each in claimed}


async def test_of_what_one_claim_finds_the_longest_due_go_first(world: World) -> None:
    for number in range(3):
        await world.take(captured(f"{LEAD[:-2]}{number:02d}"))
        await world.clock.advance(1_000)
    claimed = await world.claim_many(count=2, each=9, skip_hosts=["example.com"])
    assert [each.subject_id[-2:] for each in claimed] == ["00", "01"]


async def test_what_comes_while_its_lane_waits_is_due_when_the_lane_is(world: World) -> None:
    """Else all that waits for one that is down would look due, and be read in vain at every claim."""
    await world.take(captured())
    head = await world.claim(skip_hosts=["example.com"])
    assert head is not None
    await world.retry(head, after_s=50)
    await world.take(qualified())
    rows = {row[:2]: row[2] for row in await world.rows("route", "seq", "next_at")}
    assert rows["crm", 2] == rows["crm", 1] == AT + timedelta(seconds=50)
    assert rows["sales", 2] == AT
    await world.clock.advance(50_000)
    for seq in (1, 2):
        delivery = await world.claim(skip_hosts=["example.com"])
        assert delivery is not None
        assert delivery.seq == seq
        await world.finish(delivery)


async def test_many_workers_claim_many_at_once_and_each_delivery_once(world: World) -> None:
    for number in range(10):
        await world.take(captured(f"{LEAD[:-2]}{number:02d}"))
    claimed: list[str] = []

    async def work() -> None:
        while found := await world.claim_many(count=3, each=2):
            claimed.extend(each.delivery_id for each in found)

    async with asyncio.TaskGroup() as group:
        for _ in range(6):
            group.create_task(work())
    claimed += [each.delivery_id for each in await world.claim_many(count=20, each=20)]
    assert len(claimed) == len(set(claimed)) == 20


async def test_what_waits_for_a_host_that_rests_is_not_read_to_find_what_is_due_elsewhere(
    postgres_url: str, tmp_path: Path
) -> None:
    """Two days of leads may wait for one CRM: the claims of all other routes must not pay for them."""
    world = await make_world(postgres_url, tmp_path / "businesses", *ROUTES)
    await world.take(captured())
    waiting = 2_000
    async with world.database.begin() as db:
        (row,) = (await db.execute(select(table).where(table.c.route == "crm"))).mappings().all()
        copies = [
            {
                **row,
                "delivery_id": f"d-{n:05}",
                "subject_id": f"lead-{n}",
                "created_at": AT - timedelta(days=1),
            }
            for n in range(waiting)
        ]
        await db.execute(insert(table), copies)
    async with world.database.engine.connect() as connection:
        await connection.execute(text("ANALYZE deliveries"))
        asked = {
            "now": world.clock.now(),
            "each": 8,
            "skip_hosts": ["crm.example.com"],
            "skip_ids": [""],
        }
        sql = DUE.compile(dialect=world.database.engine.dialect).construct_expanded_state(asked)
        explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {sql.statement}"
        values = tuple(sql.parameters[name] for name in sql.positiontup or ())
        plan = (await connection.exec_driver_sql(explain, values)).scalar_one()
    assert _rows_read(plan if isinstance(plan, list) else json.loads(plan)) < waiting / 10
    claimed = await world.claim(skip_hosts=["crm.example.com"])
    assert claimed is not None
    assert claimed.route == "sales"
    await world.database.aclose()


def _rows_read(node: Any) -> int:
    """Return how many rows the scans of a plan touched, those they threw away too."""
    if isinstance(node, list):
        return sum(map(_rows_read, node))
    if not isinstance(node, dict):
        return 0
    loops = node.get("Actual Loops", 1)
    own = (
        (node.get("Actual Rows", 0) + node.get("Rows Removed by Filter", 0)) * loops
        if "Scan" in str(node.get("Node Type"))
        else 0
    )
    return int(own) + sum(
        map(_rows_read, (value for value in node.values() if isinstance(value, (list, dict))))
    )
