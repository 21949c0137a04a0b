"""Asks one tools service for a tool at a steady rate, as session replicas would, and reads the answers.

The loop is open: calls go out by the clock, whether or not earlier ones were answered; each is of a session of its own,
so that they spread over all partitions. One thread asks and one reads, on the C client: who asks should not be the limit.

    python -m load.bench.asker --servers 127.0.0.1:9092 --service tools --tool analyze_deal --rate 100 --seconds 4

It prints one line of JSON: what was asked, what came back, how soon, and what each ``--pid name=id`` took meanwhile.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from load.bench.judge import Spread, spread
from load.bench.machine import cpu_s
from load.bench.stamps import now_us
from parley_common.contracts.record import Envelope, to_json
from parley_common.contracts.tool_calls import CALL_TYPE, REPLY_TO_HEADER, ToolCall
from parley_common.contracts.topics import TOOL_RESULTS, tool_calls_topic

BUSINESS = "cap"
PARTITION = 7
DEADLINE_MS = 10_000
"""What a call says of itself: an answer after this is of no use."""
DRAIN_S = 15.0
SETTLE_S = 0.3
"""After the last answer, so that a second one to the same call would be seen."""
WARM_UP = 20
"""Calls before the first that counts, so that connections, pools and code are warm."""
DEAL = {"price_usd": 300_000, "down_payment_pct": 25, "monthly_rent_usd": 2_400}
ARGUMENTS: dict[str, Callable[[], dict[str, Any]]] = {
    "analyze_deal": lambda: DEAL,
    "save_lead": lambda: {
        "name": "Daniel Cooper",
        "consent": True,
        "email": f"caller-{uuid.uuid4().hex[:12]}@example.com",
    },
}
"""One that only reads, and one with an effect and a fact."""


@dataclass(frozen=True)
class Answered:
    """One answer: to which call, whether it is a good one, and when it came."""

    call_id: str
    is_ok: bool
    at_us: int


@dataclass(frozen=True)
class Tally:
    """What became of the calls of one rate."""

    asked: int
    answered: int
    """Calls with a good answer."""
    failed: int
    """Calls whose answers say that it did not work."""
    lost: int
    """Calls without an answer."""
    twice: int
    """Answers to a call that had one."""
    trip_ms: Spread
    """From asking to the first answer."""
    answered_per_s: float
    """Good answers by the time from the first asking to the last of them."""


def tally(sent: Mapping[str, int], answers: Sequence[Answered]) -> Tally:
    """Return what came of the calls that were sent (microseconds by call id). Answers to others are none of ours."""
    ours = [answer for answer in answers if answer.call_id in sent]
    first: dict[str, Answered] = {}
    for answer in ours:
        first.setdefault(answer.call_id, answer)
    good = [answer for answer in first.values() if answer.is_ok]
    lasted_us = max((a.at_us for a in good), default=0) - min(sent.values(), default=0)
    return Tally(
        asked=len(sent),
        answered=len(good),
        failed=len(first) - len(good),
        lost=len(sent) - len(first),
        twice=len(ours) - len(first),
        trip_ms=spread([answer.at_us - sent[answer.call_id] for answer in good], per=1000),
        answered_per_s=round(len(good) * 1e6 / lasted_us, 1) if good and lasted_us > 0 else 0.0,
    )


class Asker:
    """One replica, as far as tools are concerned."""

    def __init__(self, servers: str, service: str) -> None:
        self.sent: dict[str, int] = {}
        self.answers: list[Answered] = []
        self.not_sent: Counter[str] = Counter()
        self._name = f"session-{uuid.uuid4().hex[:8]}"
        self._topic = tool_calls_topic(service).name
        common = {"bootstrap.servers": servers}
        self._producer = Producer({**common, "acks": "all", "linger.ms": 0})
        self._consumer = Consumer({**common, "group.id": self._name, "enable.auto.commit": False})
        where = TopicPartition(TOOL_RESULTS.name, PARTITION)
        _, where.offset = self._consumer.get_watermark_offsets(where, timeout=10.0)
        self._consumer.assign([where])
        self._is_over = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        mine = (REPLY_TO_HEADER, self._name.encode())
        while not self._is_over.is_set():
            message: Message | None = self._consumer.poll(0.05)
            if message is None or message.error() or mine not in (message.headers() or ()):
                continue
            now, result = now_us(), json.loads(message.value() or b"{}")
            self.answers.append(Answered(result["call_id"], result["status"] == "ok", now))

    def calls(self, tool: str, count: int) -> list[tuple[str, str, bytes]]:
        """Return so many calls ready to be sent: call id, session id, value."""
        found = []
        for _ in range(count):
            call = ToolCall(
                call_id=f"call_{uuid.uuid4().hex[:16]}",
                session_id=str(uuid.uuid4()),
                business=BUSINESS,
                business_version="bench",
                tool=tool,
                arguments=ARGUMENTS[tool](),
                deadline_ms=DEADLINE_MS,
                reply_partition=PARTITION,
            )
            found.append((call.call_id, call.session_id, to_json(call)))
        return found

    def ask(self, calls: Sequence[tuple[str, str, bytes]], rate_per_s: float) -> list[int]:
        """Send each when it is due; return how late each went out, in microseconds."""
        began, late = now_us(), []
        for number, (call_id, session_id, value) in enumerate(calls):
            due = began + round(number * 1e6 / rate_per_s)
            if (wait_us := due - now_us()) > 0:
                time.sleep(wait_us / 1e6)
            now = now_us()
            late.append(max(0, now - due))
            self.sent[call_id] = now
            self._send(session_id, value)
        return late

    def _send(self, session_id: str, value: bytes) -> None:
        now = datetime.now(UTC)
        envelope = Envelope(str(uuid.uuid4()), CALL_TYPE, "/parley/session", now, session_id)
        self._producer.produce(
            self._topic,
            value,
            key=session_id,
            headers=[*envelope.headers(), (REPLY_TO_HEADER, self._name.encode())],
            timestamp=int(now.timestamp() * 1000),
            on_delivery=self._delivered,
        )
        self._producer.poll(0)

    def _delivered(self, error: Any, _message: Message) -> None:
        if error is not None:
            self.not_sent[str(error)] += 1

    def wait_answers(self) -> None:
        """Wait until all that was asked is answered, or nothing more can be hoped for."""
        self._producer.flush(DRAIN_S)
        ends_s = time.monotonic() + DRAIN_S
        while time.monotonic() < ends_s:
            if len(self.answers) >= len(self.sent) <= len({answer.call_id for answer in self.answers}):
                return
            time.sleep(0.01)

    def forget(self) -> None:
        """Begin to count."""
        self.sent, self.answers = {}, []

    def close(self) -> None:
        self._is_over.set()
        self._reader.join()
        self._consumer.close()


def run(
    asker: Asker, tool: str, rate_per_s: float, seconds: float, pids: Mapping[str, int]
) -> dict[str, Any]:
    """Warm up, ask, wait for the answers; return what there is to say."""
    asker.ask(asker.calls(tool, WARM_UP), WARM_UP)
    asker.wait_answers()
    asker.forget()
    calls = asker.calls(tool, max(1, round(rate_per_s * seconds)))
    gc.collect()
    gc.disable()
    before = {name: cpu_s(pid) for name, pid in pids.items()}
    late = asker.ask(calls, rate_per_s)
    asker.wait_answers()
    took = {name: round(cpu_s(pid) - before[name], 3) for name, pid in pids.items()}
    time.sleep(SETTLE_S)
    found = tally(asker.sent, list(asker.answers))
    return {
        "tally": asdict(found),
        "late_ms": asdict(spread(late, per=1000)),
        "took_s": took,
        "not_sent": dict(asker.not_sent),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--servers", required=True)
    parser.add_argument("--service", required=True)
    parser.add_argument("--tool", choices=tuple(ARGUMENTS), default="analyze_deal")
    parser.add_argument("--rate", type=float, default=100.0, help="calls a second")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--pid", action="append", default=[], help="name=id of a process whose time is told")
    args = parser.parse_args()
    pids = {"asker": os.getpid()} | {name: int(pid) for name, _, pid in (p.partition("=") for p in args.pid)}
    asker = Asker(args.servers, args.service)
    try:
        said = run(asker, args.tool, args.rate, args.seconds, pids)
    finally:
        asker.close()
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
