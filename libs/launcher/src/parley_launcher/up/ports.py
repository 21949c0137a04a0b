"""Finds taken ports before anything is started.

Law: the error names the setting that moves the port.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from parley_common.errors import ConfigInvalid


@dataclass(frozen=True, slots=True)
class PortUse:
    """A port that something of ours wants, and the setting it comes from."""

    port: int
    setting: str
    name: str
    after_setting: int = 0
    """How far behind the setting's own port it is, as those of several workers are."""

    @property
    def source(self) -> str:
        """Return what gives the port, in words."""
        return f"{self.setting} + {self.after_setting}" if self.after_setting else self.setting


def check_ports(uses: Iterable[PortUse], host: str = "127.0.0.1") -> None:
    """Return when every port is free. Raises ConfigInvalid that names each taken one and its setting."""
    wanted: dict[int, PortUse] = {}
    taken = []
    for use in uses:
        if (other := wanted.setdefault(use.port, use)) is not use:
            raise ConfigInvalid(
                f"{use.source} and {other.source} are both {use.port}", remedy="give each a port of its own"
            )
        if not _is_free(host, use.port):
            taken.append(use)
    if taken:
        said = ", ".join(f"{use.port} for {use.name} ({use.source})" for use in taken)
        settings = " and ".join(dict.fromkeys(use.setting for use in taken))
        one = len(taken) == 1
        raise ConfigInvalid(
            f"port{'' if one else 's'} taken on {host}: {said}",
            remedy=f"stop what listens there, or set {settings} to {'a free port' if one else 'free ports'}",
        )


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as wrong:
            if wrong.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True
