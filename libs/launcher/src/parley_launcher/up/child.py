"""Becomes a service that dies with its launcher. Run as a script: ``child.py <launcher's pid> <program> ...``.

On Linux the kernel is asked to send SIGTERM to this process when its parent dies, which survives the exec that
follows. It is a program of its own, not code between fork and exec, because that is unsafe in a process with
threads. Elsewhere the guard alone does this. It imports nothing but the standard library: it runs before every
service.

Law: a service never starts for a launcher that is already gone.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(argv: list[str]) -> None:
    """Ask for the signal, look whether the parent is still the launcher, and become ``argv[1:]``."""
    launcher, program = int(argv[0]), argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != launcher:
        sys.exit(1)
    os.execv(program[0], program)  # noqa: S606  (this process becomes the service)


if __name__ == "__main__":
    main(sys.argv[1:])
