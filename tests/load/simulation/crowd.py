"""Sessions and the processes that carry them, as arrays, so that a second touches all of them at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
NEVER = np.inf
ENDLESS = 2**62
"""Room of a process whose doors are open."""


class Crowd:
    """The sessions that run, each a place in the arrays. A place that is free ends, rolls over and comes back never."""

    def __init__(self, places: int) -> None:
        self.times = np.full((5, places), NEVER)
        self.ends_s, self.rolls_s, self.dials_s, self.back_s, self.grace_s = self.times
        """When it ends; when its upstream connection is replaced; since when upstream is dialled in vain; when its
        client, whose gateway died, comes back; until when that is waited for."""
        self.began_s: Floats = np.zeros(places)
        self.gateway: Ints = np.zeros(places, np.int64)
        self.replica: Ints = np.zeros(places, np.int64)
        self._free = list(range(places))
        self._began_sum_s = 0.0

    @property
    def count(self) -> int:
        return self.times.shape[1] - len(self._free)

    def mean_age_s(self, now_s: float) -> float:
        return now_s - self._began_sum_s / self.count if self.count else 0.0

    def enter(self, began_s: Floats, ends_s: Floats, gateway: Ints, replica: Ints) -> Ints:
        """Take in sessions and return their places."""
        if len(began_s) > len(self._free):
            raise ValueError("more sessions than the arrays have places: give the simulation a larger world")
        first = len(self._free) - len(began_s)
        places = np.array(self._free[first:], np.int64)
        del self._free[first:]
        self.began_s[places], self.ends_s[places] = began_s, ends_s
        self.gateway[places], self.replica[places] = gateway, replica
        self._began_sum_s += float(began_s.sum())
        return places

    def leave(self, places: Ints) -> None:
        """Let sessions go."""
        self._began_sum_s -= float(self.began_s[places].sum())
        self.times[:, places] = NEVER
        self._free.extend(places.tolist())

    def running(self) -> Ints:
        return np.flatnonzero(self.ends_s < NEVER)


class Fleet:
    """The processes of one kind, dealt out over cells: how many sessions each has, and which are down until when."""

    def __init__(self, processes: int, cells: int, room: int) -> None:
        self.cells, self.room = cells, room
        self.at: Ints = np.zeros(processes, np.int64)
        self.back_s: Floats = np.zeros(processes)
        self.setups: Ints = np.zeros(processes, np.int64)
        """Sessions set up, or connected anew, within this second."""

    def fail(self, dead: Ints, back_s: float) -> None:
        self.back_s[dead] = back_s

    def begin_second(self, now_s: float) -> None:
        self.setups[:] = 0
        self.back_s[self.back_s <= now_s] = 0.0

    def of_two(self, rng: np.random.Generator, cell: Ints) -> Ints:
        """Return for each the less full of two processes of its cell."""
        one, other = self.pair(rng, cell)
        load = self.at + (self.back_s > 0) * ENDLESS
        less_full: Ints = np.where(load[one] <= load[other], one, other)
        return less_full

    def pair(self, rng: np.random.Generator, cell: Ints) -> Ints:
        """Return for each any two processes of its cell."""
        found: Ints = cell + self.cells * rng.integers(len(self.at) // self.cells, size=(2, len(cell)))
        return found

    def seat(self, wanted: Ints) -> Mask:
        """Seat whom there is room for, first come first served, and say who that is."""
        order = np.argsort(wanted, kind="stable")
        places, begins = np.arange(len(wanted)), np.ones(len(wanted), bool)
        begins[1:] = wanted[order][1:] != wanted[order][:-1]
        rank = places - np.maximum.accumulate(np.where(begins, places, 0))
        found = np.empty(len(wanted), bool)
        found[order] = (self.at[wanted[order]] + rank < self.room) & (self.back_s[wanted[order]] == 0)
        self._take(wanted[found])
        return found

    def seat_anywhere(self, rng: np.random.Generator, wanted: Ints) -> Ints:
        """Seat each where it wants, else anywhere in the same cell; return where, -1 for those who find no room."""
        there = self.seat(wanted)
        found = np.where(there, wanted, -1)
        cell = wanted % self.cells
        for each in np.unique(cell[~there]):
            mine = np.arange(each, len(self.at), self.cells)
            wait = np.flatnonzero(~there & (cell == each))
            left = np.where(self.back_s[mine] > 0, 0, np.maximum(0, self.room - self.at[mine])).clip(
                max=len(wait)
            )
            free = rng.permutation(np.repeat(mine, left))[: len(wait)]
            found[wait[: len(free)]] = free
            self._take(free)
        return found

    def _take(self, processes: Ints) -> None:
        taken = np.bincount(processes, minlength=len(self.at))
        self.at += taken
        self.setups += taken

    def give_back(self, processes: Ints) -> None:
        self.at -= np.bincount(processes, minlength=len(self.at))
