"""The ledger of notify: were all leads told, each once, in order, while everything around it broke?

    .venv/bin/python tests/load/notify_ledger.py [--facts 10000] [--kills 20] [--broker-restarts 2] [--seed 7]

A real notify process on a real Kafka and PostgreSQL tells lead facts on four routes: two webhooks whose receivers fail
three times in ten (500, silence, a reset; half of the latter two after they had taken it), one webhook where nobody
ever listens, and e-mail over SMTP. Meanwhile notify is killed (-9) at random moments, the broker and the database are
restarted, and some records are published twice. A receiver takes effect once per Parley-Delivery, as documented.

Law of the run: every lead exactly once in effect on every live webhook route, in order per lead; what is for the dead
route waits; nothing is lost, and nothing in the dead letters. E-mail may repeat after a kill, and is counted.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import asyncpg

from fakes.smtp import FakeSmtp
from harness.broker import Broker
from harness.kafka import start_broker
from harness.ports import free_port, release
from harness.postgres import LocalPostgres, create_database, url_text
from harness.processes import Proc, Processes
from harness.topics import Topics, unique
from harness.waiting import until
from load.failing_receiver import FailingReceiver
from parley_common.contracts.leads import LeadUpdated
from parley_common.contracts.record import Fact, Record, fact_record
from parley_common.contracts.topics import LEAD_EVENTS, dead_letters
from parley_common.errors import DependencyUnavailable
from parley_common.ids import new_id
from parley_common.kafka import Publisher
from parley_common.settings import KafkaSettings
from parley_common.topic_admin import apply_topics
from unit.notify.samples import AT, DANA, business, captured, qualified, route

LIVE = ("crm-a", "crm-b")
DEAD, MAIL = "crm-dead", "mail"
FACTS_PER_LEAD = 4
ATTEMPT_S = 2
DOUBLED = 0.02
NOTIFY = [sys.executable, "-m", "parley_notify.app"]


@dataclass(frozen=True)
class Plan:
    """What is to be told, and what is to break meanwhile."""

    facts: int = 10_000
    kills: int = 20
    broker_restarts: int = 2
    database_restarts: int = 1
    seed: int = 7
    deadline_s: float = 3_600.0


@dataclass
class Ledger:
    """What came of it."""

    facts: int
    leads: int
    published: int
    kills: int = 0
    broker_restarts: int = 0
    database_restarts: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    twice_in_effect: dict[str, int] = field(default_factory=dict)
    out_of_order: dict[str, int] = field(default_factory=dict)
    arrivals: dict[str, int] = field(default_factory=dict)
    failures: dict[str, Counter[str]] = field(default_factory=dict)
    emails: int = 0
    email_repeats: int = 0
    dead_route_waiting: int = 0
    dead_route_other: int = 0
    dead_letters: int = 0
    took_s: float = 0.0

    @property
    def is_balanced(self) -> bool:
        wrong = [*self.lost.values(), *self.twice_in_effect.values(), *self.out_of_order.values()]
        return not any(wrong) and not self.dead_letters and self.dead_route_waiting == self.facts

    def text(self) -> str:
        rows = [
            ("facts", f"{self.facts} about {self.leads} leads, {self.published} records published"),
            ("kill -9", f"{self.kills}"),
            ("restarts", f"broker {self.broker_restarts}, database {self.database_restarts}"),
        ]
        for name in LIVE:
            told = ", ".join(f"{count} {how}" for how, count in sorted(self.failures[name].items()))
            rows.append(
                (name, f"{self.facts - self.lost[name]} in effect of {self.facts}; lost {self.lost[name]}")
            )
            rows.append(
                ("", f"twice in effect {self.twice_in_effect[name]}, out of order {self.out_of_order[name]}")
            )
            rows.append(("", f"{self.arrivals[name]} arrivals, of which failed: {told}"))
        rows += [
            (DEAD, f"{self.dead_route_waiting} waiting, {self.dead_route_other} not"),
            (
                MAIL,
                f"{self.emails} told of {self.facts}; lost {self.lost[MAIL]}, repeats {self.email_repeats}",
            ),
            ("dead letters", f"{self.dead_letters}"),
            ("took", f"{self.took_s:.0f} s"),
            ("the ledger", "balances" if self.is_balanced else "DOES NOT BALANCE"),
        ]
        return "\n".join(f"{name:<14}{value}" for name, value in rows)


@dataclass
class World:
    """Everything around the process under test."""

    plan: Plan
    broker: Broker
    postgres: LocalPostgres
    database: str
    processes: Processes
    env: dict[str, str]
    receivers: dict[str, FailingReceiver]
    smtp: FakeSmtp
    business: str
    random: random.Random
    proc: Proc | None = None
    letters: Counter[str] = field(default_factory=Counter)
    """How often each Message-ID came, as far as it was counted."""
    counted: int = 0

    def start_notify(self) -> None:
        self.proc = self.processes.start(NOTIFY, name="notify", env=self.env)

    def told(self) -> int:
        """Return how many facts took effect or were mailed, on live routes, in all."""
        return sum(len(each.effects) for each in self.receivers.values()) + len(self.mails())

    def mails(self) -> Counter[str]:
        """Return how often each letter came; each is read once, for this is asked often and beside the servers."""
        fresh = self.smtp.taken[self.counted :]
        self.letters.update(_message_id(taken.content) for taken in fresh)
        self.counted += len(fresh)
        return self.letters


@asynccontextmanager
async def world(plan: Plan, broker: Broker, folder: Path) -> AsyncIterator[World]:
    """Set everything up, notify migrated but not started; ends all of it."""
    async with AsyncExitStack() as closing:
        postgres = LocalPostgres()
        closing.callback(postgres.close)
        database = url_text(await create_database(postgres))  # type: ignore[arg-type]  # its own kind of server
        receivers = {
            name: FailingReceiver(plan.seed + number, silent_s=ATTEMPT_S + 1.0)
            for number, name in enumerate(LIVE)
        }
        for receiver in receivers.values():
            closing.callback(receiver.close)
        nobody = free_port()
        closing.callback(release, nobody)
        smtp = await closing.enter_async_context(FakeSmtp())
        logs = folder / "logs"
        logs.mkdir(parents=True)
        processes = closing.enter_context(Processes(logs))
        name = unique("ledger")[:20]
        facts = ("lead.captured", "lead.updated", "lead.qualified")
        hooks = [route(each, *facts, channel="webhook", to=receivers[each].url) for each in LIVE]
        dead = route(DEAD, *facts, channel="webhook", to=f"http://127.0.0.1:{nobody}/in")
        business(folder / "businesses", *hooks, dead, route(MAIL, *facts), name=name)
        port = free_port()
        closing.callback(release, port)
        env = _environment(broker, database, folder, port, smtp.port)
        await apply_topics(KafkaSettings(bootstrap_servers=broker.bootstrap_servers))
        migrate = processes.start([*NOTIFY, "migrate"], name="migrate", env=env)
        assert await migrate.wait_exit(120) == 0, migrate.log_tail()
        yield World(
            plan, broker, postgres, database, processes, env, receivers, smtp, name, random.Random(plan.seed)
        )


def _environment(broker: Broker, database: str, folder: Path, port: int, smtp_port: int) -> dict[str, str]:
    """Return settings that make hours pass in seconds; none of them changes what is promised."""
    return {
        "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "PARLEY_STATE_DIR": str(folder),
        "PARLEY_BUSINESSES_DIR": str(folder / "businesses"),
        "PARLEY_LOG_LEVEL": "warning",
        "NOTIFY_PORT": str(port),
        "NOTIFY_DATABASE_URL": database,
        "NOTIFY_CONSUMER_GROUP": unique("ledger"),
        "NOTIFY_SMTP_HOST": "127.0.0.1",
        "NOTIFY_SMTP_PORT": str(smtp_port),
        "NOTIFY_SMTP_TLS": "none",
        "NOTIFY_IN_FLIGHT_MAX": "64",
        "NOTIFY_DESTINATION_IN_FLIGHT_MAX": "20",
        "NOTIFY_DESTINATION_RATE_PER_S": "1000",
        "NOTIFY_ATTEMPT_DEADLINE_S": str(ATTEMPT_S),
        "NOTIFY_LEASE_MARGIN_S": "1",
        "NOTIFY_CIRCUIT_WAIT_MAX_S": "0.5",
        "NOTIFY_CIRCUIT_FIRST_S": "0.1",
        "NOTIFY_RETRY_FIRST_S": "0.1",
        "NOTIFY_RETRY_WAIT_MAX_S": "2",
        "NOTIFY_POLL_MS": "200",
    }


async def run(plan: Plan, broker: Broker, folder: Path) -> Ledger:
    """Tell everything while everything breaks, and return the ledger once nothing live is left to tell."""
    began_s = time.monotonic()
    async with world(plan, broker, folder) as around:
        facts = list(_facts(plan, around.business))
        ledger = Ledger(facts=len(facts), leads=len({fact.key for fact in facts}), published=0)
        around.start_notify()
        async with asyncio.timeout(plan.deadline_s), asyncio.TaskGroup() as group:
            group.create_task(_publish(around, facts, ledger))
            group.create_task(_break(around, ledger))
        total = (len(LIVE) + 1) * len(facts)
        await until(lambda: around.told() >= total, plan.deadline_s, f"{total} deliveries to have arrived")
        await until(lambda: _is_settled(around), 300, "live routes to be settled")
        await _close_the_books(around, facts, ledger)
        ledger.took_s = time.monotonic() - began_s
        return ledger


def _facts(plan: Plan, name: str) -> list[Fact]:
    """Return the facts in the order in which tools would publish them: leads interleaved, each in its own order."""
    leads = [new_id() for _ in range(plan.facts // FACTS_PER_LEAD)]
    made: list[Fact] = []
    for seq in range(1, FACTS_PER_LEAD + 1):
        for lead in leads:
            more: dict[str, Any] = {"seq": seq, "business": name}
            if seq == 1:
                made.append(captured(lead, **more))
            elif seq == FACTS_PER_LEAD:
                made.append(qualified(lead, **more))
            else:
                made.append(LeadUpdated.model_validate({"lead_id": lead, "at": AT, "person": DANA, **more}))
    return made


async def _publish(around: World, facts: list[Fact], ledger: Ledger) -> None:
    publisher = Publisher(
        KafkaSettings(bootstrap_servers=around.broker.bootstrap_servers), client_id="ledger"
    )
    await publisher.start()
    try:
        for first in range(0, len(facts), 50):
            records = [fact_record(fact, source="tools", time=AT) for fact in facts[first : first + 50]]
            await asyncio.gather(*(_publish_one(publisher, record) for record in records))
            again = [record for record in records if around.random.random() < DOUBLED]
            await asyncio.gather(*(_publish_one(publisher, record) for record in again))
            ledger.published += len(records) + len(again)
    finally:
        await publisher.aclose()


async def _publish_one(publisher: Publisher, record: Record) -> None:
    """Publish until the broker has it, as an outbox does: with the same id, so perhaps twice."""
    while True:
        try:
            await publisher.publish(record)
        except DependencyUnavailable:
            await asyncio.sleep(0.5)
        else:
            return


async def _break(around: World, ledger: Ledger) -> None:
    """Do the damage, each piece at a random share of the work."""
    plan, total = around.plan, (len(LIVE) + 1) * ledger.facts
    pieces = [_kill] * plan.kills + [_restart_broker] * plan.broker_restarts
    pieces += [_restart_database] * plan.database_restarts
    around.random.shuffle(pieces)
    moments = sorted(around.random.uniform(0.01, 0.9) * total for _ in pieces)
    for piece, moment in zip(pieces, moments, strict=True):
        await until(lambda at=moment: around.told() >= at, plan.deadline_s, "work to go on")
        await piece(around, ledger)


async def _kill(around: World, ledger: Ledger) -> None:
    assert around.proc is not None
    assert around.proc.is_running, around.proc.log_tail()
    around.proc.close()
    ledger.kills += 1
    around.start_notify()


async def _restart_broker(around: World, ledger: Ledger) -> None:
    await asyncio.to_thread(around.broker.stop)
    await asyncio.to_thread(around.broker.start)
    ledger.broker_restarts += 1


async def _restart_database(around: World, ledger: Ledger) -> None:
    await asyncio.to_thread(around.postgres.stop)
    await asyncio.to_thread(around.postgres.start)
    ledger.database_restarts += 1


async def _is_settled(around: World) -> bool:
    states = await _states(around)
    return not [name for (name, state) in states if name != DEAD and state == "pending"]


async def _states(around: World) -> dict[tuple[str, str], int]:
    db = await asyncpg.connect(around.database.replace("+asyncpg", ""))
    try:
        rows = await db.fetch("SELECT route, state, count(*) FROM notify.deliveries GROUP BY route, state")
    finally:
        await db.close()
    return {(row[0], row[1]): row[2] for row in rows}


async def _close_the_books(around: World, facts: list[Fact], ledger: Ledger) -> None:
    due = {(fact.key, getattr(fact, "seq", 0)) for fact in facts}
    for name, receiver in around.receivers.items():
        ledger.lost[name] = len(due - receiver.effects.keys())
        ledger.twice_in_effect[name] = sum(count > 1 for count in receiver.effects.values())
        ledger.out_of_order[name] = sum(seqs != sorted(seqs) for seqs in receiver.order.values())
        ledger.arrivals[name] = receiver.arrivals
        ledger.failures[name] = receiver.failures
    mails = around.mails()
    ledger.emails = len(mails)
    ledger.email_repeats = sum(mails.values()) - len(mails)
    ledger.lost[MAIL] = len(facts) - len(mails)
    states = await _states(around)
    ledger.dead_route_waiting = states.get((DEAD, "pending"), 0)
    ledger.dead_route_other = sum(
        n for (name, state), n in states.items() if name == DEAD and state != "pending"
    )
    ledger.dead_letters = len(
        await Topics(around.broker.bootstrap_servers).read_all(dead_letters(LEAD_EVENTS).name)
    )


def _message_id(content: bytes) -> str:
    (line,) = [
        line for line in content.split(b"\r\n\r\n")[0].split(b"\r\n") if line.startswith(b"Message-ID:")
    ]
    return line.decode()


def main() -> int:
    """Run the long form and print the ledger; 0 when it balances."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--facts", type=int, default=Plan.facts)
    parser.add_argument("--kills", type=int, default=Plan.kills)
    parser.add_argument("--broker-restarts", type=int, default=Plan.broker_restarts)
    parser.add_argument("--database-restarts", type=int, default=Plan.database_restarts)
    parser.add_argument("--seed", type=int, default=Plan.seed)
    asked = parser.parse_args()
    plan = Plan(asked.facts, asked.kills, asked.broker_restarts, asked.database_restarts, asked.seed)
    broker, _ = start_broker()
    try:
        with tempfile.TemporaryDirectory(prefix="parley-ledger-") as folder:
            print(f"on {broker.label}", flush=True)
            ledger = asyncio.run(run(plan, broker, Path(folder)))
    finally:
        broker.close()
    print(ledger.text())
    return 0 if ledger.is_balanced else 1


if __name__ == "__main__":
    sys.exit(main())
