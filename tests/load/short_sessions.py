"""Many short sessions, one after the other, in one process: does memory grow?

    .venv/bin/python tests/load/short_sessions.py [--sessions 10000] [--resident] [--typed]

Each is a whole session (real conductor, the understudy, a client): a typed turn with a tool call, a spoken one barged
in upon, a hang-up; with --typed the first alone. Prints the growth per session after a warm-up; exits 1 when it is over
1 KB. Memory is what Python has allocated, which takes time to follow; with --resident what the process holds.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import psutil
import structlog

from fakes.conversation import Line, conversation

LINES = (Line("Please look up the rate.", typed=True), Line("Tell me a story."), Line("Stop.", into_ms=600))
TYPED = LINES[:1]
GROWTH_MAX_BYTES = 1_024


def traced_bytes() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def resident_bytes() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss


async def live(count: int, lines: Sequence[Line] = LINES, *, every: int = 0) -> None:
    """Hold ``count`` sessions; with ``every`` say so each time that many are over."""
    for number in range(count):
        await conversation(lines, seed=number % 50).run(300_000)
        if every and (number + 1) % every == 0:
            print(f"  {number + 1} sessions, {resident_bytes() / 1024:.0f} KB resident", flush=True)


async def growth_bytes(
    sessions: int,
    *,
    warm_up: int,
    lines: Sequence[Line] = LINES,
    every: int = 0,
    held: Callable[[], int] = traced_bytes,
) -> float:
    """Return how many bytes a session leaves behind once ``warm_up`` of them are over."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    if held is traced_bytes:
        tracemalloc.start()
    try:
        await live(warm_up, lines)
        before = held()
        await live(sessions, lines, every=every)
        return (held() - before) / sessions
    finally:
        tracemalloc.stop()
        structlog.reset_defaults()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--resident", action="store_true")
    parser.add_argument("--typed", action="store_true")
    args = parser.parse_args()
    grown = asyncio.run(
        growth_bytes(
            args.sessions,
            # What a process holds settles later than what it has allocated: arenas come and go.
            warm_up=1_000 if args.resident else 100,
            lines=TYPED if args.typed else LINES,
            every=max(1, args.sessions // 10),
            held=resident_bytes if args.resident else traced_bytes,
        )
    )
    print(f"{args.sessions} sessions: {grown:.0f} bytes each")
    sys.exit(grown > GROWTH_MAX_BYTES)


if __name__ == "__main__":
    main()
