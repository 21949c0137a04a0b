"""What operators see and do: deliveries on SQLite and on PostgreSQL, and the same over HTTP with the internal token."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from integration.notify_world import ROUTES, SECOND_LEAD, World, make_world
from parley_notify.docket import Docket, Wanted
from parley_notify.operators import Desk, add_operators
from parley_notify.policy import RetryPolicy
from unit.notify.samples import LEAD, captured, erased, opened, qualified

TOKEN = "the internal token"


@dataclass
class Office:
    """A migrated database with the docket of its deliveries."""

    world: World
    docket: Docket

    async def id_of(self, route_name: str, seq: int = 1) -> str:
        rows = await self.world.rows("delivery_id", "route", "seq", "subject_id")
        return next(str(row[0]) for row in rows if (row[1], row[2], row[3]) == (route_name, seq, LEAD))

    async def state(self, delivery_id: str) -> tuple[str, str | None]:
        shown = await self.docket.show(delivery_id)
        assert shown is not None
        return shown["state"], shown["cause"]

    async def claim(self, delivery_id: str) -> Any:
        """Claim until this delivery comes; null when it is not due."""
        while (claimed := await self.world.claim()) is not None:
            if claimed.delivery_id == delivery_id:
                return claimed
        return None


@pytest.fixture
async def office(database_url: str, tmp_path: Path) -> AsyncIterator[Office]:
    world = await make_world(database_url, tmp_path / "businesses", *ROUTES)
    yield Office(world, Docket(world.database, world.deliveries))
    await world.database.aclose()


async def test_the_list_is_the_newest_first_and_can_be_narrowed(office: Office) -> None:
    await office.world.take(captured())
    await office.world.clock.advance(1_000)
    await office.world.take(captured(SECOND_LEAD))
    await office.world.take(opened())
    everything = await office.docket.listed(Wanted())
    assert len(everything) == 5
    assert [row["subject_id"] for row in everything[-2:]] == [LEAD, LEAD]
    about = await office.docket.listed(Wanted(subject_id=LEAD, channel="webhook", state="pending"))
    assert [(row["route"], row["host"]) for row in about] == [("crm", "crm.example.com")]
    assert len(await office.docket.listed(Wanted(limit=2))) == 2
    assert await office.docket.listed(Wanted(business="nobody")) == []


async def test_nothing_personal_is_shown(office: Office) -> None:
    await office.world.take(captured())
    shown = [*await office.docket.listed(Wanted()), await office.docket.show(await office.id_of("sales"))]
    assert not [word for word in ("Dana", "sales@", "5550142", "/in") if word in str(shown)]


async def test_a_delivery_says_what_it_waits_for(office: Office) -> None:
    await office.world.take(captured())
    await office.world.take(qualified())
    first, second = await office.id_of("crm", 1), await office.id_of("crm", 2)
    shown = await office.docket.show(second)
    assert shown is not None
    assert shown["waits_for"] == first
    assert await office.docket.show("nobody") is None


async def test_a_failed_delivery_is_retried_with_its_id_and_a_whole_new_time_to_try(office: Office) -> None:
    await office.world.take(captured())
    delivery_id = await office.id_of("crm")
    await office.world.finish(await office.claim(delivery_id), "failed", "gave_up:http_503")
    await office.world.clock.advance(80 * 3_600_000)
    assert await office.docket.retry(delivery_id, office.world.clock.now()) == "done"
    again = await office.claim(delivery_id)
    assert (again.attempts, again.retried_at) == (2, office.world.clock.now())
    policy = RetryPolicy(5, 3_600, 72 * 3_600)
    assert (again.retried_at - again.created_at).total_seconds() > policy.give_up_s
    await office.world.finish(again)
    assert await office.state(delivery_id) == ("delivered", None)
    assert [fact["type"] for fact in await office.world.told()] == [
        "parley.delivery.failed.v1",
        "parley.delivery.delivered.v1",
    ]


async def test_what_waits_for_its_next_attempt_can_be_tried_at_once(office: Office) -> None:
    await office.world.take(captured())
    delivery_id = await office.id_of("crm")
    await office.world.retry(await office.claim(delivery_id), after_s=3_600)
    assert await office.claim(delivery_id) is None
    assert await office.docket.retry(delivery_id, office.world.clock.now()) == "done"
    assert await office.claim(delivery_id) is not None


async def test_an_attempt_under_way_a_delivered_and_an_erased_one_are_not_retried(office: Office) -> None:
    await office.world.take(captured())
    now, delivery_id = office.world.clock.now(), await office.id_of("crm")
    under_way = await office.claim(delivery_id)
    assert await office.docket.retry(delivery_id, now) == "under_way"
    await office.world.finish(under_way)
    assert await office.docket.retry(delivery_id, now) == "delivered"
    assert await office.docket.retry("nobody", now) == "unknown"
    await office.world.take(erased())
    assert await office.docket.retry(await office.id_of("sales"), now) == "erased"


async def test_a_cancelled_delivery_is_told_lets_the_next_go_and_its_attempt_settles_nothing(
    office: Office,
) -> None:
    await office.world.take(captured())
    await office.world.take(qualified())
    first, second = await office.id_of("crm", 1), await office.id_of("crm", 2)
    under_way = await office.claim(first)
    assert await office.docket.cancel(first, office.world.clock.now()) == "done"
    assert not await office.world.finish(under_way)
    assert await office.state(first) == ("cancelled", "by_operator")
    assert await office.claim(second) is not None
    (fact,) = await office.world.told()
    assert (fact["type"], fact["cause"]) == ("parley.delivery.cancelled.v1", "by_operator")
    assert await office.docket.cancel(first, office.world.clock.now()) == "finished"


async def test_cancelling_what_waits_for_a_later_attempt_lets_the_next_go_at_once(office: Office) -> None:
    await office.world.take(captured())
    first = await office.id_of("crm")
    await office.world.take(qualified())
    await office.world.retry(await office.claim(first), after_s=3_600)
    second = await office.id_of("crm", 2)
    assert await office.claim(second) is None
    assert await office.docket.cancel(first, office.world.clock.now()) == "done"
    assert await office.claim(second) is not None


async def test_cancelling_one_that_waits_behind_another_hurries_nobody(office: Office) -> None:
    await office.world.take(captured())
    await office.world.take(qualified())
    first = await office.id_of("crm")
    await office.world.retry(await office.claim(first), after_s=3_600)
    assert await office.docket.cancel(await office.id_of("crm", 2), office.world.clock.now()) == "done"
    assert await office.claim(first) is None


async def test_cancelling_again_after_a_retry_is_another_fact(office: Office) -> None:
    await office.world.take(captured())
    delivery_id = await office.id_of("crm")
    for _ in range(2):
        await office.docket.cancel(delivery_id, office.world.clock.now())
        await office.world.clock.advance(1_000)
        await office.docket.retry(delivery_id, office.world.clock.now())
    facts = await office.world.told()
    assert len({fact["id"] for fact in facts}) == 2
    assert [fact["seq"] for fact in facts] == [1, 2]


# -- over HTTP ------------------------------------------------------------------------------------


@asynccontextmanager
async def door(desk: Desk, office: Office, token: str = TOKEN) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    add_operators(app, desk, TOKEN, office.world.clock)
    transport = httpx.ASGITransport(app=app)
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://notify", headers=headers) as client:
        yield client


@pytest.mark.parametrize("path", ["/v1/deliveries", "/v1/dead-letters", "/v1/deliveries/x"])
async def test_nobody_without_the_token_sees_anything(office: Office, path: str) -> None:
    async with door(Desk(docket=office.docket), office, token="guessed") as client:
        assert (await client.get(path)).status_code == 401
        assert (await client.post("/v1/deliveries/x/cancel")).status_code == 401
        assert (await client.get(path, headers={"Authorization": ""})).status_code == 401


async def test_a_service_that_is_still_starting_says_so(office: Office) -> None:
    async with door(Desk(), office) as client:
        answer = await client.get("/v1/deliveries")
    assert (answer.status_code, answer.json()["detail"]) == (503, "the service is still starting")


async def test_deliveries_are_listed_shown_cancelled_and_retried_over_http(office: Office) -> None:
    await office.world.take(captured())
    delivery_id = await office.id_of("crm")
    async with door(Desk(docket=office.docket), office) as client:
        listed = (await client.get("/v1/deliveries", params={"route": "crm"})).json()
        assert [each["delivery_id"] for each in listed] == [delivery_id]
        assert (await client.post(f"/v1/deliveries/{delivery_id}/cancel")).status_code == 200
        assert (await client.get(f"/v1/deliveries/{delivery_id}")).json()["state"] == "cancelled"
        assert (await client.post(f"/v1/deliveries/{delivery_id}/cancel")).status_code == 409
        assert (await client.post(f"/v1/deliveries/{delivery_id}/retry")).status_code == 200
        assert (await client.get(f"/v1/deliveries/{delivery_id}")).json()["state"] == "pending"
        assert (await client.get("/v1/deliveries/nobody")).status_code == 404
        assert (await client.post("/v1/deliveries/nobody/retry")).status_code == 404
        assert (await client.get("/v1/deliveries", params={"state": "lost"})).status_code == 422
