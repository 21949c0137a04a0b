"""Tool calls through a real Kafka at a steady rate: how many one tools process answers, and how soon.

    .venv/bin/python tests/load/tools_throughput.py [--rates 1,100,500,1000] [--seconds 10] [--database sqlite]

Open loop: calls go out by the clock whether or not earlier ones were answered. Each is of a session of its own. It
prints what was asked for, what came back in time, and the round trip as the asker saw it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness.kafka import kinds_to_try, start_broker
from harness.ports import free_port
from harness.postgres import create_database, session_postgres, url_text
from harness.processes import Processes
from parley_common.contracts.record import to_json
from unit.tools.caller import Replica, ServicePlan, replica

DEAL = {"price_usd": 300_000, "down_payment_pct": 25, "monthly_rent_usd": 2_400}
DRAIN_S = 15.0


async def ask_at(asker: Replica, rate: int, seconds: int) -> tuple[int, list[float], float]:
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
                call = asker.call("analyze_deal", DEAL, session_id=str(uuid.uuid4()))
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


def share(ordered: list[float], q: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * q))] if ordered else float("nan")


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rates", default="1,100,500,1000")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--database", choices=("postgres", "sqlite"), default="postgres")
    args = parser.parse_args()
    broker, _ = start_broker(kinds_to_try())
    server = session_postgres()[0] if args.database == "postgres" else None
    with tempfile.TemporaryDirectory() as folder, Processes(Path(folder)) as processes:
        url = url_text(await create_database(server)) if server else f"sqlite+aiosqlite:///{folder}/tools.db"
        plan = ServicePlan(broker.bootstrap_servers, url, settings={"TOOLS_IN_FLIGHT_MAX": "2000"})
        await plan.prepare(processes)
        await plan.start(processes, free_port())
        print(f"{broker.label}; {args.database}; one tools process, asker on the same machine")
        print(f"{'asked/s':>8} {'sent':>7} {'answered':>9} {'answered/s':>11} {'p50 ms':>8} {'p99 ms':>8}")
        async with replica(broker.bootstrap_servers, plan.service) as asker:
            await asker.ask("analyze_deal", DEAL)
            for rate in map(int, args.rates.split(",")):
                asked, trips, lasted_s = await ask_at(asker, rate, args.seconds)
                trips.sort()
                p50, p99 = share(trips, 0.5), share(trips, 0.99)
                rows = f"{rate:>8} {asked:>7} {len(trips):>9} {len(trips) / lasted_s:>11.0f}"
                print(f"{rows} {p50:>8.1f} {p99:>8.1f}", flush=True)
    broker.close()
    if server:
        server.close()


if __name__ == "__main__":
    asyncio.run(main())
