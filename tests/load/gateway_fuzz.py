"""Ten thousand generated clients at one gateway, then sockets that open nothing: does it stay up, does memory grow?

    .venv/bin/python tests/load/gateway_fuzz.py [--sequences 10000] [--slow-sockets 10000]

Over real sockets, before a fake session service. Prints the codes that were told and how often, and what the process
grew by after a tenth of the way; exits 1 when a code is not on docs/client-protocol.md, when anything is left over, when
memory grew by more than 2 KB a client, or when more slow sockets were held than the gateway says it holds.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import sys
import tracemalloc
from collections import Counter
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import structlog
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from fakes.session_service import FakeSessionService
from parley_common.contracts.audio_link import Open, Ready
from parley_gateway.admission import AdmissionLimits
from parley_gateway.clients.flow import FlowLimits
from unit.gateway.hostile_clients import Tokens, documented, draw, nothing_left, play
from unit.gateway.world import World, running_gateway

GROWTH_MAX_BYTES = 2_048
BATCH = 500
SLOW_AT_ONCE = 200
FLOW = FlowLimits(bytes_per_s=192_000, messages_per_s=250)
LIMITS = AdmissionLimits(sessions_max=100, address_opens_per_minute=0)


async def fuzz(world: World, service: FakeSessionService, count: int) -> tuple[Counter[str], float]:
    """Play ``count`` sequences; return how often each code was told, and the growth per sequence in bytes."""
    told: Counter[str] = Counter()
    used, played, measured, before = world.token(), 0, 0, 0
    async with world.caller() as first:
        await first.say(Open(token=used))
        await first.expect(Ready)
        tokens = Tokens(world, used)
        while played < count:
            for sequence in draw(min(BATCH, count - played), played):
                told.update(await play(world, tokens, sequence))
                played += 1
            _forget(service)
            now = tracemalloc.get_traced_memory()[0]
            if not before and played >= count / 10:
                before, measured = now, played
            print(f"  {played} clients, {now / 1024:.0f} KB", flush=True)
    grown = tracemalloc.get_traced_memory()[0] - before
    return told, grown / max(1, played - measured)


def _forget(service: FakeSessionService) -> None:
    """What the fake remembers is not the gateway's memory."""
    service.links.clear()
    gc.collect()


async def slow_sockets(world: World, count: int) -> int:
    """Open ``count`` sockets that say nothing, many at once; return the most that the gateway held."""
    highest, left = 0, count

    async def sit() -> None:
        nonlocal highest, left
        while left > 0:
            left -= 1
            with suppress(OSError, TimeoutError, ConnectionClosed, InvalidHandshake):
                async with world.caller() as caller:
                    highest = max(highest, world.gateway.admission.sockets_count)
                    await caller.closed()

    async with asyncio.TaskGroup() as group:
        for _ in range(SLOW_AT_ONCE):
            group.create_task(sit())
    return highest


async def run(sequences: int, slow: int) -> int:
    """Run both and return the exit code."""
    tracemalloc.start()
    async with (
        FakeSessionService() as service,
        running_gateway(service, flow=FLOW, limits=LIMITS) as world,
    ):
        told, growth = await fuzz(world, service, sequences)
        await nothing_left(world)
        highest = await slow_sockets(world, slow)
        await nothing_left(world)
        async with world.session():
            print("a caller still gets in")
    for code, times in told.most_common():
        print(f"  {code:<24} {times}")
    unknown = set(told) - documented()[0]
    print(f"grew by {growth:.0f} bytes a client; held {highest} slow sockets of at most {LIMITS.sockets_max}")
    print(f"undocumented codes: {', '.join(sorted(unknown)) or 'none'}")
    return int(bool(unknown) or growth > GROWTH_MAX_BYTES or highest > LIMITS.sockets_max)


def main() -> None:
    """Read the arguments, run, exit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sequences", type=int, default=10_000)
    parser.add_argument("--slow-sockets", type=int, default=10_000)
    options = parser.parse_args()
    # asyncio warns of each write to a client that has left, which is what these clients do.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    sys.exit(asyncio.run(run(options.sequences, options.slow_sockets)))


if __name__ == "__main__":
    main()
