"""Decides which session replica gets a session: two owners by rendezvous hash, the less loaded first.

Pure: it is told what is known of each replica. Two owners rather than all keep a token's replays at two
replicas; the others follow as fallbacks in hash order. Law: the same input gives the same order everywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

OWNERS_COUNT = 2
NOMINAL_CAPACITY = 200
"""Stands in for a capacity that a replica has not told yet, so that loads can be compared."""


@dataclass(frozen=True, slots=True)
class ReplicaView:
    """What is known of one session replica. ``capacity`` is null until it told."""

    url: str
    is_ready: bool = True
    is_draining: bool = False
    sessions_count: int = 0
    capacity: int | None = None

    @property
    def load(self) -> float:
        """Return how full it is: 1 is full."""
        return self.sessions_count / (self.capacity or NOMINAL_CAPACITY)

    @property
    def is_full(self) -> bool:
        return self.capacity is not None and self.sessions_count >= self.capacity


def placement(session_id: str, replicas: Iterable[ReplicaView]) -> tuple[str, ...]:
    """Return the replicas to try, in order; empty when all are draining.

    What is known may be a second old: full and unready ones are tried too, after all others.
    """
    ranked = sorted(
        (replica for replica in replicas if not replica.is_draining),
        key=lambda replica: _rank(session_id, replica.url),
    )
    good = [replica for replica in ranked if replica.is_ready and not replica.is_full]
    owners = sorted(good[:OWNERS_COUNT], key=lambda replica: replica.load)
    full = [replica for replica in ranked if replica.is_ready and replica.is_full]
    unready = [replica for replica in ranked if not replica.is_ready]
    return tuple(replica.url for replica in (*owners, *good[OWNERS_COUNT:], *full, *unready))


def _rank(session_id: str, url: str) -> bytes:
    return hashlib.blake2b(f"{session_id}|{url}".encode(), digest_size=8).digest()
