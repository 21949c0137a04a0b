"""Intake and settling on SQLite and on PostgreSQL: one fact, its deliveries once; facts told, erasing, pruning."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, select

from integration.notify_world import ROUTES, SECOND_LEAD, World, make_world
from parley_common.contracts.sessions import SessionFeedback
from parley_common.db import Database
from parley_common.errors import InvalidRecord
from parley_common.outbox import Outbox
from parley_notify.app import MIGRATIONS
from parley_notify.deliveries import Deliveries, Settlement
from parley_notify.policy import Finish, Retry
from parley_notify.tables import inbox, metadata
from parley_notify.tables import outbox as outbox_tables
from unit.notify.samples import AT, CASE, LEAD, captured, erased, opened, qualified


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


async def test_many_are_settled_together_and_an_overtaken_one_spoils_none(world: World) -> None:
    await world.take(captured())
    await world.take(captured(SECOND_LEAD))
    claimed = await world.claim_many(count=9, each=9)
    overtaken = replace(claimed[0], attempts=7)
    verdicts = [Finish("failed", "http_410"), *[Finish("delivered", None)] * 2, Retry(AT, "http_503")]
    settled = [
        Settlement(told, verdict, AT)
        for told, verdict in zip([overtaken, *claimed[1:]], verdicts, strict=True)
    ]
    assert await world.deliveries.settle(settled) == [False, True, True, True]
    states = {row[0]: row[1:] for row in await world.rows("delivery_id", "state", "cause")}
    assert [states[each.delivery_id] for each in claimed] == [
        ("pending", None),
        ("delivered", None),
        ("delivered", None),
        ("pending", "http_503"),
    ]
    assert len(await world.told()) == 2


async def test_replicas_that_settle_the_same_leads_at_once_wait_for_each_other_and_both_end(
    world: World,
) -> None:
    """They share the leads, not the lanes: their locks must not form a ring."""
    for number in range(30):
        await world.take(captured(f"{LEAD[:-2]}{number:02d}"))
    claimed = await world.claim_many(count=60, each=60)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for name in ("crm", "sales"):
            lanes = [each for each in claimed if each.route == name]
            settled = [Settlement(each, Finish("delivered", None), AT) for each in lanes]
            group.create_task(world.deliveries.settle(settled))
    assert {row[0] for row in await world.rows("state")} == {"delivered"}
    assert sorted(fact["seq"] for fact in await world.told()) == sorted([1, 2] * 30)


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
