"""The Realtime socket: dial, read, write. Knows no event by name; the codec does.

Writing only enqueues: control events are never dropped, caller audio drops its oldest when upstream cannot
keep up. Reading never stops to push back: upstream is faster than real time on purpose.

Law: whatever ends the socket becomes one UpstreamLost.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from parley_common.telemetry import Counter
from parley_session import realtime_codec
from parley_session.core.events import Event, UpstreamLost

DIAL_S = 5
CLOSE_S = 2
PING_EVERY_S = 10
PONG_WITHIN_S = 10
"""A connection whose peer vanished is found within 20 s."""
CONTROL_MAX = 1_000
AUDIO_MAX = 500
"""Caller frames that wait for upstream: 10 s of 20 ms frames."""

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
    """What is needed of a connected socket: as `websockets` has it."""

    async def recv(self, decode: bool | None = None) -> str | bytes: ...

    async def send(self, message: bytes, *, text: bool | None = None) -> None: ...

    async def close(self) -> None: ...


Dial = Callable[..., Awaitable[UpstreamSocket]]
"""Opens a socket, as ``dial_websocket`` does; tests give a stand-in's."""


async def dial_websocket(address: str, **options: Any) -> UpstreamSocket:
    """Open a WebSocket. Raises what ``websockets.asyncio.client.connect`` does."""
    return await connect(address, **options)


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
        self._out: deque[tuple[bool, bytes]] = deque()
        self._audio_waiting = 0
        self._wake = asyncio.Event()
        self._over = asyncio.Event()
        self._closing = False

    def send(self, frame: bytes) -> bool:
        """Queue a control event; False when the queue is full, which fails the session."""
        if len(self._out) - self._audio_waiting >= CONTROL_MAX:
            return False
        self._out.append((False, frame))
        self._wake.set()
        return True

    def append(self, pcm: bytes | memoryview) -> None:
        """Queue caller audio; drops the oldest waiting frame when too much waits."""
        if self._audio_waiting >= AUDIO_MAX:
            self._drop_oldest_audio()
        self._out.append((True, realtime_codec.encode_append(pcm)))
        self._audio_waiting += 1
        self._wake.set()

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
            socket = await self._dial(
                self._endpoint.address(self._model),
                additional_headers=self._endpoint.headers(),
                compression=None,
                max_size=None,
                open_timeout=DIAL_S,
                close_timeout=CLOSE_S,
                ping_interval=PING_EVERY_S,
                ping_timeout=PONG_WITHIN_S,
                user_agent_header="parley",
            )
        except (OSError, TimeoutError, InvalidHandshake, InvalidURI) as wrong:
            log.warning("upstream.not_reached", cause=type(wrong).__name__)
            self._on_event(self, UpstreamLost(0, f"cannot be reached: {type(wrong).__name__}"))
            return
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._write(socket)), group.create_task(self._read(socket))]
                await self._over.wait()
                for task in tasks:
                    task.cancel()
        finally:
            await socket.close()

    async def _read(self, socket: UpstreamSocket) -> None:
        try:
            while True:
                self._on_event(self, realtime_codec.decode(await socket.recv(decode=False)))
        except ConnectionClosed as closed:
            frame = closed.rcvd
            if not self._closing:
                code, reason = (frame.code, frame.reason) if frame else (1006, "")
                self._on_event(self, UpstreamLost(code, reason))
        finally:
            self._over.set()

    async def _write(self, socket: UpstreamSocket) -> None:
        try:
            while True:
                while self._out:
                    is_audio, frame = self._out.popleft()
                    self._audio_waiting -= is_audio
                    await socket.send(frame, text=True)
                if self._closing:
                    self._over.set()
                    return
                self._wake.clear()
                await self._wake.wait()
        except ConnectionClosed:
            return  # the reader tells

    def close(self) -> None:
        """Close once everything queued is written."""
        self._closing = True
        self._wake.set()

    def abort(self) -> None:
        """Give the socket up at once, with whatever is queued."""
        self._closing = True
        self._out.clear()
        self._over.set()
