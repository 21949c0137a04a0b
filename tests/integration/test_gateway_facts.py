"""The facts of a session for the page: read from Kafka as they pass, shown to the bearer of that session's token."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from fakes.session_service import FakeSessionService
from harness.broker import Broker
from harness.ports import free_port
from harness.waiting import until
from parley_common.contracts.deliveries import DeliveryDelivered
from parley_common.contracts.leads import LeadQualified
from parley_common.contracts.people import Person
from parley_common.contracts.record import Fact, fact_record
from parley_common.contracts.sessions import SessionFeedback
from parley_common.kafka import Publisher
from parley_common.settings import KafkaSettings
from parley_common.topic_admin import apply_topics
from parley_gateway.facts_stream import WATCHERS_MAX, FactsWatch
from unit.gateway.world import World, running_gateway

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def feedback(session: str, rating: int) -> SessionFeedback:
    return SessionFeedback(session_id=session, business="cap", at=NOW, rating=rating)


def qualified(session: str, lead: str) -> LeadQualified:
    return LeadQualified(
        lead_id=lead,
        seq=1,
        business="cap",
        session_id=session,
        at=NOW,
        score=80,
        disposition="hot",
        person=Person(),
    )


def delivered(lead: str) -> DeliveryDelivered:
    return DeliveryDelivered(
        delivery_id="d", subject_id=lead, seq=1, business="cap", fact_id="f", fact_type_told="t", route="sales-email",
        channel="email", attempts=1, at=NOW,
    )  # fmt: skip


class Stream:
    """One open stream of events."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self.facts: list[dict[str, Any]] = []
        self.readers: list[str] = []

    async def read(self) -> None:
        kind = ""
        async for line in self.answer.aiter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                kind = value
            elif name == "data":
                data = json.loads(value)
                self.readers.append(data["state"]) if kind == "reader" else self.facts.append(data)


@asynccontextmanager
async def watching(world: World, session: str, token: str) -> AsyncIterator[Stream]:
    async with (
        world.http() as http,
        http.stream(
            "GET", f"/v1/sessions/{session}/facts", headers={"authorization": f"Bearer {token}"}, timeout=None
        ) as answer,
    ):
        assert answer.status_code == 200, await answer.aread()
        stream = Stream(answer)
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(stream.read())
            yield stream
            reading.cancel()


@asynccontextmanager
async def gateway_with_facts(bootstrap_servers: str) -> AsyncIterator[tuple[World, FactsWatch]]:
    facts = FactsWatch(KafkaSettings(bootstrap_servers=bootstrap_servers))
    async with FakeSessionService() as service, asyncio.TaskGroup() as group:
        running = group.create_task(facts.run())
        async with running_gateway(service, facts=facts) as world:
            yield world, facts
            facts.close()
        running.cancel()


async def ticket(world: World) -> tuple[str, str]:
    async with world.http() as http:
        body = (await http.post("/v1/tokens", json={"business": "cap"})).json()
        return body["session_id"], body["facts_token"]


@asynccontextmanager
async def publisher(bootstrap_servers: str) -> AsyncIterator[Callable[[Fact], Any]]:
    settings = KafkaSettings(bootstrap_servers=bootstrap_servers)
    await apply_topics(settings)
    writer = Publisher(settings, client_id="test")
    await writer.start()

    async def publish(fact: Fact) -> None:
        await writer.publish(fact_record(fact, source="test", time=datetime.now(UTC)))

    try:
        yield publish
    finally:
        await writer.aclose()


async def test_a_page_sees_the_facts_of_its_own_session_and_of_no_other(bootstrap_servers: str) -> None:
    async with (
        publisher(bootstrap_servers) as publish,
        gateway_with_facts(bootstrap_servers) as (world, facts),
    ):
        (mine, my_token), (other, other_token) = await ticket(world), await ticket(world)
        await publish(feedback(mine, 1))
        async with watching(world, mine, my_token) as me, watching(world, other, other_token) as they:
            await until(lambda: me.readers[-1:] == ["reading"], 20, "the reader")
            await publish(qualified(other, f"lead-of-{other}"))
            await publish(delivered(f"lead-of-{other}"))
            await publish(delivered("lead-of-nobody"))
            await publish(feedback(mine, 5))
            await until(lambda: len(me.facts) == 2 and len(they.facts) == 2, 20, "two facts each")
            assert [fact["value"]["rating"] for fact in me.facts] == [1, 5], "the one before we watched, too"
            assert [fact["type"] for fact in they.facts] == [
                "parley.lead.qualified.v1",
                "parley.delivery.delivered.v1",
            ]
            assert me.facts[0]["id"] != me.facts[1]["id"]
        await until(lambda: not facts.watchers_count, why="nobody to watch")
        await until(lambda: not facts.is_reading, 10, "the reader to rest")


async def test_while_kafka_is_away_the_gateway_serves_and_the_stream_says_so(fresh_broker: Broker) -> None:
    servers = fresh_broker.bootstrap_servers
    async with publisher(servers) as publish:
        await publish(feedback("warm-up", 3))
    await asyncio.to_thread(fresh_broker.stop)
    async with gateway_with_facts(servers) as (world, _):
        session, token = await ticket(world)
        async with watching(world, session, token) as stream:
            await until(lambda: "unavailable" in stream.readers, 30, "the word that Kafka is away")
            async with world.session():
                pass
            await asyncio.to_thread(fresh_broker.start)
            await until(lambda: stream.readers[-1] == "reading", 40, "the reader to come back")
            async with publisher(servers) as publish:
                await publish(feedback(session, 4))
            await until(lambda: stream.facts, 20, "the fact")


@pytest.mark.parametrize(
    "how", ["none", "other_session", "open_token", "nonsense", "expired", "in_the_address"]
)
async def test_whoever_lacks_the_sessions_own_facts_token_sees_nothing(how: str) -> None:
    async with gateway_with_facts(f"127.0.0.1:{free_port()}") as (world, facts), world.http() as http:
        session, token = await ticket(world)
        _, other_token = await ticket(world)
        past = world.gateway.clock.now() - timedelta(hours=2)
        shown = {
            "none": None,
            "other_session": other_token,
            "open_token": world.token(),
            "nonsense": "a.b.c",
            "expired": world.gateway.tokens.issue_facts(session, past),
            "in_the_address": None,
        }[how]
        headers = {"authorization": f"Bearer {shown}"} if shown else {}
        query = f"?token={token}" if how == "in_the_address" else ""
        answer = await http.get(f"/v1/sessions/{session}/facts{query}", headers=headers)
        expected = {
            "none": (401, "unauthorized"),
            "in_the_address": (401, "unauthorized"),
            "other_session": (403, "other_session"),
            "open_token": (401, "token_invalid"),
            "nonsense": (401, "token_invalid"),
            "expired": (401, "token_expired"),
        }[how]
        assert (answer.status_code, answer.json()["error"]["code"]) == expected
        assert facts.watchers_count == 0


async def test_watchers_are_bounded_and_a_slow_one_loses_the_oldest() -> None:
    facts = FactsWatch(KafkaSettings(bootstrap_servers="127.0.0.1:1"))
    with facts.watch("s") as slow:
        for number in range(300):
            slow.tell(slow.waiting[0].__class__("fact", {"n": number}))
        assert len(slow.waiting) == slow.waiting.maxlen
        assert slow.waiting[-1].data == {"n": 299}
    async with gateway_with_facts(f"127.0.0.1:{free_port()}") as (world, crowded), world.http() as http:
        session, token = await ticket(world)
        kept = [crowded.watch("others") for _ in range(WATCHERS_MAX)]
        for watch in kept:
            watch.__enter__()
        answer = await http.get(f"/v1/sessions/{session}/facts", headers={"authorization": f"Bearer {token}"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "too_many_watchers")
        for watch in kept:
            watch.__exit__(None, None, None)
