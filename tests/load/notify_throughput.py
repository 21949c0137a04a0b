"""How many deliveries a second one notify process makes: facts that lie ready in Kafka, told by webhook.

    .venv/bin/python tests/load/notify_throughput.py [--facts 2000] [--routes 1] [--dead-route] [--database sqlite]

Every receiver is healthy and answers at once, on the same machine as everything else. With ``--dead-route`` each fact
is also for a receiver that nobody runs, so that as many deliveries wait as are made. It prints deliveries a second
from the first to the last that arrived, and the processor time of notify for each.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import psutil

from harness.http_server import Answer, HttpServer, Reply, Request
from harness.kafka import start_broker
from harness.ports import free_port, release
from harness.postgres import create_database, session_postgres, url_text
from harness.processes import Processes
from harness.topics import unique
from harness.waiting import until
from parley_common.contracts.record import fact_record
from parley_common.ids import new_id
from parley_common.kafka import Publisher
from parley_common.settings import KafkaSettings
from parley_common.topic_admin import apply_topics
from unit.notify.samples import AT, business, captured, route

NOTIFY = [sys.executable, "-m", "parley_notify.app"]
DEADLINE_S = 1_800.0


@dataclass
class Receiver:
    """Takes everything at once, and remembers when."""

    known: set[str] = field(default_factory=set)
    first_s: float = 0.0
    last_s: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, request: Request) -> Answer:
        with self.lock:
            self.last_s = time.monotonic()
            self.first_s = self.first_s or self.last_s
            self.known.add(request.headers["parley-delivery"])
        return Reply(204)


async def publish(servers: str, facts: int, leads: int, name: str) -> None:
    publisher = Publisher(KafkaSettings(bootstrap_servers=servers), client_id="throughput")
    await publisher.start()
    ids = [new_id() for _ in range(leads)]
    try:
        for first in range(0, facts, leads):
            told = [captured(each, seq=first // leads + 1, business=name) for each in ids]
            records = [fact_record(fact, source="tools", time=AT) for fact in told[: facts - first]]
            await asyncio.gather(*(publisher.publish(record) for record in records))
    finally:
        await publisher.aclose()


async def measure(args: argparse.Namespace, servers: str, url: str, folder: Path, server: HttpServer) -> str:
    receiver, port, nobody = args.receiver, free_port(), free_port()
    name = unique("throughput")[:20]
    due = args.facts * args.routes
    routes = [route(f"crm-{n}", channel="webhook", to=f"{server.url}/in") for n in range(args.routes)]
    if args.dead_route:
        routes.append(route("dead", channel="webhook", to=f"http://127.0.0.1:{nobody}/in"))
    business(folder / "businesses", *routes, name=name)
    env = {
        "KAFKA_BOOTSTRAP_SERVERS": servers,
        "PARLEY_STATE_DIR": str(folder),
        "PARLEY_BUSINESSES_DIR": str(folder / "businesses"),
        "PARLEY_LOG_LEVEL": "warning",
        "NOTIFY_PORT": str(port),
        "NOTIFY_DATABASE_URL": url,
        "NOTIFY_CONSUMER_GROUP": unique("throughput"),
        "NOTIFY_IN_FLIGHT_MAX": str(args.in_flight),
        "NOTIFY_DESTINATION_IN_FLIGHT_MAX": str(args.in_flight),
        "NOTIFY_DESTINATION_RATE_PER_S": "1000",
    }
    await apply_topics(KafkaSettings(bootstrap_servers=servers))
    await publish(servers, args.facts, args.leads, name)
    logs = folder / "logs"
    logs.mkdir()
    try:
        with Processes(logs) as processes:
            migrate = processes.start([*NOTIFY, "migrate"], name="migrate", env=env)
            assert await migrate.wait_exit(120) == 0, migrate.log_tail()
            proc = processes.start(NOTIFY, name="notify", env=env)
            await until(lambda: len(receiver.known) >= due, DEADLINE_S, "everything to have arrived")
            cpu = psutil.Process(proc.pid).cpu_times()
            took_s = receiver.last_s - receiver.first_s
    finally:
        release(port)
        release(nobody)
    cpu_ms = (cpu.user + cpu.system) * 1_000 / due
    return (
        f"{due} deliveries of {args.facts} facts in {took_s:.1f} s: {due / took_s:.0f} a second, "
        f"{cpu_ms:.1f} ms of notify's processor time for each"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--facts", type=int, default=2_000)
    parser.add_argument("--leads", type=int, default=500)
    parser.add_argument("--routes", type=int, default=1)
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--dead-route", action="store_true")
    parser.add_argument("--database", choices=("postgres", "sqlite"), default="postgres")
    args = parser.parse_args()
    args.receiver = Receiver()
    broker, _ = start_broker()
    postgres = session_postgres()[0] if args.database == "postgres" else None
    try:
        with tempfile.TemporaryDirectory(prefix="parley-throughput-") as folder:
            server = HttpServer(args.receiver.answer)
            url = url_text(asyncio.run(create_database(postgres))) if postgres else f"sqlite:///{folder}/n.db"
            print(
                f"{broker.label}; {postgres.label if postgres else 'SQLite'}; one notify process", flush=True
            )
            told = asyncio.run(measure(args, broker.bootstrap_servers, url, Path(folder), server))
            server.close()
            print(told)
    finally:
        broker.close()
        if postgres:
            postgres.close()


if __name__ == "__main__":
    main()
