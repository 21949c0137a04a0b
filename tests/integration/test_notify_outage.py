"""An hour without the database, compressed: as many waits as an hour has, and nothing is buried or lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.engine import make_url

from harness.fault_proxy import FaultProxy
from harness.topics import Topics
from harness.waiting import until
from parley_common.clock import SystemClock
from parley_common.contracts.record import Envelope, Fact, fact_record
from parley_common.contracts.topics import LEAD_EVENTS, dead_letters
from parley_common.db import Database
from parley_common.ids import new_id
from parley_common.kafka import Publisher
from parley_common.outbox import Outbox
from parley_common.settings import KafkaSettings
from parley_common.settling import FactConsumer, RetryBudget
from parley_common.topic_admin import apply_topics
from parley_notify.app import MIGRATIONS
from parley_notify.deliveries import Deliveries
from parley_notify.intake import Intake
from parley_notify.routes import Defaults
from parley_notify.tables import deliveries as table
from parley_notify.tables import outbox as outbox_tables
from unit.notify.samples import AT, business, captured, route

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

WAITS_OF_AN_HOUR = 3_600 // 15
"""At its longest, a consumer waits 15 s between two looks."""
COMPRESSED = RetryBudget(retry_ms=200, first_backoff_ms=10, backoff_max_ms=20, unavailable_backoff_max_ms=15)


async def test_an_hour_without_the_database_buries_nothing_and_is_made_up_for(
    bootstrap_servers: str, topics: Topics, postgres_url: str, unique: Callable[[str], str], tmp_path: Path
) -> None:
    kafka = KafkaSettings(bootstrap_servers=bootstrap_servers)
    await apply_topics(kafka)
    group, name = unique("notify"), unique("b")[:20]
    harbor = business(tmp_path, route(), name=name)
    publisher = Publisher(kafka, client_id=group)
    await publisher.start()
    url = make_url(postgres_url)
    assert url.port is not None
    async with FaultProxy(url.port) as proxy:
        through = url.set(port=proxy.port).render_as_string(hide_password=False)
        database = Database(through, schema="notify")
        await database.migrate(MIGRATIONS)
        deliveries = Deliveries(database, Outbox(outbox_tables, source="notify"))
        intake = Intake(
            database, deliveries, {name: harbor}, Defaults(), clock=SystemClock(), wake=lambda: None
        )
        looks = 0

        async def take(envelope: Envelope, fact: Fact) -> None:
            nonlocal looks
            looks += 1
            await intake.take(envelope, fact)

        async def stored() -> int:
            async with database.begin() as db:
                count: int = (await db.execute(select(func.count()).select_from(table))).scalar_one()
                return count

        consumer = FactConsumer(
            kafka, publisher, topics=[LEAD_EVENTS], group=group, handler=take, budget=COMPRESSED
        )
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(consumer.run(stop))
            await proxy.refuse()
            leads = [new_id() for _ in range(25)]
            for lead in leads:
                fact = captured(lead, business=name)
                await publisher.publish(fact_record(fact, source="tools", time=AT))
            await until(lambda: looks >= WAITS_OF_AN_HOUR, 120, "an hour's worth of waits")
            await proxy.accept()

            async def all_stored() -> bool:
                return await stored() == len(leads)

            await until(all_stored, 60, "every fact to be taken in")
            stop.set()
        await database.aclose()
    await publisher.aclose()
    letters = await topics.read_all(dead_letters(LEAD_EVENTS).name)
    assert [letter for letter in letters if (letter.key or b"").decode() in leads] == []
