"""How far truncation is from what was heard: ours beside the wall clock that others use, on the same barge-ins.

    .venv/bin/python tests/load/truncation_error.py [--runs 100] [--delay-ms 20] [--jitter-ms 100]

Each run is a whole session (real conductor, the understudy, a client that plays by the clock) in which the caller
talks over a long answer, with every message delayed at random both ways. The truth is the client's own count of
samples at the moment it fell silent. Errors are signed: above zero, more was claimed than was heard.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import structlog

from fakes.conversation import Conversation, Line, conversation
from parley_session.core.config import Limits, TurnTaking

LIMITS = Limits(session_max_ms=10**9, idle_hangup_ms=None)


@dataclass
class Errors:
    """Signed errors in ms of one way to know what was heard."""

    name: str
    values: list[float]

    def line(self) -> str:
        ordered = sorted(abs(v) for v in self.values)
        over = sum(v > 1 for v in self.values)
        p50, p99 = (ordered[min(len(ordered) - 1, int(len(ordered) * q))] for q in (0.5, 0.99))
        return f"{self.name:<34} {len(ordered):>5} {p50:>8.0f} {p99:>8.0f} {ordered[-1]:>8.0f} {over:>8}"


class Tap:
    """Stands between the session and upstream and writes down when what passed."""

    def __init__(self, talk: Conversation, socket: Any, log: Log) -> None:
        self._talk, self._socket, self._log = talk, socket, log

    async def recv(self, decode: bool | None = None) -> str | bytes:
        frame = await self._socket.recv(decode=decode)
        event, now_ms = json.loads(frame), self._talk.clock.now_ms()
        if event["type"] == "response.output_audio.delta":
            self._log.first_audio_ms.setdefault(event["item_id"], now_ms)
            size = len(event["delta"]) * 3 // 4 // 48
            self._log.made_ms[event["item_id"]] = self._log.made_ms.get(event["item_id"], 0) + size
        elif event["type"] == "input_audio_buffer.speech_started":
            self._log.barged_ms = now_ms
        return frame  # type: ignore[no-any-return]

    async def send(self, message: bytes, *, text: bool | None = None) -> None:
        event = json.loads(message)
        if event["type"] == "conversation.item.truncate":
            self._log.truncated[event["item_id"]] = event["audio_end_ms"]
        await self._socket.send(message, text=text)

    async def close(self) -> None:
        await self._socket.close()


class Log:
    """What passed in one session."""

    def __init__(self) -> None:
        self.first_audio_ms: dict[str, int] = {}
        self.made_ms: dict[str, int] = {}
        self.truncated: dict[str, int] = {}
        self.barged_ms = 0


async def one(seed: int, args: argparse.Namespace, answer_ms: int) -> tuple[float, float] | None:
    """Return (our error, the wall clock's error) in ms; null when the item had been heard to its end."""
    dice = random.Random(seed)
    talk = conversation(
        [Line("Tell me a story."), Line("Stop, please.", into_ms=dice.randint(1_000, 9_000))],
        limits=LIMITS,
        turn_taking=TurnTaking(flush_answer_ms=answer_ms),
        network_ms=lambda: args.delay_ms + round(dice.random() * args.jitter_ms),
        seed=seed,
    )
    log = Log()
    dial = talk.stand.connect

    async def tapped(address: str, **options: Any) -> Tap:
        return Tap(talk, await dial(address, **options), log)

    talk.stand.connect = tapped  # type: ignore[method-assign, assignment]
    await talk.run(200_000)
    heard = {item: played / 24 for _, item, played in talk.client.flushed}
    for item_id, claimed_ms in log.truncated.items():
        known = next(i for i in talk.conductor.state.history if i.item_id == item_id)
        if known.number in heard:
            wall_ms = min(log.barged_ms - log.first_audio_ms[item_id], log.made_ms[item_id])
            return claimed_ms - heard[known.number], wall_ms - heard[known.number]
    return None


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--delay-ms", type=int, default=20, help="the least delay each way")
    parser.add_argument("--jitter-ms", type=int, default=100, help="what is added to it at random, evenly")
    args = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    print(f"{args.delay_ms} ms and up to {args.jitter_ms} ms each way; absolute errors in ms")
    print(f"{'how it is known':<34} {'n':>5} {'p50':>8} {'p99':>8} {'worst':>8} {'over':>8}")
    wall = Errors("wall clock since first audio", [])
    for answer_ms in (150, 300):
        ours = Errors(f"the client's word, within {answer_ms} ms", [])
        for seed in range(args.runs):
            found = await one(seed, args, answer_ms)
            if found is not None:
                ours.values.append(found[0])
                if answer_ms == 300:
                    wall.values.append(found[1])
        print(ours.line())
    print(wall.line())


if __name__ == "__main__":
    asyncio.run(main())
