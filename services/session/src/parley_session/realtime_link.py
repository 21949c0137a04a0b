"""The Realtime socket: dial, read, write. Knows no event by name; the codec does.

Writing only enqueues: control events are never dropped, caller audio drops its oldest when upstream cannot
keep up. Reading never stops to push back: upstream is faster than real time on purpose.

Law: whatever ends the socket becomes one UpstreamLost.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from parley_common.telemetry import Counter
from parley_session import realtime_codec
from parley_session.core.events import Event, UpstreamLost

DIAL_S = 10
CLOSE_S = 2
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


class RealtimeLink:
    """One upstream connection. ``on_event`` is called for each thing upstream says, in order, on the loop."""

    def __init__(self, endpoint: Endpoint, model: str, on_event: Callable[[Event], None]) -> None:
        self._endpoint = endpoint
        self._model = model
        self._on_event = on_event
        self._out: deque[tuple[bool, bytes]] = deque()
        self._audio_waiting = 0
        self._wake = asyncio.Event()
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
        """Dial, then read and write until the socket ends or ``close`` is called."""
        try:
            socket = await connect(
                self._endpoint.address(self._model),
                additional_headers=self._endpoint.headers(),
                compression=None,
                max_size=None,
                open_timeout=DIAL_S,
                close_timeout=CLOSE_S,
                user_agent_header="parley",
            )
        except (OSError, TimeoutError, InvalidHandshake, InvalidURI) as wrong:
            log.warning("upstream.not_reached", cause=type(wrong).__name__)
            self._on_event(UpstreamLost(0, f"cannot be reached: {type(wrong).__name__}"))
            return
        try:
            async with asyncio.TaskGroup() as group:
                writer = group.create_task(self._write(socket))
                await self._read(socket)
                writer.cancel()
        finally:
            await socket.close()

    async def _read(self, socket: ClientConnection) -> None:
        try:
            while True:
                self._on_event(realtime_codec.decode(await socket.recv(decode=False)))
        except ConnectionClosed as closed:
            frame = closed.rcvd
            if not self._closing:
                code, reason = (frame.code, frame.reason) if frame else (1006, "")
                self._on_event(UpstreamLost(code, reason))

    async def _write(self, socket: ClientConnection) -> None:
        try:
            while True:
                while self._out:
                    is_audio, frame = self._out.popleft()
                    self._audio_waiting -= is_audio
                    await socket.send(frame, text=True)
                if self._closing:
                    await socket.close()
                    return
                self._wake.clear()
                await self._wake.wait()
        except ConnectionClosed:
            return  # the reader tells

    def close(self) -> None:
        """Close once everything queued is written."""
        self._closing = True
        self._wake.set()
