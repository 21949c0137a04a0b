"""The link to the gateway, as the session service holds it: audio and control towards the client.

Writing only enqueues. A flush goes ahead of all queued audio of older epochs, which is dropped here. What the client may
not have received outlives the link: another gateway that takes the session over is sent it again. Reading is the
conductor's.

Law: one send per frame; nothing is awaited by the caller of ``send``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Literal, Protocol

import msgspec

from parley_common.contracts import audio_link
from parley_common.telemetry import Counter
from parley_common.unreceived import Unreceived

QUEUE_MAX_BYTES = 16 * 1024 * 1024
"""About five and a half minutes of audio: upstream is faster than real time, and the gateway takes it at once."""

UNRECEIVED_MAX_BYTES = 4 * 1024 * 1024
"""87 s of audio that no client says it received."""
CLOSE_SILENT = 1001

LostAs = Literal["lost", "drained"]

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
    """The write side of one session's link, over all the sockets that gateways open for it in turn."""

    def __init__(self, socket: Socket) -> None:
        self.socket: Socket | None = socket
        """Null while no gateway holds the session."""
        self.unreceived = Unreceived(UNRECEIVED_MAX_BYTES)
        self.lost_ms = 0
        """When the last socket was lost, and why; means nothing while there is one."""
        self.lost_as: LostAs = "lost"
        self._out: deque[bytes | str] = deque()
        self._queued_bytes = 0
        self._wake = asyncio.Event()
        self._closing: tuple[int, str] | None = None

    def send(self, message: audio_link.DownLink) -> bool:
        """Queue a control message; False when the gateway does not take what it is sent."""
        text = audio_link.encode(message)
        self.unreceived.message(message, text)
        return self._put(text)

    def play(self, epoch: int, number: int, first_sample: int, pcm: bytes) -> bool:
        """Queue audio, split so that no frame is larger than the protocol allows."""
        most = (audio_link.FRAME_MAX_BYTES - audio_link.DOWNLINK_HEADER_BYTES) // 2 * 2
        if len(pcm) <= most:
            return self._play(audio_link.pack_downlink(epoch, number, first_sample, pcm))
        whole = memoryview(pcm)
        return all(
            self._play(audio_link.pack_downlink(epoch, number, first_sample + at // 2, whole[at : at + most]))
            for at in range(0, len(pcm), most)
        )

    def _play(self, frame: bytes) -> bool:
        self.unreceived.audio(frame)
        return self._put(frame)

    def flush(self, epoch: int) -> bool:
        """Drop queued audio of older epochs and tell the client to fall silent."""
        kept = [f for f in self._out if isinstance(f, str) or audio_link.downlink_epoch(f) >= epoch]
        dropped = len(self._out) - len(kept)
        if dropped:
            STALE_DROPPED.inc(dropped)
            self._out = deque(kept)
            self._queued_bytes = sum(map(len, kept))
        return self.send(audio_link.Flush(epoch))

    def lose(self, lost_as: LostAs, now_ms: int) -> None:
        """The gateway is gone: nothing is queued until another takes over."""
        self.socket, self.lost_as, self.lost_ms = None, lost_as, now_ms
        self._restart(())

    def take_over(self, socket: Socket, ready: audio_link.Ready, have: Iterable[audio_link.Have]) -> None:
        """Go on at another gateway's socket, which is sent ``ready`` and all that the client may have missed."""
        ready = msgspec.structs.replace(ready, epoch=self.unreceived.epoch)
        self.socket = socket
        self._restart([audio_link.encode(ready), *self.unreceived.missed(have)])

    def _restart(self, entries: Iterable[bytes | str]) -> None:
        self._out = deque(entries)
        self._queued_bytes = sum(map(len, self._out))
        self._wake.set()

    def _put(self, frame: bytes | str) -> bool:
        if self.socket is None:
            return True
        if self._queued_bytes + len(frame) > QUEUE_MAX_BYTES or self._closing:
            return False
        self._out.append(frame)
        self._queued_bytes += len(frame)
        self._wake.set()
        return True

    async def write(self) -> None:
        """Write what is queued to the present socket until ``close``, or until that socket is given up.

        Ends quietly when the socket is gone, as the reader tells.
        """
        socket = self.socket
        if socket is None:
            return
        while self.socket is socket:
            while self._out and self.socket is socket:
                frame = self._out.popleft()
                self._queued_bytes -= len(frame)
                await (socket.send_text(frame) if isinstance(frame, str) else socket.send_bytes(frame))
            if self._closing:
                await socket.close(*self._closing)
                return
            if self.socket is socket:
                self._wake.clear()
                await self._wake.wait()
        if self.socket is None:
            await socket.close(CLOSE_SILENT, "silent")
        else:
            await socket.close(audio_link.LINK_REPLACED, "replaced")

    def close(self, code: int, reason: str) -> None:
        """Close once everything queued is written."""
        self._closing = self._closing or (code, reason)
        self._wake.set()
