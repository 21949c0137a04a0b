"""The relay on a real broker and real databases: killed, cut off and refused, it skips nothing and keeps order."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from harness.broker import Broker
from harness.processes import Processes
from harness.topics import Topics
from harness.waiting import until
from parley_common.kafka import Publisher
from parley_common.outbox import Relay
from parley_common.settings import KafkaSettings
from unit.common.stores import OUTBOX_TABLES, Store, make_tables, open_store

pytestmark = pytest.mark.kafka
TESTS = Path(__file__).parents[1]
PROGRAM = TESTS / "integration" / "outbox_program.py"
SENT_S = 30.0


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    await make_tables(database_url)
    async with open_store(database_url) as opened:
        yield opened


async def write(store: Store, topic: str, aggregate_id: str, *values: str) -> None:
    async with store.database.begin() as session:
        for value in values:
            await store.add(session, aggregate_id, value, topic=topic)


@asynccontextmanager
async def relaying(store: Store, bootstrap_servers: str) -> AsyncIterator[Relay]:
    publisher = Publisher(KafkaSettings(bootstrap_servers=bootstrap_servers), client_id="relay")
    await publisher.start()
    relay = Relay(store.database, OUTBOX_TABLES, publisher.publish, name="relay", poll_ms=50)
    store.outbox.on_commit(relay.wake)
    stop = asyncio.Event()
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(relay.run(stop))
            yield relay
            stop.set()
    finally:
        await publisher.aclose()


async def until_sent(store: Store) -> None:
    async def all_sent() -> bool:
        return not await store.unsent()

    await until(all_sent, SENT_S, "every row to be marked as sent")


async def values_by_key(topics: Topics, topic: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for record in await topics.read_all(topic):
        found.setdefault((record.key or b"").decode(), []).append((record.value or b"").decode())
    return found


async def test_facts_written_while_a_relay_runs_arrive_in_order_per_key(
    store: Store, topics: Topics, unique: Callable[[str], str]
) -> None:
    topic = await topics.create(unique("facts"), 3)
    async with relaying(store, topics.bootstrap_servers):
        for number in range(10):
            for lead in ("a", "b", "c", "d"):
                await write(store, topic, lead, f"{lead}{number}")
        await until_sent(store)
    expected = {lead: [f"{lead}{number}" for number in range(10)] for lead in ("a", "b", "c", "d")}
    assert await values_by_key(topics, topic) == expected


async def test_a_relay_killed_between_acknowledgement_and_mark_publishes_again_and_skips_nothing(
    store: Store, database_url: str, topics: Topics, processes: Processes, unique: Callable[[str], str]
) -> None:
    topic = await topics.create(unique("facts"))
    await write(store, topic, "a", "a1", "a2", "a3")
    argv = [sys.executable, str(PROGRAM), topics.bootstrap_servers, database_url, "a2"]
    killed = processes.start(argv, name="relay", env={"PYTHONPATH": str(TESTS)})
    await killed.wait_log("acknowledged a2", SENT_S)
    killed.kill9()
    assert await store.unsent() == ["a1", "a2", "a3"]
    async with relaying(store, topics.bootstrap_servers):
        await until_sent(store)
    assert await values_by_key(topics, topic) == {"a": ["a1", "a2", "a1", "a2", "a3"]}


async def test_facts_written_while_the_broker_is_away_go_out_in_order_when_it_is_back(
    store: Store, fresh_broker: Broker, unique: Callable[[str], str]
) -> None:
    topics = Topics(fresh_broker.bootstrap_servers)
    topic = await topics.create(unique("facts"))
    async with relaying(store, fresh_broker.bootstrap_servers):
        await write(store, topic, "a", "a1")
        await until_sent(store)
        await asyncio.to_thread(fresh_broker.stop)
        await write(store, topic, "a", "a2", "a3")
        await asyncio.to_thread(fresh_broker.start)
        await until_sent(store)
    values = (await values_by_key(topics, topic))["a"]
    assert list(dict.fromkeys(values)) == ["a1", "a2", "a3"], "each for the first time in its order"


async def test_a_record_that_the_broker_refuses_holds_back_its_own_aggregate_alone(
    store: Store, topics: Topics, kafka_broker: Broker, unique: Callable[[str], str]
) -> None:
    topic = await topics.create(unique("facts"), max_message_bytes="20000")
    # The embedded broker has no limit of its own: there the producer's is what refuses.
    huge = "x" * (2_000_000 if kafka_broker.kind == "embedded" else 30_000)
    await write(store, topic, "a", "a1", huge, "a3")
    await write(store, topic, "b", "b1", "b2")
    async with relaying(store, topics.bootstrap_servers):

        async def only_the_blocked_are_left() -> bool:
            return await store.unsent() == [huge, "a3"]

        await until(only_the_blocked_are_left, SENT_S, "everything else to be sent")
        await write(store, topic, "b", "b3")
        await until(only_the_blocked_are_left, SENT_S, "what came later to be sent too")
    assert await values_by_key(topics, topic) == {"a": ["a1"], "b": ["b1", "b2", "b3"]}
