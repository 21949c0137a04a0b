"""What goes on behind the talking: tool calls, facts and deliveries, second by second, as flows through queues.

Each tools process is a queue of its own, for its partitions are its own. Its wait is taken as that of an M/M/1 queue,
and what already lies before it. Flows are means, not draws; only tool calls are drawn.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from load.simulation.crowd import Floats, Ints
from load.simulation.inputs import Inputs
from load.simulation.sizing import calls_per_s_of_process, rates

Counts = Floats | Ints


class Tools:
    """The tools processes of all cells."""

    def __init__(self, inputs: Inputs) -> None:
        d = inputs.deployment
        each = d.tools_processes // d.cells
        few, more = divmod(d.call_partitions, each)
        share = np.array([few + (n < more) for n in range(each)]) / d.call_partitions
        self._share = np.tile(share, d.cells) / d.cells
        self._per_s = calls_per_s_of_process(inputs)
        self._base_s = inputs.measured.tool_base_ms / 1000
        self._deadline_s, self._attempts = d.tool_deadline_s, d.tool_attempts_max
        self.queued: Floats = np.zeros(len(self._share))
        self._unsent: deque[int] = deque()
        self.timed_out = 0.0
        self.load = 0.0
        """Of the busiest process: calls that arrive, by those it answers."""

    def step(self, calls: int, rng: np.random.Generator, *, broker_is_there: bool) -> None:
        """Let a second pass in which so many calls were asked for."""
        self._unsent.append(calls)
        if not broker_is_there:
            last_asked_s = self._deadline_s * (self._attempts - 1)
            while len(self._unsent) > last_asked_s:  # the last attempt was not taken either
                self.timed_out += self._unsent.popleft()
            return
        arrive = rng.multinomial(sum(self._unsent), self._share)
        self._unsent.clear()
        self.load = float(self._share.max()) * calls / self._per_s
        queued = np.maximum(0.0, self.queued + arrive - self._per_s)
        self.queued = np.minimum(queued, self._per_s * self._deadline_s * self._attempts)
        self.timed_out += float((queued - self.queued).sum())

    def wait_ms(self, quantile: float) -> float:
        """Return the quantile of the round trip by the busiest process."""
        spare_per_s = max(self._per_s * (1 - self.load), self._per_s / 100)
        queued_s = float(self.queued.max()) / self._per_s
        return 1000 * (self._base_s + queued_s - math.log(1 - quantile) / spare_per_s)


class Facts:
    """The spools of session replicas, the tools' outbox, and deliveries."""

    def __init__(self, inputs: Inputs) -> None:
        d, m = inputs.deployment, inputs.measured
        self._each = rates(inputs.world)
        self._spool_max, self._spooled_per_s = d.spool_facts_max, m.spool_facts_per_s
        self.relayed_per_s = min(d.tools_processes, d.cells * d.outbox_shards) * m.relay_facts_per_s
        self.delivered_per_s = d.notify_processes * m.deliveries_per_s
        self.other: Floats = np.zeros(d.session_replicas)
        """Facts in each spool that may be dropped: all but those that end a session."""
        self.ended: Floats = np.zeros(d.session_replicas)
        self.dropped = self.outbox = self.due = 0.0

    @property
    def fullest(self) -> float:
        """The facts of the fullest spool."""
        return float((self.other + self.ended).max())

    def step(self, running: Floats, starts: Counts, ends: Counts, *, broker_is_there: bool) -> None:
        """Let a second pass: ``running`` sessions, starts and ends by replica."""
        each, told = self._each, 0.0
        self.other += running * (each.turns + each.calls) + starts
        self.ended += ends
        if broker_is_there:
            kept = 1 - np.minimum(1.0, self._spooled_per_s / np.maximum(self.other + self.ended, 1e-9))
            self.other, self.ended = self.other * kept, self.ended * kept
            told = min(self.outbox + running.sum() * each.effects, self.relayed_per_s)
            self.outbox += running.sum() * each.effects - told
        excess = np.minimum(self.other, np.maximum(0.0, self.other + self.ended - self._spool_max))
        self.other -= excess
        self.dropped += float(excess.sum())
        caused = each.deliveries / each.effects if each.effects else 0.0
        self.due = max(0.0, self.due + told * caused - self.delivered_per_s)
