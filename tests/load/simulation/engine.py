"""The simulation: sessions come, talk, roll over, end, are refused or lost, one second after the other.

Sessions are individuals, everything behind them is a flow. Admission, placement, grace, roll-over and reconnecting
follow the code of the services. Law: whoever arrived runs, has ended, was refused or was lost, at every step.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np

from load.simulation.backstage import Facts, Tools
from load.simulation.crowd import ENDLESS, NEVER, Crowd, Fleet, Floats, Ints
from load.simulation.inputs import Inputs, World
from load.simulation.sizing import (
    capped_mean_s,
    commits_per_s,
    facts_per_s,
    gateway_setup_ms,
    kafka_mb_per_s,
    mean_s,
    mesh_ms_per_s,
    rates,
    tokens_per_s,
)

TOLD_AFTER_S = 2
"""A session is in what replicas tell of a business about so much later."""
BACKOFF_MAX_S = 4
"""Between two attempts to dial upstream."""

Track = dict[str, list[float]]


@dataclass
class Outcome:
    """What a run came to: sums by what they count, and what there was at each step.

    ``use`` is each resource's share of what it bears; ``steps`` is everything else.
    """

    inputs: Inputs
    sums: Counter[str] = field(default_factory=Counter)
    use: Track = field(default_factory=lambda: defaultdict(list))
    steps: Track = field(default_factory=lambda: defaultdict(list))

    def total(self, kind: str) -> int:
        """Return a sum over all reasons: of ``refused`` or ``lost``."""
        return sum(count for name, count in self.sums.items() if name.startswith(f"{kind}: "))


def lengths_s(rng: np.random.Generator, count: int, world: World) -> Floats:
    """Draw how long sessions will last."""
    means = np.where(rng.random(count) < world.long_share, world.long_mean_s, world.session_mean_s)
    return np.minimum(rng.exponential(means), world.session_max_s)


def midway_s(rng: np.random.Generator, count: int, world: World) -> tuple[Floats, Floats]:
    """Draw how long sessions that are met in the midst of it have lasted, and how long they still will."""
    long = world.long_share * capped_mean_s(world.long_mean_s, world) / mean_s(world)
    means = np.where(rng.random(count) < long, world.long_mean_s, world.session_mean_s)
    ages = -means * np.log(1 - rng.random(count) * (1 - np.exp(-world.session_max_s / means)))
    return ages, np.minimum(rng.exponential(means), world.session_max_s - ages)


class Simulation:
    """One run; a seed decides all of its chance."""

    def __init__(self, inputs: Inputs, seed: int = 1, *, has_doors: bool = True) -> None:
        d = inputs.deployment
        if any(count % d.cells for count in (d.gateways, d.session_replicas, d.tools_processes)):
            raise ValueError(
                f"gateways, session_replicas and tools_processes must be multiples of cells: {d.cells}"
            )
        self.inputs, self.d, self.w = inputs, d, inputs.world
        self._come, self._stay, self._rng = (np.random.default_rng([seed, n]) for n in range(3))
        self.outcome = Outcome(inputs)
        self.sums = self.outcome.sums
        self.crowd = Crowd(self.w.sessions * 3 // 2 + 1_000)
        self.gateways = Fleet(d.gateways, d.cells, d.gateway_sessions_max if has_doors else ENDLESS)
        self.replicas = Fleet(d.session_replicas, d.cells, d.session_sessions_max if has_doors else ENDLESS)
        self._limit = (d.business_sessions_max if has_doors else None) or ENDLESS
        self._told = [0] * TOLD_AFTER_S
        self._returning: Counter[int] = Counter()
        self._ends: Ints = np.zeros(d.session_replicas, np.int64)
        self.tools, self.facts = Tools(inputs), Facts(inputs)

    def run(self) -> Outcome:
        """Let the whole time pass."""
        count = round(self.w.sessions * self.w.morning_share)
        ages, rest = midway_s(self._stay, count, self.w)
        places = self._open(-ages, rest, 0)
        if self.w.in_step_at_s is not None:
            self.crowd.rolls_s[places] = self.w.in_step_at_s + self._until_quiet(len(places))
        for now_s in range(self.w.duration_s):
            self.step(now_s)
        self.sums["tool calls timed out"] = round(self.tools.timed_out)
        self.sums["facts dropped"] = round(self.facts.dropped)
        return self.outcome

    def step(self, now_s: int) -> None:
        """Let one second pass."""
        self._ends[:] = 0
        self.gateways.begin_second(now_s)
        self.replicas.begin_second(now_s)
        self._crash(now_s)
        ended = np.flatnonzero(self.crowd.ends_s <= now_s)
        self.sums["ended"] += len(ended)
        self._leave(ended)
        self._resume(now_s)
        self._roll_over(now_s)
        starts = self._arrive(now_s)
        self._account(now_s, starts)

    # -- arrivals -------------------------------------------------------------------------------------

    def _arrive(self, now_s: int) -> Ints:
        """Let those who come now in, or refuse them; return how many began at each replica."""
        w = self.w
        grown = min(1.0, now_s / w.morning_s) if w.morning_s else 1.0
        rate = w.sessions / mean_s(w) * (w.morning_share + (1 - w.morning_share) * grown)
        count = int(self._come.poisson(rate)) + self._returning.pop(now_s, 0)
        began, ends = np.full(count, float(now_s)), now_s + lengths_s(self._stay, count, w)
        is_full, refuses = self._told[-TOLD_AFTER_S] >= self._limit, self._upstream_refuses(now_s)
        if is_full or refuses:
            self.sums["arrived"] += count
            self._refuse(count, "business_full" if is_full else "service_unavailable (upstream)", now_s)
            began, ends = began[:0], ends[:0]
        places = self._open(began, ends, now_s)
        self._told = [*self._told[1:], self.crowd.count]
        return np.bincount(self.crowd.replica[places], minlength=self.d.session_replicas)

    def _open(self, began: Floats, ends: Floats, now_s: int) -> Ints:
        """Let sessions in as gateways and replicas have room; return the places of those that found it."""
        self.sums["arrived"] += len(began)
        # A balancer of least connections chooses the gateway.
        gateway = self.gateways.of_two(self._rng, self._rng.integers(self.d.cells, size=len(began)))
        there = self.gateways.seat(gateway)
        self._refuse(int((~there).sum()), "full (gateway)", now_s)
        began, ends, gateway = began[there], ends[there], gateway[there]
        owner = self._owners(gateway)
        replica = self.replicas.seat_anywhere(self._rng, owner)
        self.sums["openings that met a full replica first"] += int((replica != owner).sum())
        there = replica >= 0
        self._refuse(int((~there).sum()), "full (session)", now_s)
        self.gateways.give_back(gateway[~there])
        places = self.crowd.enter(began[there], ends[there], gateway[there], replica[there])
        self._connected(places, now_s)
        self.crowd.rolls_s[places] -= (now_s - began[there]) % self.d.rollover_s
        return places

    def _owners(self, gateway: Ints) -> Ints:
        """Return the less full of the two owners of each session, as they were when this second began."""
        one, other = self.replicas.pair(self._rng, gateway % self.d.cells)
        chosen: Ints = np.where(self.replicas.at[one] <= self.replicas.at[other], one, other)
        return chosen

    # -- partings -------------------------------------------------------------------------------------

    def _refuse(self, count: int, why: str, now_s: int) -> None:
        if count:
            self.sums[f"refused: {why}"] += count
            self._return(count, self.w.refused_return_share, self.w.refused_return_mean_s, now_s)

    def _lose(self, places: Ints, why: str, now_s: int, *, is_told: bool = True) -> None:
        if len(places):
            self.sums[f"lost: {why}"] += len(places)
            self._leave(places, is_told=is_told)
            self._return(len(places), self.w.lost_return_share, self.w.lost_return_mean_s, now_s)

    def _leave(self, places: Ints, *, is_told: bool = True) -> None:
        crowd = self.crowd
        self.gateways.give_back(crowd.gateway[places[crowd.back_s[places] == NEVER]])
        self.replicas.give_back(crowd.replica[places])
        if is_told:
            self._ends += np.bincount(crowd.replica[places], minlength=len(self._ends))
        crowd.leave(places)

    def _return(self, count: int, share: float, wait_mean_s: float, now_s: int) -> None:
        """Some of those who were refused or lost come again a little later."""
        again = int(self._rng.binomial(count, share))
        waits = np.ceil(self._rng.exponential(wait_mean_s, again)).astype(int)
        self._returning.update((now_s + 1 + waits).tolist())

    # -- what goes wrong ------------------------------------------------------------------------------

    def _crash(self, now_s: int) -> None:
        """A dead replica takes its sessions with it; a dead gateway's clients have the grace to come back."""
        d, w, crowd = self.d, self.w, self.crowd
        if now_s == w.session_crash_at_s:
            dead = self._rng.permutation(d.session_replicas)[: w.crashed_processes]
            self.replicas.fail(dead, now_s + d.replica_back_s)
            running = crowd.running()
            running = running[np.isin(crowd.replica[running], dead)]
            self._lose(running, "session_lost (its replica died)", now_s, is_told=False)
        if now_s == w.gateway_crash_at_s:
            dead = self._rng.permutation(d.gateways)[: w.crashed_processes]
            self.gateways.fail(dead, now_s + d.replica_back_s)
            running = crowd.running()
            running = running[np.isin(crowd.gateway[running], dead) & (crowd.back_s[running] == NEVER)]
            self.gateways.give_back(crowd.gateway[running])
            crowd.back_s[running] = now_s + 1 + self._rng.exponential(w.resume_mean_s, len(running))
            crowd.grace_s[running] = now_s + d.resume_grace_s

    def _resume(self, now_s: int) -> None:
        crowd = self.crowd
        away = np.flatnonzero(crowd.back_s < NEVER)
        if not len(away):
            return
        late = crowd.grace_s[away] <= now_s
        self._lose(away[late], "not back within the grace", now_s)
        back = away[~late & (crowd.back_s[away] <= now_s)]
        gateway = self.gateways.of_two(self._rng, crowd.replica[back] % self.d.cells)
        there = self.gateways.seat(gateway)
        crowd.back_s[back[~there]] = now_s + 1
        back = back[there]
        crowd.gateway[back], crowd.back_s[back], crowd.grace_s[back] = gateway[there], NEVER, NEVER
        self.sums["resumed"] += len(back)

    def _upstream_refuses(self, now_s: int) -> bool:
        began = self.w.upstream_refuses_at_s
        return began is not None and began <= now_s < began + self.w.upstream_refuses_s

    def _connected(self, places: Ints, now_s: int) -> None:
        self.crowd.rolls_s[places] = now_s + self.d.rollover_s + self._until_quiet(len(places))
        self.crowd.dials_s[places] = NEVER

    def _until_quiet(self, count: int) -> Floats:
        jitter = self._rng.random(count) * self.w.rollover_jitter_s
        return self._rng.exponential(self.w.quiet_mean_s, count) + jitter

    def _roll_over(self, now_s: int) -> None:
        """A roll-over lets the old connection go before the new one is there: where upstream refuses, it dials on."""
        crowd, refuses = self.crowd, self._upstream_refuses(now_s)
        if now_s == self.w.upstream_refuses_at_s:
            running = crowd.running()
            crowd.rolls_s[running[self._rng.random(len(running)) < self.w.upstream_cut_share]] = now_s
        due = np.flatnonzero(crowd.rolls_s <= now_s)
        dialling = np.flatnonzero(crowd.dials_s < NEVER)
        if refuses:
            crowd.rolls_s[due], crowd.dials_s[due] = NEVER, now_s
        else:  # those that dial come through at their next attempt, which their ids spread over the longest wait
            through = (dialling + now_s) % BACKOFF_MAX_S == 0
            due, dialling = np.concatenate((due, dialling[through])), dialling[~through]
            self._connected(due, now_s)
            self.replicas.setups += np.bincount(crowd.replica[due], minlength=self.d.session_replicas)
            self.sums["rolled over"] += len(due)
        self._lose(dialling[now_s - crowd.dials_s[dialling] >= self.d.reconnect_s], "upstream_lost", now_s)

    # -- what it asks of everything ---------------------------------------------------------------------

    def _account(self, now_s: int, starts: Ints) -> None:
        w, running = self.w, self.crowd.count
        there = w.broker_away_at_s is None or not 0 <= now_s - w.broker_away_at_s < w.broker_away_s
        calls = int(self._rng.poisson(running * rates(w).calls))
        self.tools.step(calls, self._rng, broker_is_there=there)
        at = self.replicas.at.astype(float)
        self.facts.step(at, starts, self._ends, broker_is_there=there)
        use = self._use(now_s, calls)
        over = max(use["upstream tokens"], use["upstream requests"], 1.0)
        self.sums["responses over upstream's limits"] += round(running * rates(w).responses * (1 - 1 / over))
        shown = {
            "sessions": running,
            "fullest spool": self.facts.fullest,
            "calls queued": self.tools.queued.sum(),
            "tool p50, ms": self.tools.wait_ms(0.5),
            "tool p99, ms": self.tools.wait_ms(0.99),
            "outbox": self.facts.outbox,
            "deliveries due": self.facts.due,
            "refused": self.outcome.total("refused"),
            "lost": self.outcome.total("lost"),
            **{name: self.sums[name] for name in ("arrived", "ended", "resumed", "rolled over")},
        }
        for track, values in ((self.outcome.use, use), (self.outcome.steps, shown)):
            for name, value in values.items():
                track[name].append(float(value))

    def _use(self, now_s: int, calls: int) -> dict[str, float]:
        """Return how much of what each resource bears is asked of it in this second; of processes, the busiest."""
        d, w, m, each, running = self.d, self.w, self.inputs.measured, rates(self.w), self.crowd.count
        mesh = mesh_ms_per_s(self.inputs, d.gateways / d.cells, d.session_replicas / d.cells)
        opening_ms = self.gateways.setups * gateway_setup_ms(m, d.session_replicas / d.cells)
        gateway = self.gateways.at * m.gateway_cpu_ms_per_s + opening_ms + mesh[0]
        session = self.replicas.at * m.session_cpu_ms_per_s + mesh[1]
        session = session + self.replicas.setups * m.session_setup_cpu_ms
        usable_ms = 1000 * m.busy_max
        late = self.gateways.at[gateway > usable_ms].sum() + self.replicas.at[session > usable_ms].sum()
        self.sums["session-seconds too busy to be in time"] += int(late)
        moved = kafka_mb_per_s(self.inputs, calls, facts_per_s(w, running))
        commits = commits_per_s(m, calls, running * each.effects, running * each.deliveries)
        memory_mb = self.replicas.at.max() * m.session_memory_kb / 1024
        tokens = 60 * running * tokens_per_s(w, self.crowd.mean_age_s(now_s))
        return {
            "gateway processor": gateway.max() / usable_ms,
            "session processor": session.max() / usable_ms,
            "gateway lines (GATEWAY_SESSIONS_MAX)": self.gateways.at.max() / d.gateway_sessions_max,
            "session lines (SESSION_SESSIONS_MAX)": self.replicas.at.max() / d.session_sessions_max,
            "session memory": memory_mb / d.session_memory_mb,
            "tools processes": self.tools.load,
            "tools' outbox": running * each.effects / self.facts.relayed_per_s,
            "notify processes": running * each.deliveries / self.facts.delivered_per_s,
            "databases": commits / (d.databases * d.database_commits_per_s),
            "Kafka brokers": moved / (d.brokers * d.broker_mb_per_s),
            "upstream tokens": tokens / (w.upstream_tokens_per_min or math.inf),
            "upstream requests": 60 * running * each.responses / (w.upstream_requests_per_min or math.inf),
        }
