"""A caller for whom there is no room leaves a number at the gateway; a session replica has it done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI, Request

from fakes.session_service import FakeSessionService
from harness.ports import free_port, release
from harness.waiting import until
from parley_common.service import serve_http
from parley_gateway.admission import CALLBACKS_PER_MINUTE, AdmissionLimits
from parley_gateway.replicas import is_answering
from unit.gateway.world import World, running_gateway

ANN = {"business": "cap", "name": "Ann Reed", "phone": "312 555 0143"}
FULL = AdmissionLimits(sessions_max=0, address_opens_per_minute=0)


class Replica:
    """A session replica's HTTP: what it was asked, and what it answers."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] = {"say": "We will call you.", "reference": "K7", "code": None}
        self.asked: list[tuple[str | None, dict[str, Any]]] = []
        self.app = FastAPI()
        self.app.get("/readyz")(self._ready)
        self.app.post("/v1/callbacks")(self._take)

    async def _ready(self) -> dict[str, Any]:
        return {}

    async def _take(self, request: Request) -> dict[str, Any]:
        self.asked.append((request.headers.get("authorization"), await request.json()))
        return self.answer


@asynccontextmanager
async def world_with(replica: Replica, **parts: Any) -> AsyncIterator[World]:
    port, stop = free_port(), asyncio.Event()
    serving = asyncio.create_task(serve_http(replica.app, "127.0.0.1", port, stop))
    url = f"ws://127.0.0.1:{port}"
    try:
        await until(lambda: is_answering(url), why="the replica")
        parts = {"limits": FULL, "callbacks": frozenset({"cap"}), **parts}
        async with running_gateway(urls=["ws://127.0.0.1:9", url], **parts) as world:
            await until(lambda: world.gateway.replicas.ready_count, why="the replica to be probed")
            yield world
    finally:
        stop.set()
        await asyncio.wait({serving})
        release(port)


async def test_who_finds_every_line_busy_leaves_a_number_and_is_promised_a_call() -> None:
    replica = Replica()
    async with world_with(replica) as world, world.http() as http:
        assert (await http.post("/v1/tokens", json={"business": "cap"})).json()["error"]["code"] == "full"
        listed = (await http.get("/v1/businesses")).json()
        assert {each["name"]: each["callback"] for each in listed} == {"cap": True, "oak": False}
        answer = await http.post("/v1/callbacks", json={**ANN, "about": "a duplex"})
        assert (answer.status_code, answer.json()) == (200, {"say": "We will call you.", "reference": "K7"})
    ((token, asked),) = replica.asked
    assert token == "Bearer development-only"
    assert {**ANN, "about": "a duplex"}.items() <= asked.items()


@pytest.mark.parametrize(
    ("code", "status"), [("invalid_phone", 400), ("callback_not_offered", 404), ("callback_not_taken", 503)]
)
async def test_what_the_replica_refuses_is_refused_with_its_code(code: str, status: int) -> None:
    replica = Replica()
    replica.answer = {"say": "Which number?", "code": code}
    async with world_with(replica) as world, world.http() as http:
        answer = await http.post("/v1/callbacks", json=ANN)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


async def test_a_business_that_calls_nobody_back_says_so_and_nobody_is_asked() -> None:
    replica = Replica()
    async with world_with(replica) as world, world.http() as http:
        answer = await http.post("/v1/callbacks", json={**ANN, "business": "oak"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "callback_not_offered")
    assert replica.asked == []


async def test_one_address_cannot_fill_somebody_s_desk() -> None:
    replica = Replica()
    async with world_with(replica) as world, world.http() as http:
        codes = [
            (await http.post("/v1/callbacks", json=ANN)).status_code for _ in range(CALLBACKS_PER_MINUTE + 1)
        ]
    assert codes == [200] * CALLBACKS_PER_MINUTE + [429]


async def test_without_a_replica_nothing_is_promised() -> None:
    async with (
        FakeSessionService() as gone,
        running_gateway(gone, callbacks=frozenset({"cap"})) as world,
        world.http() as http,
    ):
        await gone.stop()
        answer = await http.post("/v1/callbacks", json=ANN)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "callback_not_taken")
