"""The link to a session service: dial it, send and receive frames, close it. One per session.

A frame that arrives is handed on in the same turn of the loop. It knows the frames' kinds, not their meaning. Law:
what is unsent is bounded; ``send_frame`` refuses rather than waits.
"""

from __future__ import annotations

from typing import Protocol

from parley_common.clock import Clock
from parley_common.contracts.audio_link import LINK_SUBPROTOCOL
from parley_common.errors import DependencyUnavailable
from parley_common.websocket import WebSocket, connect

LINK_PATH = "/v1/link"
LINK_MESSAGE_MAX_BYTES = 1024 * 1024
"""Checkpoints are the largest messages of a link."""
UNSENT_MAX_BYTES = 256 * 1024
"""5 s of caller audio; a replica that far behind gets no more until it reads."""


class LinkEvents(Protocol):
    """Who is told what arrives on a link, in order, without awaiting."""

    def link_frame(self, frame: bytes) -> None:
        """A binary frame arrived."""
        ...

    def link_text(self, text: str) -> None:
        """A text frame arrived."""
        ...

    def link_lost(self, code: int, reason: str) -> None:
        """The link is closed, whoever closed it; told once, after all frames."""
        ...


class SessionLink:
    """One WebSocket to a session service, after ``dial``."""

    def __init__(self, url: str, socket: WebSocket, events: LinkEvents, clock: Clock) -> None:
        self.url = url
        self.heard_ms = clock.now_ms()
        self._socket = socket
        self._events = events
        self._clock = clock
        socket.listen(self._heard, self._lost)

    @property
    def is_choked(self) -> bool:
        """Return whether the replica is too far behind for audio."""
        return self._socket.is_choked

    def send_frame(self, frame: bytes) -> bool:
        """Send a binary frame now; false when the replica is too far behind, or gone, and it was dropped."""
        return not self._socket.is_choked and self._socket.send(frame)

    def send_text(self, text: str) -> bool:
        """Send a text frame now, however far behind the replica is; false when it is gone."""
        return self._socket.send(text)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Start the closing handshake; the socket is aborted when it takes too long. Idempotent."""
        self._socket.close(code, reason)

    def abort(self) -> None:
        """Drop the socket at once."""
        self._socket.abort()

    def _heard(self, message: bytes | str) -> None:
        self.heard_ms = self._clock.now_ms()
        if isinstance(message, bytes):
            self._events.link_frame(message)
        else:
            self._events.link_text(message)

    def _lost(self) -> None:
        self._events.link_lost(self._socket.close_code, self._socket.close_reason)


async def dial(url: str, token: str, events: LinkEvents, clock: Clock, within_ms: int) -> SessionLink:
    """Return an open link to the session service at ``url``. Raises DependencyUnavailable."""
    socket = WebSocket(message_max_bytes=LINK_MESSAGE_MAX_BYTES, unsent_max_bytes=UNSENT_MAX_BYTES)
    headers = {"Authorization": f"Bearer {token}", "Sec-WebSocket-Protocol": LINK_SUBPROTOCOL}
    try:
        await connect(url + LINK_PATH, socket, headers=headers, within_s=within_ms / 1000)
    except OSError as wrong:
        raise DependencyUnavailable(f"no link to {url}: {wrong}", code="link_refused") from wrong
    except BaseException:
        socket.abort()
        raise
    return SessionLink(url, socket, events, clock)
