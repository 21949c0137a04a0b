"""Dead letters on a real process: what buried them, the limit that stops the service, and replay after the fault is gone."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from harness.broker import Broker
from harness.processes import Proc, Processes, machine_environment
from harness.topics import Topics
from harness.waiting import until
from harness.webhook_receiver import WebhookReceiver
from parley_common.contracts.record import Fact, fact_record
from parley_common.contracts.topics import LEAD_EVENTS, dead_letters
from parley_common.ids import new_id
from parley_common.kafka import Publisher
from parley_common.settings import KafkaSettings
from parley_common.topic_admin import apply_topics
from unit.notify.samples import AT, business, captured, erased, qualified, route

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

READY_S = 60.0
DONE_S = 90.0
NOTIFY = [sys.executable, "-m", "parley_notify.app"]
PARLEY = [sys.executable, "-m", "parley_launcher"]


@dataclass
class Deployment:
    """One notify with a Kafka and a PostgreSQL database of its own: what it buries is all there is."""

    env: dict[str, str]
    processes: Processes
    publisher: Publisher
    topics: Topics
    postgres_url: str
    port: int

    async def started(self) -> Proc:
        proc = self.processes.start(NOTIFY, name="notify", env=self.env)
        await proc.wait_ready(f"http://127.0.0.1:{self.port}/readyz", READY_S)
        return proc

    async def publish(self, *facts: Fact) -> list[str]:
        """Publish facts and return their ids."""
        ids = [new_id() for _ in facts]
        for fact, fact_id in zip(facts, ids, strict=True):
            await self.publisher.publish(fact_record(fact, source="tools", time=AT, fact_id=fact_id))
        return ids

    async def sql(self, statement: str) -> None:
        db = await asyncpg.connect(self.postgres_url.replace("+asyncpg", ""))
        try:
            await db.execute(statement)
        finally:
            await db.close()

    @asynccontextmanager
    async def broken(self) -> AsyncIterator[None]:
        """A bad deploy, as far as the handler can tell: every fact fails by a fault that is not the fact's."""
        await self.sql("ALTER TABLE notify.inbox RENAME TO inbox_away")
        try:
            yield
        finally:
            await self.sql("ALTER TABLE notify.inbox_away RENAME TO inbox")

    async def dead(self) -> list[Any]:
        return await self.topics.read_all(dead_letters(LEAD_EVENTS).name)

    async def parley(self, *args: str) -> tuple[int, str]:
        """Run the command to its end and return its exit code and what it said."""
        env = {**machine_environment(), **self.env, "COLUMNS": "250"}
        env = {
            name: value
            for name, value in env.items()
            if not name.startswith("NOTIFY_") or name == "NOTIFY_PORT"
        }
        running = await asyncio.create_subprocess_exec(
            *PARLEY, *args, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=env
        )
        async with asyncio.timeout(DONE_S):
            said, _ = await running.communicate()
        assert running.returncode is not None
        return running.returncode, said.decode()


@pytest.fixture
async def deployment(
    fresh_broker: Broker,
    postgres_url: str,
    processes: Processes,
    port: Callable[[], int],
    webhooks: WebhookReceiver,
    tmp_path: Path,
) -> AsyncIterator[Deployment]:
    facts = ("lead.captured", "lead.qualified")
    business(tmp_path / "businesses", route("crm", *facts, channel="webhook", to=webhooks.url))
    kafka = KafkaSettings(bootstrap_servers=fresh_broker.bootstrap_servers)
    await apply_topics(kafka)
    publisher = Publisher(kafka, client_id="test")
    await publisher.start()
    http_port = port()
    env = {
        "KAFKA_BOOTSTRAP_SERVERS": fresh_broker.bootstrap_servers,
        "PARLEY_STATE_DIR": str(tmp_path),
        "PARLEY_BUSINESSES_DIR": str(tmp_path / "businesses"),
        "NOTIFY_PORT": str(http_port),
        "NOTIFY_DATABASE_URL": postgres_url,
        "NOTIFY_HANDLER_RETRY_S": "0",
        "NOTIFY_POLL_MS": "50",
    }
    migrate = processes.start([*NOTIFY, "migrate"], name="migrate", env=env)
    assert await migrate.wait_exit(60) == 0, migrate.log_tail()
    topics = Topics(fresh_broker.bootstrap_servers)
    yield Deployment(env, processes, publisher, topics, postgres_url, http_port)
    await publisher.aclose()


async def test_a_bad_deploy_stops_the_service_at_its_20th_key_and_a_replay_after_the_fix_delivers_everything(
    deployment: Deployment, webhooks: WebhookReceiver
) -> None:
    proc = await deployment.started()
    leads = [new_id() for _ in range(30)]
    async with deployment.broken():
        ids = await deployment.publish(*(captured(lead) for lead in leads))
        assert await proc.wait_exit(DONE_S) == 1
        assert "handlers failed for 20 different keys in a row" in proc.log()
        assert "mend the handler and start again" in proc.log()
    letters = await deployment.dead()
    assert len(letters) == 19
    assert {letter.header("parley_dead_cause") for letter in letters} == {"ProgrammingError"}
    await deployment.started()
    await until(lambda: len(webhooks.requests) == 11, DONE_S, "what was never committed to be told")
    code, said = await deployment.parley("dead-letters", "replay", "--all")
    assert (code, said.count(": replayed")) == (0, 19), said
    await until(lambda: len(webhooks.requests) == 30, DONE_S, "what was replayed to be told")
    assert {body["id"] for body in webhooks.bodies()} == set(ids)
    assert (await deployment.parley("dead-letters", "replay", "--all"))[1].strip() == "nothing to replay"


async def test_a_replay_skips_erased_subjects_and_knows_what_it_did(
    deployment: Deployment, webhooks: WebhookReceiver
) -> None:
    await deployment.started()
    kept, gone = new_id(), new_id()
    async with deployment.broken():
        ids = await deployment.publish(captured(kept), captured(gone))

        async def buried() -> bool:
            return len(await deployment.dead()) == 2

        await until(buried, DONE_S, "both to be parked")
    await deployment.publish(erased(gone), qualified(kept))
    await until(lambda: webhooks.requests, DONE_S, "the fact behind to be told")
    listed = await deployment.parley("dead-letters", "list")
    assert listed[1].count("ProgrammingError") == 2
    assert not [word for word in ("Dana", "example.com") if word in listed[1]]
    code, said = await deployment.parley("dead-letters", "replay", "--cause", "ProgrammingError")
    assert (code, said.count(": replayed"), said.count(": erased subject")) == (0, 1, 1)
    await until(lambda: len(webhooks.requests) == 2, DONE_S, "the replayed one to be told")
    assert webhooks.bodies()[1]["id"] == ids[0]
    (letter,) = [each for each in await deployment.dead() if each.key == kept.encode()]
    place = f"{letter.topic}/{letter.partition}/{letter.offset}"
    assert "already replayed" in (await deployment.parley("dead-letters", "replay", place))[1]
    assert "ProgrammingError" in (await deployment.parley("dead-letters", "show", place))[1]
    # Sent again on purpose: the inbox knows it, and the receiver hears nothing.
    assert ": replayed" in (await deployment.parley("dead-letters", "replay", place, "--again"))[1]
    (marker,) = await deployment.publish(captured(new_id()))
    await until(lambda: webhooks.bodies()[-1]["id"] == marker, DONE_S, "a later fact to be told")
    assert len(webhooks.requests) == 3
    assert (await deployment.parley("dead-letters", "replay", f"{letter.topic}/0/99999"))[0] == 1


async def test_a_poison_record_lies_with_its_cause_and_deliveries_are_seen_from_the_terminal(
    deployment: Deployment, webhooks: WebhookReceiver
) -> None:
    proc = await deployment.started()
    lead = new_id()
    good = dict(fact_record(captured(lead), source="tools", time=AT).headers)
    await deployment.topics.produce(
        LEAD_EVENTS.name, b'{"seq": "x"}', key=lead.encode(), headers=list(good.items())
    )
    await deployment.publish(captured(lead))
    await until(lambda: webhooks.requests, DONE_S, "the fact behind it to be told")
    assert proc.is_running
    assert (
        "invalid_value" in (await deployment.parley("dead-letters", "list", "--topic", LEAD_EVENTS.name))[1]
    )
    assert (await deployment.parley("dead-letters", "list", "--topic", "parley.case.events"))[
        1
    ].strip() == "no dead letters"

    async def delivered() -> str:
        said = (await deployment.parley("deliveries", "list", "--state", "delivered"))[1]
        return said if "lead.captured.v1" in said else ""

    delivery_id = (await until(delivered, DONE_S, "the delivery to be marked")).splitlines()[1].split()[0]
    assert "lead.captured" in (await deployment.parley("deliveries", "show", delivery_id))[1]
    code, said = await deployment.parley("deliveries", "retry", delivery_id)
    assert (code, "it was delivered" in said) == (1, True)
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"http://127.0.0.1:{deployment.port}/v1/deliveries")
    assert answer.status_code == 401
    assert json.dumps("Dana") not in said
