"""Sends one client what is for it, in order, at once as long as it reads: the sole sender on its socket.

What waits and what is dropped is the queue's business (downlink.py). Law: one send per entry, in the turn of the
loop in which it came or the client began to read again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from parley_common.contracts.audio_link import encode
from parley_common.websocket import WebSocket
from parley_gateway import metrics
from parley_gateway.clients.downlink import DownlinkQueue
from parley_gateway.clients.ends import End
from parley_gateway.settings import Timing


class ClientWriter:
    """The downlink of one client."""

    def __init__(self, socket: WebSocket, bytes_max: int, traffic: metrics.Traffic) -> None:
        self.queue = DownlinkQueue(bytes_max)
        self._socket = socket
        self._traffic = traffic
        self._emptied: asyncio.Future[None] | None = None
        socket.on_writable = self._send_waiting

    def frame(self, frame: bytes) -> bool:
        """Send an audio frame as soon as may be. False: the client is too far behind."""
        if not self.queue and not self._socket.is_choked:
            if self.queue.is_stale(frame):
                return True
            self._socket.send(frame)
        elif not self.queue.audio(frame):
            return False
        self._traffic.down_count += 1
        self._traffic.down_bytes += len(frame)
        return True

    def text(self, text: str) -> bool:
        """Send a message after all that waits. False: the client is too far behind."""
        if not self.queue and not self._socket.is_choked:
            self._socket.send(text)
            return True
        return self.queue.text(text)

    def again(self, entries: Iterable[bytes | str], epoch: int) -> None:
        """Send what the client missed on an earlier socket, room or not; the newest flush was ``epoch``."""
        self.queue.begin(entries, epoch)
        self._send_waiting()

    def flush(self, epoch: int, text: str) -> None:
        """Send a flush ahead of the audio that it outdates."""
        self.queue.flush(epoch, text)
        self._send_waiting()

    def _send_waiting(self) -> None:
        socket, queue = self._socket, self.queue
        while not socket.is_choked:
            entry = queue.pop()
            if entry is None:
                if self._emptied is not None and not self._emptied.done():
                    self._emptied.set_result(None)
                return
            socket.send(entry)

    async def say_goodbye(self, end: End, timing: Timing) -> None:
        """Send what still waits, unless the session ended badly: then only messages matter; then close."""
        last_words = end.error or end.notice
        if last_words is not None:
            self.queue.drop_audio()
            self.queue.last_text(encode(last_words))
        self._emptied = asyncio.get_running_loop().create_future()
        self._send_waiting()
        within_ms = timing.close_within_ms if last_words else timing.deliver_within_ms
        if self._socket.is_open:
            await asyncio.wait({self._emptied}, timeout=within_ms / 1000)
        self._socket.close(end.client_code, end.reason)
