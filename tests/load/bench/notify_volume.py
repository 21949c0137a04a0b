"""How many deliveries a second one notify process makes: facts that come all at once, told by webhook.

Every receiver is healthy and answers at once. With a dead route each fact is also for a receiver that nobody runs, so
that as many deliveries wait as are made. Limits for one destination are set far above what is measured.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from harness.http_server import Answer, HttpServer, Reply, Request
from harness.ports import free_port, release
from harness.topics import unique
from harness.waiting import until
from load.bench.ground import Around, Ground, environment
from load.bench.machine import cpu_s, on_core
from parley_common.contracts.record import Record, fact_record
from parley_common.contracts.topics import FACT_TOPICS
from parley_common.ids import new_id
from parley_common.kafka import Publisher
from parley_common.settings import KafkaSettings
from parley_common.topic_admin import apply_topics
from unit.notify.samples import AT, business, captured, route

IN_FLIGHT = 32
DELIVERIES_PER_S_MIN = 4.0
"""Slower than this the process is given up."""
FACTS_PER_LEAD = 4
SPARE_S = 30.0


@dataclass(frozen=True)
class Delivered:
    """What one notify process made of facts that came all at once."""

    database: str
    facts: int
    routes: int
    has_dead_route: bool
    due: int
    lost: int
    twice: int
    per_s: float
    """By the time from the facts' being published to the last delivery."""
    cpu_ms_per_delivery: float
    around: Around

    @property
    def is_whole(self) -> bool:
        """Say whether each delivery was made once."""
        return not (self.lost or self.twice)

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "is_whole": self.is_whole}


@dataclass
class Receiver:
    """Takes everything at once, and remembers what and when."""

    seen: Counter[str] = field(default_factory=Counter)
    """How often each delivery came, by its id."""
    last_s: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, request: Request) -> Answer:
        with self._lock:
            self.last_s = time.monotonic()
            self.seen[request.headers["parley-delivery"]] += 1
        return Reply(204)


async def measure_notify(ground: Ground, facts: int, routes: int, *, dead_route: bool = False) -> Delivered:
    """Start a notify process with so many routes to a healthy receiver, and give it the facts."""
    await apply_topics(KafkaSettings(bootstrap_servers=ground.servers))
    receiver, nobody, name = Receiver(), free_port(), unique("bench")[:20]
    with on_core(ground.lab.cores.rest):
        server = HttpServer(receiver.answer)
    told = [route(f"crm-{n}", channel="webhook", to=f"{server.url}/in") for n in range(routes)]
    if dead_route:
        told.append(route("dead", channel="webhook", to=f"http://127.0.0.1:{nobody}/in"))
    folder = ground.lab.folder / name
    business(folder / "businesses", *told, name=name)
    env = await _environment(ground, folder)
    await ground.migrate("parley_notify", env)
    try:
        with ground.service("parley_notify", env, "NOTIFY_PORT") as notify:
            pid = await notify.ready()
            look, used_s = ground.look(), cpu_s(pid)
            began_s = await publish(ground.servers, _facts(name, facts))
            due = facts * routes
            await _until_made(receiver, due)
            used_s = cpu_s(pid) - used_s
            around = look.around()
    finally:
        server.close()
        release(nobody)
    made = len(receiver.seen)
    return Delivered(
        database=ground.label,
        facts=facts,
        routes=routes,
        has_dead_route=dead_route,
        due=due,
        lost=due - made,
        twice=receiver.seen.total() - made,
        per_s=round(made / (receiver.last_s - began_s), 1),
        cpu_ms_per_delivery=round(1000 * used_s / max(1, made), 2),
        around=around,
    )


async def _environment(ground: Ground, folder: Path) -> dict[str, str]:
    group = unique("volume")
    await pass_over(ground.servers, group)
    return environment(
        ground.broker,
        PARLEY_STATE_DIR=folder,
        PARLEY_BUSINESSES_DIR=folder / "businesses",
        NOTIFY_DATABASE_URL=await ground.database(),
        NOTIFY_CONSUMER_GROUP=group,
        NOTIFY_IN_FLIGHT_MAX=IN_FLIGHT,
        NOTIFY_DESTINATION_IN_FLIGHT_MAX=IN_FLIGHT,
        NOTIFY_DESTINATION_RATE_PER_S=1000,
    )


async def _until_made(receiver: Receiver, due: int) -> None:
    """Wait for all deliveries; what is not there in time is lost, and counted as that."""
    try:
        within_s = SPARE_S + due / DELIVERIES_PER_S_MIN
        await until(lambda: len(receiver.seen) >= due, within_s, "everything to have arrived")
    except AssertionError:
        return


def _facts(name: str, count: int) -> list[Record]:
    leads = [new_id() for _ in range(max(1, count // FACTS_PER_LEAD))]
    told = [
        captured(leads[number % len(leads)], seq=number // len(leads) + 1, business=name)
        for number in range(count)
    ]
    return [fact_record(fact, source="tools", time=AT) for fact in told]


async def publish(servers: str, records: Iterable[Record]) -> float:
    """Publish all, each lead's in order; return when that began."""
    publisher = Publisher(KafkaSettings(bootstrap_servers=servers), client_id="volume")
    await publisher.start()
    by_key: dict[bytes, list[Record]] = {}
    for record in records:
        by_key.setdefault(record.key, []).append(record)

    async def in_order(own: list[Record]) -> None:
        for record in own:
            await publisher.publish(record)

    began_s = time.monotonic()
    try:
        await asyncio.gather(*(in_order(own) for own in by_key.values()))
    finally:
        await publisher.aclose()
    return began_s


async def pass_over(servers: str, group: str) -> None:
    """Have a group begin after all facts that are there already: they are another measurement's."""
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        parts = [TopicPartition(topic.name, n) for topic in FACT_TOPICS for n in range(topic.partitions)]
        consumer.assign(parts)
        await consumer.commit(await consumer.end_offsets(parts))
    finally:
        await consumer.stop()
