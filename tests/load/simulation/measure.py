"""Measure what the bench does not: what it costs to open a session, and what gateways and replicas tell each other.

    python -m load.simulation.measure --out figures.json        (in tests; needs Kafka as the tests do; a minute)

All of it is processor time on this machine, as busy as it is. Sessions, tool calls, facts and deliveries are the bench's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from load.bench.machine import choose_cores, cpu_s
from load.bench.systems import Backends, Generator, Lab, start_backends, start_system, stop_system
from parley_common.clock import SystemClock
from parley_common.compacted import follow_compacted
from parley_common.contracts.operations import UsageReport
from parley_common.contracts.record import Record, to_json
from parley_common.contracts.topics import USAGE
from parley_common.ids import new_id
from parley_common.kafka import Publisher
from parley_common.settings import KafkaSettings
from parley_gateway.placement import ReplicaView, placement
from parley_gateway.replicas import is_answering
from parley_gateway.usage import SessionsEverywhere

USAGE_RATES, USAGE_S = (100, 500, 1_500), 8
PROBES, OPENS, AT_ONCE = 2_000, 200, 40
Figures = dict[str, Any]


def usage_record(number: int) -> Record:
    now = datetime.now(UTC)
    counts: Figures = {
        "sessions": 40,
        "tokens_per_min": 1_000_000,
        "day": now.date(),
        "usd_today": 123.456789,
    }
    report = UsageReport(replica=f"session-{number}", business="cap", at=now, **counts)
    return Record(USAGE.name, report.key.encode(), to_json(report), ())


async def tell(settings: KafkaSettings, rate: int) -> None:
    """Publish usage reports by the clock, as so many replicas do."""
    publisher = Publisher(settings, client_id="measure")
    await publisher.start()
    began_s = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(rate * USAGE_S):
            await asyncio.sleep(max(0.0, began_s + number / rate - time.monotonic()))
            group.create_task(publisher.publish(usage_record(number % rate)))
    await publisher.aclose()


async def usage(settings: KafkaSettings) -> Figures:
    """Follow usage reports as a gateway does while another thread, whose time does not count, tells them."""
    costs, stop, ready, count = [(0, 0.0)], asyncio.Event(), asyncio.Event(), 0
    everywhere = SessionsEverywhere(SystemClock())

    def take(key: str, value: bytes | None) -> None:
        nonlocal count
        count += 1
        everywhere.take(key, value)

    async def cost() -> tuple[int, float]:
        before, used_s, began_s = count, time.thread_time(), time.monotonic()
        await asyncio.sleep(USAGE_S / 2)
        took_s = time.monotonic() - began_s
        return round((count - before) / took_s), 1000 * (time.thread_time() - used_s) / took_s

    async with asyncio.TaskGroup() as group:
        options: Figures = {"client_id": "measure", "on_record": take, "on_ready": lambda *_: ready.set()}
        group.create_task(follow_compacted(settings, USAGE, stop, **options))
        await ready.wait()
        _, idle_ms = await cost()
        for rate in USAGE_RATES:
            telling = threading.Thread(target=lambda rate=rate: asyncio.run(tell(settings, rate)))
            telling.start()
            await asyncio.sleep(USAGE_S / 4)
            told_per_s, used_ms = await cost()
            costs.append((told_per_s, round(used_ms - idle_ms, 1)))
            await asyncio.to_thread(telling.join)
        stop.set()
    record = usage_record(1)
    return {"usage_cpu_ms_per_s": costs, "usage_record_bytes": len(record.key) + len(record.value or b"")}


async def doors(lab: Lab, folder: Path, backends: Backends) -> Figures:
    """Probe a session service, and open sessions that are hung up at once."""
    running = await start_system(lab, "parley", folder, backends)
    pids, url = (
        {name: proc.pid for name, proc in running.services.items()},
        f"ws://127.0.0.1:{running.ports[1]}",
    )
    assert await is_answering(url)
    before_s, own_s = cpu_s(pids["session"]), time.process_time()
    for _ in range(PROBES // AT_ONCE):
        await asyncio.gather(*(is_answering(url) for _ in range(AT_ONCE)))
    probing_ms = 1000 * (time.process_time() - own_s) / PROBES
    probed_ms = 1000 * (cpu_s(pids["session"]) - before_s) / PROBES
    callers, used_ms = Generator(lab, running.door, folder), {}
    await callers.ready()
    for _ in range(2):  # the first time warms up
        before = {name: cpu_s(pid) for name, pid in pids.items()}
        for _ in range(OPENS // AT_ONCE):
            for count in (AT_ONCE, 0):
                await callers.step(callers=count, per_s=100, settle_s=0.0, measure_s=0.05, tail_s=0.0)
        used_ms = {
            f"{name}_setup_cpu_ms": round(1000 * (cpu_s(pid) - before[name]) / OPENS, 1)
            for name, pid in pids.items()
        }
    await callers.close()
    stop_system(running)
    return {
        "probe_gateway_cpu_ms": round(probing_ms, 3),
        "probe_session_cpu_ms": round(probed_ms, 3),
        **used_ms,
    }


def ranking() -> Figures:
    """Rank replicas for a session, and count the sessions of its business, as each opening does."""
    views = [ReplicaView(url=f"ws://10.0.{n // 256}.{n % 256}:8081", capacity=40) for n in range(1_000)]
    everywhere, times = SessionsEverywhere(SystemClock()), 20
    for number in range(len(views)):
        record = usage_record(number)
        everywhere.take(record.key.decode(), record.value)
    before_s = time.process_time()
    for _ in range(times):
        placement(new_id(), views)
        for _ in ("for the token", "for the session"):
            everywhere.sessions("cap")
    took_us = (time.process_time() - before_s) / times * 1e6
    return {"placement_cpu_us_per_replica": round(took_us / len(views), 2)}


async def measure() -> Figures:
    """Measure everything, one after the other."""
    with tempfile.TemporaryDirectory() as name, Lab(Path(name) / "lab", choose_cores(None, None)) as lab:
        backends = await start_backends(lab)
        settings = KafkaSettings(bootstrap_servers=backends.broker.bootstrap_servers)
        try:
            return ranking() | await usage(settings) | await doors(lab, Path(name), backends)
        finally:
            backends.tools.close()
            backends.broker.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="write the figures there too, for load.simulation --figures")
    args = parser.parse_args()
    found = json.dumps(asyncio.run(measure()))
    print(found)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(found + "\n", "utf-8")


if __name__ == "__main__":
    main()
