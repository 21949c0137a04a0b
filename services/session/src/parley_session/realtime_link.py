"""The Realtime socket: dial, read, write. Knows no event by name; the codec does.

What is sent leaves at once, as long as upstream reads. Else it waits: control events are never dropped, caller audio
drops its oldest. Reading never stops to push back: upstream is faster than real time on purpose.

Law: whatever ends the socket becomes one UpstreamLost.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import structlog

from parley_common.telemetry import Counter
from parley_common.websocket import WebSocket, connect
from parley_session import realtime_codec
from parley_session.core.events import Event, UpstreamLost

DIAL_S = 5
CLOSE_NORMAL = 1000
PING_AFTER_MS = 2_000
"""After so long without a word of upstream's. An answer tells that what was sent before has arrived."""
PONG_WITHIN_MS = 10_000
"""A connection whose peer vanished is found within 13 s."""
CONTROL_MAX = 1_000
AUDIO_MAX = 500
"""Caller frames that wait for upstream: 10 s of 20 ms frames."""
MESSAGE_MAX_BYTES = 16 * 1024 * 1024
UNSENT_MAX_BYTES = 64 * 1024
"""About a second of caller audio; what comes after it waits here, where it can be dropped."""
READ_BUFFER_BYTES = 8 * 1024
"""It grows to the largest delta that comes."""

log = structlog.get_logger("upstream")
FRAMES_DROPPED = Counter(
    "parley_upstream_audio_dropped", "Caller frames dropped because upstream was too slow"
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where upstream is and how to show who we are."""

    url: str
    api_key: str
    auth: str = "bearer"

    def address(self, model: str) -> str:
        joiner = "&" if "?" in self.url else "?"
        return f"{self.url}{joiner}model={model}"

    def headers(self) -> dict[str, str]:
        if self.auth == "api-key":
            return {"api-key": self.api_key}
        return {"Authorization": f"Bearer {self.api_key}"}


class UpstreamSocket(Protocol):
    """What is needed of a connected socket: ``parley_common.websocket.WebSocket`` has it."""

    is_choked: bool
    is_clean: bool
    on_writable: Callable[[], None] | None

    def listen(self, on_message: Callable[[bytes | str], None], on_closed: Callable[[], None]) -> None: ...

    def send_as_text(self, data: bytes) -> bool: ...

    def ping(self, on_pong: Callable[[], None]) -> None: ...

    def abort(self) -> None: ...

    def close(self, code: int, reason: str) -> None: ...

    @property
    def close_code(self) -> int: ...

    @property
    def close_reason(self) -> str: ...


Dial = Callable[[str, Mapping[str, str]], Awaitable[UpstreamSocket]]
"""Opens a socket to an address with headers, as ``dial_websocket`` does; tests give a stand-in's."""


async def dial_websocket(address: str, headers: Mapping[str, str]) -> UpstreamSocket:
    """Open a WebSocket, through the proxy that the environment names, if it does. Raises OSError, TimeoutError."""
    socket = WebSocket(
        message_max_bytes=MESSAGE_MAX_BYTES, unsent_max_bytes=UNSENT_MAX_BYTES, text_as_bytes=True
    )
    return await connect(
        address,
        socket,
        headers={**headers, "User-Agent": "parley"},
        within_s=DIAL_S,
        read_buffer_bytes=READ_BUFFER_BYTES,
        proxy=_proxy(address),
    )


def _proxy(address: str) -> str | None:
    """Return the proxy for an address by the usual variables, such as HTTPS_PROXY and NO_PROXY; null for none."""
    url = urlsplit(address)
    if url.hostname is None or proxy_bypass(url.hostname):
        return None
    return getproxies().get("https" if url.scheme == "wss" else "http")


class RealtimeLink:
    """One upstream connection. ``on_event`` is called with it and each thing upstream says, in order, on the loop."""

    def __init__(
        self,
        endpoint: Endpoint,
        model: str,
        on_event: Callable[[RealtimeLink, Event], None],
        dial: Dial = dial_websocket,
    ) -> None:
        self._endpoint = endpoint
        self._model = model
        self._on_event = on_event
        self._dial = dial
        self._socket: UpstreamSocket | None = None
        self._out: deque[tuple[bool, bytes]] = deque()
        """What waits: whether it is audio, and the frame."""
        self._audio_waiting = 0
        self._over = asyncio.Event()
        self._closing = False
        self._has_spoken = True
        """Since it was last looked at."""
        self._heard_ms = 0
        self._pinged_ms: int | None = None

    def send(self, frame: bytes) -> bool:
        """Send a control event; False when too many wait, which fails the session."""
        if self._is_clear:
            return self._send_now(frame)
        if len(self._out) - self._audio_waiting >= CONTROL_MAX:
            return False
        self._out.append((False, frame))
        return True

    def append(self, pcm: bytes | memoryview) -> None:
        """Send caller audio; drops the oldest waiting frame when too much waits."""
        frame = realtime_codec.encode_append(pcm)
        if self._is_clear:
            self._send_now(frame)
            return
        if self._audio_waiting >= AUDIO_MAX:
            self._drop_oldest_audio()
        self._out.append((True, frame))
        self._audio_waiting += 1

    @property
    def _is_clear(self) -> bool:
        return self._socket is not None and not self._out and not self._socket.is_choked

    def _send_now(self, frame: bytes) -> bool:
        if self._socket is not None:
            self._socket.send_as_text(frame)  # of a socket that is closed the listener is told
        return True

    def _send_waiting(self) -> None:
        while self._out and self._socket is not None and not self._socket.is_choked:
            is_audio, frame = self._out.popleft()
            self._audio_waiting -= is_audio
            self._send_now(frame)
        if self._closing and not self._out:
            self._over.set()

    def _drop_oldest_audio(self) -> None:
        for index, (is_audio, _) in enumerate(self._out):
            if is_audio:
                del self._out[index]
                self._audio_waiting -= 1
                FRAMES_DROPPED.inc()
                return

    async def run(self) -> None:
        """Dial, then read and write until the socket ends, or ``close`` or ``abort`` is called."""
        try:
            socket = await self._dial(self._endpoint.address(self._model), self._endpoint.headers())
        except OSError as wrong:
            log.warning("upstream.not_reached", cause=type(wrong).__name__)
            self._on_event(self, UpstreamLost(0, f"cannot be reached: {type(wrong).__name__}"))
            return
        try:
            self._socket, socket.on_writable = socket, self._send_waiting
            socket.listen(self._heard, self._lost)
            self._send_waiting()
            await self._over.wait()
        finally:
            self._socket = None
            socket.listen(_let_go, _nobody_asks)
            socket.close(CLOSE_NORMAL, "")

    def keep_alive(self, now_ms: int, on_pong: Callable[[], None]) -> None:
        """Ping an upstream that says nothing, and give it up when it does not answer. To be called now and then."""
        if self._socket is None:
            return
        if self._has_spoken:
            self._has_spoken, self._heard_ms, self._pinged_ms = False, now_ms, None
        elif self._pinged_ms is not None:
            if now_ms - self._pinged_ms >= PONG_WITHIN_MS:
                self._socket.abort()
        elif now_ms - self._heard_ms >= PING_AFTER_MS:
            self._pinged_ms = now_ms
            self._socket.ping(lambda: self._answered(on_pong))

    def _answered(self, on_pong: Callable[[], None]) -> None:
        self._has_spoken = True
        on_pong()

    def _heard(self, message: bytes | str) -> None:
        self._has_spoken = True
        self._on_event(self, realtime_codec.decode(message))

    def _lost(self) -> None:
        if self._socket is not None and not self._closing:
            self._on_event(self, UpstreamLost(self._socket.close_code, self._socket.close_reason))
        self._over.set()

    def close(self) -> None:
        """Close once everything that waits is sent."""
        self._closing = True
        if self._socket is not None:
            self._send_waiting()

    def abort(self) -> None:
        """Give the socket up at once, with whatever waits."""
        self._closing = True
        self._out.clear()
        self._over.set()


def _let_go(_: bytes | str) -> None: ...


def _nobody_asks() -> None: ...
