"""Tool calls through a real Kafka at a steady rate: how many one tools process answers, and how soon.

    .venv/bin/python tests/load/tools_throughput.py [--rates 1,50,100,500,1000] [--seconds 10] [--tool save_lead]
        [--database sqlite]

Open loop: calls go out by the clock whether or not earlier ones were answered. Each is of a session of its own. The
tool is a read (analyze_deal) or one with effects and a fact (save_lead). It prints what was asked for, what came back
in time, the round trip as the asker saw it, and what a call cost: processor time of the tools process, and commits of
the database (PostgreSQL), which do not depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness.kafka import kinds_to_try, start_broker
from harness.ports import free_port
from harness.postgres import create_database, session_postgres, url_text
from harness.processes import Processes
from parley_common.contracts.record import to_json
from unit.tools.caller import Replica, ServicePlan, replica

DEAL = {"price_usd": 300_000, "down_payment_pct": 25, "monthly_rent_usd": 2_400}
LEAD = {"name": "Daniel Cooper", "consent": True}
ARGUMENTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "analyze_deal": lambda _: DEAL,
    "save_lead": lambda number: {**LEAD, "email": f"caller-{number}-{uuid.uuid4().hex[:8]}@example.com"},
}
DRAIN_S = 15.0
STATISTICS_S = 1.5
"""PostgreSQL tells its statistics about a second late."""


async def ask_at(asker: Replica, tool: str, rate: int, seconds: int) -> tuple[int, list[float], float]:
    """Ask ``rate`` times a second; return how many were asked, the round trips in ms, and the time of the last."""
    sent: dict[str, float] = {}
    trips: list[float] = []
    began = time.monotonic()
    last = began

    async def send() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(rate * seconds):
                due = began + number / rate
                if (wait := due - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                call = asker.call(tool, ARGUMENTS[tool](number), session_id=str(uuid.uuid4()))
                sent[call.call_id] = time.monotonic()
                group.create_task(asker.send_raw(to_json(call), call.session_id))

    async def receive() -> None:
        nonlocal last
        seen = 0
        while len(trips) < rate * seconds and time.monotonic() < began + seconds + DRAIN_S:
            answers = await asker.collect()
            for answer in answers[seen:]:
                at = sent.get(answer.result.call_id)
                if at is not None and answer.result.status == "ok":
                    last = time.monotonic()
                    trips.append((last - at) * 1000)
            seen = len(answers)

    async with asyncio.TaskGroup() as group:
        group.create_task(send())
        group.create_task(receive())
    return len(sent), trips, last - began


def processor_s(pid: int) -> float:
    """Return the processor time that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def commits(url: str) -> int:
    """Return how many transactions PostgreSQL has committed; 0 for another database."""
    if not url.startswith("postgres"):
        return 0
    await asyncio.sleep(STATISTICS_S)
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"))
    try:
        async with engine.connect() as connection:
            query = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
            return int((await connection.execute(text(query))).scalar_one())
    finally:
        await engine.dispose()


def share(ordered: list[float], q: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * q))] if ordered else float("nan")


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rates", default="1,50,100,500,1000")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--database", choices=("postgres", "sqlite"), default="postgres")
    parser.add_argument("--tool", choices=tuple(ARGUMENTS), default="analyze_deal")
    args = parser.parse_args()
    broker, _ = start_broker(kinds_to_try())
    server = session_postgres()[0] if args.database == "postgres" else None
    with tempfile.TemporaryDirectory() as folder, Processes(Path(folder)) as processes:
        url = url_text(await create_database(server)) if server else f"sqlite+aiosqlite:///{folder}/tools.db"
        plan = ServicePlan(broker.bootstrap_servers, url, settings={"TOOLS_IN_FLIGHT_MAX": "2000"})
        await plan.prepare(processes)
        pid = (await plan.start(processes, free_port())).proc.pid
        print(f"{broker.label}; {args.database}; {args.tool}; one tools process, asker on the same machine")
        print(
            f"{'asked/s':>8} {'sent':>7} {'answered':>9} {'answered/s':>11} {'p50 ms':>8} {'p99 ms':>8}",
            end="",
        )
        print(f" {'cpu ms':>7} {'commits':>8}  a call", flush=True)
        async with replica(broker.bootstrap_servers, plan.service) as asker:
            await asker.ask(args.tool, ARGUMENTS[args.tool](0))
            for rate in map(int, args.rates.split(",")):
                before, used_s = await commits(url), processor_s(pid)
                asked, trips, lasted_s = await ask_at(asker, args.tool, rate, args.seconds)
                used_ms = (processor_s(pid) - used_s) * 1000 / max(1, len(trips))
                committed = (await commits(url) - before) / max(1, len(trips))
                trips.sort()
                p50, p99 = share(trips, 0.5), share(trips, 0.99)
                rows = f"{rate:>8} {asked:>7} {len(trips):>9} {len(trips) / lasted_s:>11.0f}"
                print(f"{rows} {p50:>8.1f} {p99:>8.1f} {used_ms:>7.2f} {committed:>8.2f}", flush=True)
    broker.close()
    if server:
        server.close()


if __name__ == "__main__":
    asyncio.run(main())
