"""The load: N callers paced by the clock, told over standard input how many and for how long.

    python -m load.bench.generator --url ws://127.0.0.1:8080/v1/audio --log <folder>

Each line in is ``{"callers": 50, "per_s": 20, "settle_s": 1.5, "measure_s": 8, "tail_s": 0.8}``; each line out says
what was measured: when, and which frames of which caller belong to it. The loop is open: no frame waits for anything.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

import uvloop

from load.bench import turns
from load.bench.calls import Call, Door
from load.bench.lean_upstream import note_lateness
from load.bench.logs import Log
from load.bench.machine import cpu_s
from load.bench.pacing import SLOTS_MAX, Pacer
from load.bench.stamps import now_us


class Generator:
    """All callers of the process."""

    def __init__(self, door: Door, log: Log) -> None:
        self._door = door
        self._log = log
        self._calls: list[Call] = []
        self._next = 1
        self._slots: list[list[Call]] = [[] for _ in range(SLOTS_MAX)]
        self._pacer = Pacer(self._slot)

    def _slot(self, slot: int) -> None:
        for call in self._slots[slot]:
            call.speak()

    async def step(self, order: dict[str, Any]) -> dict[str, Any]:
        """Bring the callers to the number that is asked for, let them speak, and say what to judge."""
        since = now_us()
        await self._resize(order["callers"], order["per_s"])
        await asyncio.sleep(order["settle_s"])
        self._pacer.take_late_us()
        took = _taken(order.get("pids", {}))
        began, first = now_us(), {call.number: call.sent for call in self._calls}
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(self._write_now_and_then())
            await asyncio.sleep(order["measure_s"])
            writing.cancel()
        over = now_us()
        took = {name: round(taken - took[name], 3) for name, taken in _taken(order.get("pids", {})).items()}
        sent = [[call.number, first[call.number], call.sent] for call in self._calls]
        note_lateness(self._log, self._pacer)
        await asyncio.sleep(order["tail_s"])
        self._log.write()
        live = sum(call.is_live for call in self._calls)
        when = {"since": since, "began": began, "over": over}
        return {**when, "sent": sent, "live": live, "took_s": took}

    async def _write_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            note_lateness(self._log, self._pacer)
            self._log.write()

    async def _resize(self, callers: int, per_s: float) -> None:
        self._calls = [call for call in self._calls if call.is_live]
        async with asyncio.TaskGroup() as group:
            while len(self._calls) > callers:
                group.create_task(self._take_away().hang_up())
            while len(self._calls) < callers:
                call = Call(self._next, self._door, self._log)
                self._calls.append(call)
                # A stride that shares no factor with the slots spreads any number of callers evenly.
                self._slots[self._next * 33 % SLOTS_MAX].append(call)
                self._next += 1
                group.create_task(call.open())
                await asyncio.sleep(1 / per_s)

    def _take_away(self) -> Call:
        call = self._calls.pop()
        for slot in self._slots:
            if call in slot:
                slot.remove(call)
        return call

    async def close(self) -> None:
        await self._resize(0, 1)
        self._pacer.close()
        self._log.close()


def _taken(pids: dict[str, int]) -> dict[str, float]:
    """Return the processor time of each process so far: asked here, so that it is of the step and nothing else."""
    return {name: cpu_s(pid) for name, pid in {**pids, "generator": os.getpid()}.items()}


async def _lines() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    return reader


async def run(door: Door, log: Log) -> None:
    """Do what standard input says until it ends."""
    generator = Generator(door, log)
    orders = await _lines()
    print(json.dumps({"ready": True}), flush=True)
    while line := await orders.readline():
        print(json.dumps(await generator.step(json.loads(line))), flush=True)
    await generator.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--tokens-url")
    parser.add_argument("--business", default="bench")
    parser.add_argument("--link-token")
    parser.add_argument("--turn-s", type=float, default=turns.TURN_S, help="how often each caller speaks")
    args = parser.parse_args()
    gc.disable()
    door = Door(args.url, args.tokens_url, args.business, args.link_token, args.turn_s)
    uvloop.run(run(door, Log(args.log, "generator")))


if __name__ == "__main__":
    main()
