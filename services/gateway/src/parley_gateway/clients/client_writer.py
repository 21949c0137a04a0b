"""Sends one client what waits for it, in order, as fast as it reads: the sole sender on its socket.

What waits and what is dropped is the queue's business (downlink.py). Law: one send per entry; nothing is
awaited but the socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from parley_common.contracts.audio_link import encode
from parley_gateway import metrics
from parley_gateway.client_socket import ClientGone, ClientSocket
from parley_gateway.clients.downlink import DownlinkQueue
from parley_gateway.clients.ends import End
from parley_gateway.settings import Timing


class ClientWriter:
    """The downlink of one client."""

    def __init__(self, socket: ClientSocket, bytes_max: int, traffic: metrics.Traffic) -> None:
        self.queue = DownlinkQueue(bytes_max)
        self._socket = socket
        self._traffic = traffic
        self._wake = asyncio.Event()
        self._is_finishing = False

    def frame(self, frame: bytes) -> bool:
        """Send an audio frame as soon as may be. False: the client is too far behind."""
        if not self.queue.audio(frame):
            return False
        self._traffic.down_count += 1
        self._traffic.down_bytes += len(frame)
        self._wake.set()
        return True

    def text(self, text: str) -> bool:
        """Send a message after all that waits. False: the client is too far behind."""
        self._wake.set()
        return self.queue.text(text)

    def again(self, entries: Iterable[bytes | str], epoch: int) -> None:
        """Send what the client missed on an earlier socket, room or not; the newest flush was ``epoch``."""
        self.queue.begin(entries, epoch)
        self._wake.set()

    def flush(self, epoch: int, text: str) -> None:
        """Send a flush ahead of the audio that it outdates."""
        self.queue.flush(epoch, text)
        self._wake.set()

    async def run(self) -> None:
        """Send until told to finish, and then all that still waits; return early when the client is gone."""
        socket, queue, wake = self._socket, self.queue, self._wake
        try:
            while True:
                entry = queue.pop()
                if entry is None:
                    if self._is_finishing:
                        return
                    await wake.wait()
                    wake.clear()
                elif isinstance(entry, str):
                    await socket.send_text(entry)
                else:
                    await socket.send_bytes(entry)
        except ClientGone:
            # The reader is told too, and knows whether the client said goodbye.
            return

    async def say_goodbye(self, running: asyncio.Task[None], end: End, timing: Timing) -> None:
        """Let ``run`` send what still waits, unless the session ended badly: then only messages matter."""
        last_words = end.error or end.notice
        if last_words is not None:
            self.queue.drop_audio()
            self.queue.last_text(encode(last_words))
        self._is_finishing = True
        self._wake.set()
        within_ms = timing.close_within_ms if last_words else timing.deliver_within_ms
        await asyncio.wait({running}, timeout=within_ms / 1000)
        running.cancel()
        await close_within(self._socket, end.client_code, end.reason, timing.close_within_ms)


async def close_within(socket: ClientSocket, code: int, reason: str, within_ms: int) -> None:
    """Close a client's socket; a peer that reads nothing is left to be aborted."""
    try:
        async with asyncio.timeout(within_ms / 1000):
            await socket.close(code, reason)
    except TimeoutError:
        return
