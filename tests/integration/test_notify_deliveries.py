"""The delivery state machine, on SQLite and on PostgreSQL: order, leases, settling, erasing, facts told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, insert, select, text

from parley_common.business import Business
from parley_common.clock import ManualClock
from parley_common.contracts.record import Fact
from parley_common.contracts.sessions import SessionFeedback
from parley_common.db import Database
from parley_common.errors import InvalidRecord
from parley_common.outbox import Outbox
from parley_notify.app import MIGRATIONS
from parley_notify.deliveries import Deliveries, _due
from parley_notify.delivery import Delivery
from parley_notify.intake import Intake
from parley_notify.policy import Finish, Retry
from parley_notify.routes import Defaults
from parley_notify.tables import deliveries as table
from parley_notify.tables import inbox, metadata
from parley_notify.tables import outbox as outbox_tables
from unit.notify.samples import AT, CASE, LEAD, business, captured, envelope, erased, opened, qualified, route

LEASE_S = 60.0
SECOND_LEAD = LEAD[:-1] + "f"
ROUTES = (
    route("sales", "lead.captured", "lead.qualified", "lead.erased", "case.opened"),
    route("crm", "lead.captured", "lead.qualified", channel="webhook", to="https://crm.example.com/in"),
)


@dataclass
class World:
    """One migrated database, and the parts of notify that live on it."""

    database: Database
    deliveries: Deliveries
    intake: Intake
    clock: ManualClock
    woken: list[None]

    async def take(self, fact: Fact, fact_id: str | None = None) -> None:
        await self.intake.take(envelope(fact, fact_id), fact)

    async def claim(self, **skip: Any) -> Delivery | None:
        return await self.deliveries.claim(self.clock.now(), LEASE_S, **skip)

    async def claim_all(self) -> list[tuple[str, str, int]]:
        """Claim until nothing is left, as (route, subject, seq), sorted."""
        claimed = []
        while (delivery := await self.claim()) is not None:
            claimed.append((delivery.route, delivery.subject_id, delivery.seq))
        return sorted(claimed)

    async def finish(self, delivery: Delivery, state: Any = "delivered", cause: str | None = None) -> bool:
        return await self.deliveries.settle(delivery, Finish(state, cause), self.clock.now())

    async def retry(self, delivery: Delivery, after_s: float) -> bool:
        at = self.clock.now() + timedelta(seconds=after_s)
        return await self.deliveries.settle(delivery, Retry(at, "http_503"), self.clock.now())

    async def rows(self, *columns: str) -> list[Any]:
        query = select(*(table.c[name] for name in columns)).order_by(table.c.route, table.c.seq)
        async with self.database.begin() as db:
            return [tuple(row) for row in (await db.execute(query)).all()]

    async def told(self) -> list[dict[str, Any]]:
        """Return the delivery facts in the outbox, oldest first, with their type and id."""
        rows = outbox_tables.rows
        async with self.database.begin() as db:
            found = (await db.execute(select(rows).order_by(rows.c.id))).all()
        return [
            {"type": dict(row.headers)["ce_type"], "id": dict(row.headers)["ce_id"], **json.loads(row.value)}
            for row in found
        ]


async def make_world(url: str, folder: Path, *routes: dict[str, Any]) -> World:
    database = Database(url, schema="notify")
    await database.migrate(MIGRATIONS)
    businesses: dict[str, Business] = {"harbor": business(folder, *routes)}
    deliveries = Deliveries(database, Outbox(outbox_tables, source="notify"))
    clock = ManualClock(AT)
    woken: list[None] = []
    intake = Intake(
        database, deliveries, businesses, Defaults(), clock=clock, wake=lambda: woken.append(None)
    )
    return World(database, deliveries, intake, clock, woken)


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    made = await make_world(database_url, tmp_path / "businesses", *ROUTES)
    yield made
    await made.database.aclose()


async def test_the_migrated_database_is_what_the_code_declares(world: World) -> None:
    def differences(connection: Connection) -> list[Any]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    async with world.database.engine.connect() as connection:
        found = await connection.run_sync(differences)
    assert [difference for difference in found if "alembic_version" not in str(difference)] == []


async def test_migrating_again_changes_nothing_and_loses_nothing(world: World) -> None:
    await world.take(captured())
    await world.database.migrate(MIGRATIONS)
    assert len(await world.rows("delivery_id")) == 2


async def test_tables_that_are_missing_are_noticed(database_url: str) -> None:
    database = Database(database_url, schema="notify")
    deliveries = Deliveries(database, Outbox(outbox_tables, source="notify"))
    assert not await deliveries.is_migrated()
    await database.migrate(MIGRATIONS)
    assert await deliveries.is_migrated()
    await database.aclose()


async def test_a_fact_becomes_one_delivery_per_route_and_wakes_the_workers(world: World) -> None:
    await world.take(captured())
    assert await world.rows("route", "state", "attempts") == [("crm", "pending", 0), ("sales", "pending", 0)]
    assert len(world.woken) == 1


async def test_a_fact_that_comes_twice_causes_its_deliveries_once(world: World) -> None:
    await world.take(captured(), "f-1")
    first = await world.rows("delivery_id")
    await world.take(captured(), "f-1")
    assert await world.rows("delivery_id") == first
    assert len(world.woken) == 1


async def test_a_fact_whose_storing_failed_is_taken_in_when_it_comes_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> None:
        raise RuntimeError("in the middle of the transaction")

    with monkeypatch.context() as broken:
        broken.setattr(world.deliveries, "add", fail)
        with pytest.raises(RuntimeError):
            await world.take(captured(), "f-1")
    await world.take(captured(), "f-1")
    assert len(await world.rows("delivery_id")) == 2


async def test_an_unknown_business_causes_nothing_and_is_no_error(world: World) -> None:
    await world.take(captured(business="nobody"))
    assert await world.rows("delivery_id") == []


async def test_a_fact_without_a_route_is_not_remembered_so_that_a_replay_can_still_tell_it(
    world: World,
) -> None:
    await world.take(captured(business="nobody"))
    async with world.database.begin() as db:
        assert (await db.execute(select(inbox))).all() == []


async def test_a_fact_of_another_topic_is_refused_as_a_record(world: World) -> None:
    fact = SessionFeedback.model_validate(
        {"session_id": "s", "seq": 1, "business": "harbor", "at": AT, "rating": 5}
    )
    with pytest.raises(InvalidRecord):
        await world.take(fact)


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


async def test_a_finished_delivery_is_told_in_the_same_transaction(world: World) -> None:
    await world.take(captured(), "f-1")
    await world.take(opened())
    outcomes = {"crm": ("failed", "http_410"), "sales": ("delivered", None)}
    while (delivery := await world.claim()) is not None:
        await world.finish(delivery, *outcomes[delivery.route])
    facts = {(fact["subject_id"], fact["route"]): fact for fact in await world.told()}
    failed = facts[LEAD, "crm"]
    assert failed["type"] == "parley.delivery.failed.v1"
    assert failed["cause"] == "http_410"
    assert (failed["fact_id"], failed["fact_type_told"]) == ("f-1", "parley.lead.captured.v1")
    assert (failed["channel"], failed["business"], failed["attempts"]) == ("webhook", "harbor", 1)
    assert facts[CASE, "sales"]["type"] == "parley.delivery.delivered.v1"
    assert sorted(fact["seq"] for key, fact in facts.items() if key[0] == LEAD) == [1, 2]


async def test_delivery_facts_hold_no_personal_data(world: World) -> None:
    await world.take(captured())
    while (delivery := await world.claim()) is not None:
        await world.finish(delivery)
    text = json.dumps(await world.told())
    assert not [word for word in ("Dana", "example.com", "5550142") if word in text]


async def test_erasing_a_lead_cancels_what_is_unfinished_and_removes_its_data(world: World) -> None:
    await world.take(captured())
    await world.take(qualified())
    done = await world.claim(skip_hosts=["example.com"])
    assert done is not None
    await world.finish(done)
    await world.take(captured(SECOND_LEAD))
    await world.take(erased())
    rows = await world.rows("subject_id", "route", "seq", "state", "cause", "payload")
    about = [row[1:5] for row in rows if row[0] == LEAD]
    assert about == [
        ("crm", 1, "delivered", None),
        ("crm", 2, "cancelled", "subject_erased"),
        ("sales", 1, "cancelled", "subject_erased"),
        ("sales", 2, "cancelled", "subject_erased"),
        ("sales", 9, "pending", None),
    ]
    assert [row[5] for row in rows if row[0] == LEAD and row[2] != 9] == [None] * 4
    assert all(row[5] for row in rows if row[0] == SECOND_LEAD)
    cancelled = [fact for fact in await world.told() if fact["type"] == "parley.delivery.cancelled.v1"]
    assert [fact["cause"] for fact in cancelled] == ["subject_erased"] * 3


async def test_the_erasure_itself_is_still_told(world: World) -> None:
    await world.take(captured())
    await world.take(erased())
    delivery = await world.claim()
    assert delivery is not None
    assert delivery.fact_type == "parley.lead.erased.v1"
    assert "Dana" not in str(delivery.payload)


async def test_a_delivery_erased_in_the_middle_of_its_attempt_is_not_settled(world: World) -> None:
    await world.take(captured())
    held = await world.claim(skip_hosts=["example.com"])
    assert held is not None
    await world.take(erased())
    assert not await world.finish(held)
    assert not await world.retry(held, after_s=1)


async def test_a_fact_of_an_erased_lead_that_comes_late_is_never_told(world: World) -> None:
    await world.take(erased())
    await world.take(captured())
    assert [row for row in await world.rows("seq", "payload") if row[0] == 1] == []


async def test_erasing_and_settling_at_the_same_time_wait_for_each_other_and_both_end(world: World) -> None:
    for number in range(5):
        lead = f"{LEAD[:-2]}{number:02d}"
        await world.take(captured(lead))
        await world.take(qualified(lead))
    held = [delivery for _ in range(10) if (delivery := await world.claim()) is not None]
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for delivery in held:
            group.create_task(world.finish(delivery))
        for number in range(5):
            group.create_task(world.take(erased(f"{LEAD[:-2]}{number:02d}")))
    states = {row[0] for row in await world.rows("state", "seq") if row[1] != 9}
    assert "pending" not in states
    assert len({(fact["delivery_id"]) for fact in await world.told()}) == len(await world.told()) == 20


async def test_the_backlog_is_counted_by_channel_with_the_age_of_its_oldest(world: World) -> None:
    await world.take(captured())
    await world.clock.advance(5_000)
    await world.take(captured(SECOND_LEAD))
    backlog = await world.deliveries.backlog(world.clock.now())
    assert backlog == {"email": (2, 5.0), "webhook": (2, 5.0)}


async def test_pruning_removes_only_what_finished_long_ago(world: World) -> None:
    await world.take(captured())
    delivery = await world.claim(skip_hosts=["example.com"])
    assert delivery is not None
    await world.finish(delivery)
    await world.clock.advance(86_400_000 * 31)
    await world.deliveries.prune(world.clock.now(), kept_days=30)
    assert await world.rows("route", "state") == [("sales", "pending")]


async def test_a_replay_after_pruning_is_still_a_repeat_while_its_topic_could_hold_it(world: World) -> None:
    await world.take(captured(), "f-1")
    await world.clock.advance(86_400_000 * 31)
    await world.deliveries.prune(world.clock.now(), kept_days=30)
    await world.take(captured(), "f-1")
    assert len(world.woken) == 1


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
        asked = _due(world.clock.now(), ["crm.example.com"], ()).compile(
            dialect=world.database.engine.dialect, compile_kwargs={"render_postcompile": True}
        )
        values = tuple(asked.params[name] for name in asked.positiontup)
        explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {asked}"
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
