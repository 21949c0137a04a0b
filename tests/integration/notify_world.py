"""One migrated database with the parts of notify that live on it, for tests of the delivery state machine."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

from parley_common.business import Business
from parley_common.clock import ManualClock
from parley_common.contracts.record import Fact
from parley_common.db import Database
from parley_common.outbox import Outbox
from parley_notify.app import MIGRATIONS
from parley_notify.deliveries import Deliveries, Settlement
from parley_notify.delivery import Delivery
from parley_notify.due import Capacity
from parley_notify.intake import Intake
from parley_notify.policy import Finish, Retry, Verdict
from parley_notify.routes import Defaults
from parley_notify.tables import deliveries as table
from parley_notify.tables import outbox as outbox_tables
from unit.notify.samples import AT, LEAD, business, envelope, route

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
        return next(iter(await self.claim_many(**skip)), None)

    async def claim_many(self, **capacity: Any) -> list[Delivery]:
        return await self.deliveries.claim(self.clock.now(), LEASE_S, Capacity(**capacity))

    async def claim_all(self) -> list[tuple[str, str, int]]:
        """Claim until nothing is left, as (route, subject, seq), sorted."""
        claimed = []
        while (delivery := await self.claim()) is not None:
            claimed.append((delivery.route, delivery.subject_id, delivery.seq))
        return sorted(claimed)

    async def finish(self, delivery: Delivery, state: Any = "delivered", cause: str | None = None) -> bool:
        return await self.settle(delivery, Finish(state, cause))

    async def retry(self, delivery: Delivery, after_s: float) -> bool:
        at = self.clock.now() + timedelta(seconds=after_s)
        return await self.settle(delivery, Retry(at, "http_503"))

    async def settle(self, delivery: Delivery, verdict: Verdict) -> bool:
        (written,) = await self.deliveries.settle([Settlement(delivery, verdict, self.clock.now())])
        return written

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


async def make_world(url: str, folder: Path, *routes: dict[str, Any], name: str = "harbor") -> World:
    database = Database(url, schema="notify")
    await database.migrate(MIGRATIONS)
    businesses: dict[str, Business] = {name: business(folder, *routes, name=name)}
    deliveries = Deliveries(database, Outbox(outbox_tables, source="notify"))
    clock = ManualClock(AT)
    woken: list[None] = []
    intake = Intake(
        database, deliveries, businesses, Defaults(), clock=clock, wake=lambda: woken.append(None)
    )
    return World(database, deliveries, intake, clock, woken)
