"""Many short sessions, one after the other, in one process: does memory grow?

    .venv/bin/python tests/load/short_sessions.py [--sessions 10000]

Each is a whole session (real conductor, the understudy, a client): a typed turn with a tool call, a spoken one barged
in upon, a hang-up. Prints the growth per session after a warm-up; exits 1 when it is over 1 KB.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import sys
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import structlog

from fakes.conversation import Line, conversation

LINES = (Line("Please look up the rate.", typed=True), Line("Tell me a story."), Line("Stop.", into_ms=600))
TYPED = LINES[:1]
GROWTH_MAX_BYTES = 1_024


async def live(count: int, lines: Sequence[Line] = LINES, *, every: int = 0) -> None:
    """Hold ``count`` sessions; with ``every`` say so each time that many are over."""
    for number in range(count):
        await conversation(lines, seed=number % 50).run(300_000)
        if every and (number + 1) % every == 0:
            print(f"  {number + 1} sessions, {tracemalloc.get_traced_memory()[0] / 1024:.0f} KB", flush=True)


async def growth_bytes(
    sessions: int, *, warm_up: int, lines: Sequence[Line] = LINES, every: int = 0
) -> float:
    """Return how many bytes a session leaves behind once ``warm_up`` of them are over."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    tracemalloc.start()
    try:
        await live(warm_up, lines)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        await live(sessions, lines, every=every)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        structlog.reset_defaults()
    return (after - before) / sessions


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=10_000)
    args = parser.parse_args()
    grown = asyncio.run(growth_bytes(args.sessions, warm_up=100, every=max(1, args.sessions // 10)))
    print(f"{args.sessions} sessions: {grown:.0f} bytes each")
    sys.exit(grown > GROWTH_MAX_BYTES)


if __name__ == "__main__":
    main()
