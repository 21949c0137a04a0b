"""The link to the gateway, as the session service holds it: audio and control towards the client.

Writing only enqueues. A flush goes ahead of all queued audio of older epochs, which is dropped here.
Reading is the conductor's; this file turns frames into messages and counts time since the last.

Law: one send per frame; nothing is awaited by the caller of ``send``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from parley_common.contracts import audio_link
from parley_common.telemetry import Counter

QUEUE_MAX_BYTES = 16 * 1024 * 1024
"""About five and a half minutes of audio: upstream is faster than real time, and the gateway takes it at once."""

STALE_DROPPED = Counter(
    "parley_session_stale_frames_dropped", "Audio frames of an older epoch dropped at a flush"
)


class Socket(Protocol):
    """What a link needs of a WebSocket, so that the library under it can change."""

    async def receive(self) -> bytes | str | None:
        """Return the next frame; null once the socket is closed."""
        ...

    async def send_bytes(self, frame: bytes) -> None: ...

    async def send_text(self, text: str) -> None: ...

    async def close(self, code: int, reason: str) -> None: ...

    @property
    def close_code(self) -> int:
        """The peer's close code, once ``receive`` returned null."""
        ...


class CallerLink:
    """The write side of one link."""

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self._out: deque[bytes | str] = deque()
        self._queued_bytes = 0
        self._wake = asyncio.Event()
        self._closing: tuple[int, str] | None = None

    def send(self, message: audio_link.DownLink) -> bool:
        """Queue a control message; False when the gateway does not take what it is sent."""
        return self._put(audio_link.encode(message))

    def play(self, epoch: int, number: int, first_sample: int, pcm: bytes) -> bool:
        """Queue audio, split so that no frame is larger than the protocol allows."""
        most = (audio_link.FRAME_MAX_BYTES - audio_link.DOWNLINK_HEADER_BYTES) // 2 * 2
        if len(pcm) <= most:
            return self._put(audio_link.pack_downlink(epoch, number, first_sample, pcm))
        whole = memoryview(pcm)
        return all(
            self._put(audio_link.pack_downlink(epoch, number, first_sample + at // 2, whole[at : at + most]))
            for at in range(0, len(pcm), most)
        )

    def flush(self, epoch: int) -> bool:
        """Drop queued audio of older epochs and tell the client to fall silent."""
        kept = [f for f in self._out if isinstance(f, str) or audio_link.downlink_epoch(f) >= epoch]
        dropped = len(self._out) - len(kept)
        if dropped:
            STALE_DROPPED.inc(dropped)
            self._out = deque(kept)
            self._queued_bytes = sum(map(len, kept))
        return self.send(audio_link.Flush(epoch))

    def _put(self, frame: bytes | str) -> bool:
        if self._queued_bytes + len(frame) > QUEUE_MAX_BYTES or self._closing:
            return False
        self._out.append(frame)
        self._queued_bytes += len(frame)
        self._wake.set()
        return True

    async def write(self) -> None:
        """Write what is queued until ``close``; ends quietly when the socket is gone, as the reader tells."""
        while True:
            while self._out:
                frame = self._out.popleft()
                self._queued_bytes -= len(frame)
                await (
                    self.socket.send_text(frame) if isinstance(frame, str) else self.socket.send_bytes(frame)
                )
            if self._closing:
                await self.socket.close(*self._closing)
                return
            self._wake.clear()
            await self._wake.wait()

    def close(self, code: int, reason: str) -> None:
        """Close once everything queued is written."""
        self._closing = self._closing or (code, reason)
        self._wake.set()
