"""Outlives a launcher that is killed, and ends what it left: a small process at the far end of a pipe.

The launcher names each process group on the guard's standard input (``+ group``, ``- group``). The end of input
means that the launcher is gone, however it went: what is still listed gets SIGTERM, newest first, and SIGKILL a few
seconds later. Run as a script with nothing but the standard library; it is the belt to child.py's braces: groups hold
the workers of a service too, and not every kernel tells children of their parent's death.

Law: it ends only what it was told of, and ends itself.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress

LOOK_EVERY_S = 0.05


def main(lines: Iterable[str], term_to_kill_s: float) -> None:
    """Follow ``lines`` to their end, then end every group still listed."""
    groups: dict[int, None] = {}
    for line in lines:
        sign, _, group = line.strip().partition(" ")
        if sign == "+":
            groups[int(group)] = None
        elif sign == "-":
            groups.pop(int(group), None)
    left = list(reversed(groups))
    for group_id in left:
        _signal(group_id, signal.SIGTERM)
    ends_s = time.monotonic() + term_to_kill_s
    while (left := [group for group in left if _is_there(group)]) and time.monotonic() < ends_s:
        time.sleep(LOOK_EVERY_S)
    for group_id in left:
        _signal(group_id, signal.SIGKILL)


def _signal(group_id: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group_id, number)


def _is_there(group_id: int) -> bool:
    try:
        os.killpg(group_id, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    main(sys.stdin, float(sys.argv[1]))
