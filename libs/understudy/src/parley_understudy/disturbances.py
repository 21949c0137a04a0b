"""Fault scripts from the control endpoint on their way to sessions: to the next ones, or into one that runs.

It reads no script and applies none.

Law: scripts are handed out in the order in which they came; each goes to as many connections as were asked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

from parley_common.errors import Overloaded
from parley_understudy.fault_plan import Plan

_WAITING_MAX = 1_000

Disturb: TypeAlias = Callable[[Plan], None]


@dataclass(slots=True)
class _Waiting:
    plan: Plan
    connections_left: int | None


class Disturbances:
    """The scripts that wait, and the sessions that can be reached."""

    def __init__(self) -> None:
        self._waiting: deque[_Waiting] = deque()
        self._sessions: dict[str, Disturb] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def sessions(self) -> list[str]:
        """Return the ids of open sessions, oldest first."""
        return list(self._sessions)

    def add(self, plan: Plan, connections: int | None) -> None:
        """Keep a script for the next connections; None means every one until :meth:`clear`. Raises Overloaded."""
        if len(self._waiting) >= _WAITING_MAX:
            raise Overloaded(f"{_WAITING_MAX} fault scripts are waiting already")
        self._waiting.append(_Waiting(plan, connections))

    def clear(self) -> None:
        """Forget the scripts that wait; running sessions keep theirs."""
        self._waiting.clear()

    def next_plan(self) -> Plan | None:
        """Take the script for a connection that opens now, if one waits."""
        if not self._waiting:
            return None
        first = self._waiting[0]
        if first.connections_left is not None:
            first.connections_left -= 1
            if first.connections_left <= 0:
                self._waiting.popleft()
        return first.plan

    def disturb(self, session_id: str, plan: Plan) -> bool:
        """Give a script to a session that runs; return whether there is one of that id."""
        disturb = self._sessions.get(session_id)
        if disturb is None:
            return False
        disturb(plan)
        return True

    @contextmanager
    def reach(self, session_id: str, disturb: Disturb) -> Iterator[None]:
        """Let a session be reached while it runs."""
        self._sessions[session_id] = disturb
        try:
            yield
        finally:
            del self._sessions[session_id]
