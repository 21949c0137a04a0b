"""The link to the gateway, as the session service holds it: audio and control towards the client.

What is sent leaves at once, as long as the gateway reads; else it waits here, and a flush goes ahead of all waiting audio
of older epochs, which is dropped. What the client may not have received outlives the link: another gateway that takes
the session over is sent it again. Reading is the conductor's.

Law: one send per frame; nothing is awaited.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
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
    """What a link needs of a WebSocket: ``parley_common.websocket.WebSocket`` has it."""

    is_choked: bool
    on_writable: Callable[[], None] | None

    async def receive(self) -> bytes | str:
        """Return the next message. Raises Closed."""
        ...

    def listen(self, on_message: Callable[[bytes | str], None], on_closed: Callable[[], None]) -> None:
        """Hand over every message from now on, and at last that the socket is closed."""
        ...

    def ignore(self) -> None: ...

    def send(self, data: bytes | str) -> bool: ...

    def close(self, code: int, reason: str) -> None: ...

    @property
    def close_code(self) -> int:
        """The peer's close code, once it is closed."""
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
        self._emptied: asyncio.Future[None] | None = None
        """Done once nothing waits; null while more may be sent."""
        socket.on_writable = self._send_waiting

    def send(self, message: audio_link.DownLink) -> bool:
        """Queue a control message; False when the gateway does not take what it is sent."""
        text = audio_link.encode(message)
        self.unreceived.message(message, text)
        return self._put(text)

    def beat(self, text: str) -> None:
        """Send a sign of life that nobody misses."""
        self._put(text)

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
        left, self.socket = self.socket, None
        self.lost_as, self.lost_ms = lost_as, now_ms
        self._queue(())
        _leave(left, CLOSE_SILENT, "silent")

    def take_over(self, socket: Socket, ready: audio_link.Ready, have: Iterable[audio_link.Have]) -> None:
        """Go on at another gateway's socket, which is sent ``ready`` and all that the client may have missed."""
        ready = msgspec.structs.replace(ready, epoch=self.unreceived.epoch)
        left, self.socket = self.socket, socket
        _leave(left, audio_link.LINK_REPLACED, "replaced")
        socket.on_writable = self._send_waiting
        self._queue([audio_link.encode(ready), *self.unreceived.missed(have)])
        self._send_waiting()

    def _queue(self, entries: Iterable[bytes | str]) -> None:
        self._out = deque(entries)
        self._queued_bytes = sum(map(len, self._out))

    def _put(self, frame: bytes | str) -> bool:
        socket = self.socket
        if socket is None:
            return True
        if self._emptied is not None:
            return False
        if not self._out and not socket.is_choked:
            socket.send(frame)
            return True
        if self._queued_bytes + len(frame) > QUEUE_MAX_BYTES:
            return False
        self._out.append(frame)
        self._queued_bytes += len(frame)
        return True

    def _send_waiting(self) -> None:
        socket = self.socket
        while socket is not None and self._out and not socket.is_choked:
            frame = self._out.popleft()
            self._queued_bytes -= len(frame)
            socket.send(frame)
        if self._emptied is not None and not self._out and not self._emptied.done():
            self._emptied.set_result(None)

    async def close(self, code: int, reason: str, within_s: float) -> None:
        """Close once everything queued is sent, or ``within_s`` is over."""
        self._emptied = asyncio.get_running_loop().create_future()
        self._send_waiting()
        if self.socket is not None:
            await asyncio.wait({self._emptied}, timeout=within_s)
        _leave(self.socket, code, reason)


def _leave(socket: Socket | None, code: int, reason: str) -> None:
    if socket is not None:
        socket.on_writable = None
        socket.close(code, reason)
