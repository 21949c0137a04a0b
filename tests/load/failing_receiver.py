"""A webhook receiver behind a bad network, which keeps the books of what took effect.

It fails three times in ten: 500, silence, a reset; half of the latter two after it had taken the delivery.
"""

from __future__ import annotations

import json
import random
import threading
from collections import Counter, defaultdict

from harness.http_server import Answer, HttpServer, Reply, Request, Reset

FAILING = 0.3


class FailingReceiver:
    """A CRM behind a bad network: it remembers Parley-Delivery and takes effect once, and fails three times in ten."""

    def __init__(self, seed: int, *, silent_s: float) -> None:
        self.effects: dict[tuple[str, int], int] = defaultdict(int)
        """How often each (lead, seq) took effect."""
        self.order: dict[str, list[int]] = defaultdict(list)
        self.failures: Counter[str] = Counter()
        self.arrivals = 0
        self._silent_s = silent_s
        self._known: set[str] = set()
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._http = HttpServer(self._answer)
        self.url = f"{self._http.url}/in"

    def close(self) -> None:
        self._closing.set()
        self._http.close()

    def _answer(self, request: Request) -> Answer:
        with self._lock:
            self.arrivals += 1
            if len(request.body) < int(request.headers["content-length"]):
                self.failures["cut off"] += 1  # by a kill in the middle of it
                return Reset()
            fault = (
                self._random.choice(["500", "silence", "reset"]) if self._random.random() < FAILING else ""
            )
            took_it = not fault or (fault != "500" and self._random.random() < 0.5)
            if fault:
                self.failures[fault + (" after taking it" if took_it else "")] += 1
            if took_it:
                self._take(request)
        if fault == "silence":
            # Not for ever, as Silence() is: thousands of them would hold as many threads.
            self._closing.wait(self._silent_s)
        return {"": Reply(204), "500": Reply(500)}.get(fault, Reset())

    def _take(self, request: Request) -> None:
        if request.headers["parley-delivery"] in self._known:
            return
        data = json.loads(request.body)["data"]
        self._known.add(request.headers["parley-delivery"])
        self.effects[data["lead_id"], data["seq"]] += 1
        self.order[data["lead_id"]].append(data["seq"])
