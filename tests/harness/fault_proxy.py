"""A TCP proxy in the test's own loop that makes a network slow, jittery, silent, broken or absent.

It stands between any client and any server of 127.0.0.1 and knows nothing of what passes. Faults are plain
attributes and methods that take effect at once, on open sockets and on later ones. It does not reorder or
change bytes: TCP would not either.

Law: what it may hold back is bounded (``HELD_CHUNKS_MAX`` per direction), so a slow far end is felt.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from contextlib import suppress
from types import TracebackType
from typing import Self

from harness.waiting import until

CHUNK_BYTES = 16_384
HELD_CHUNKS_MAX = 256


class _Pair:
    """One client's socket and the one we opened for it."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.writers = (client, server)
        self.is_cut = asyncio.Event()

    def reset(self) -> None:
        self.is_cut.set()
        for writer in self.writers:
            _reset(writer)


class FaultProxy:
    """Forwards 127.0.0.1:``port`` to ``target_port``; use with ``async with``."""

    def __init__(self, target_port: int, *, target_host: str = "127.0.0.1", seed: int = 1) -> None:
        self.target = (target_host, target_port)
        self.delay_ms = 0.0
        """Added to every chunk, each way; a round trip feels it twice."""
        self.jitter_ms = 0.0
        """Up to this much more, evenly distributed, never reordering."""
        self.bytes_per_s: float | None = None
        """The width of each direction of each socket; null is unlimited."""
        self.accepted_count = 0
        self._random = random.Random(seed)
        self._flows = asyncio.Event()
        self._flows.set()
        self._swallows = False
        self._pairs: set[_Pair] = set()
        self._server: asyncio.Server | None = None
        self._port = 0

    @property
    def port(self) -> int:
        """Where clients dial; it stays the same through ``refuse`` and ``accept``."""
        return self._port

    @property
    def open_count(self) -> int:
        """How many sockets pass through now."""
        return len(self._pairs)

    def stall(self) -> None:
        """Stop reading: nothing passes either way, and senders feel their buffers fill."""
        self._flows.clear()

    def half_open(self) -> None:
        """Keep reading and drop all of it, ends included: each side believes that the other is there."""
        self._swallows = True

    def cut(self) -> None:
        """Reset (RST) every open socket; new ones are accepted."""
        for pair in list(self._pairs):
            pair.reset()

    async def refuse(self) -> None:
        """Cut every open socket and refuse new ones, as when nothing listens."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        self.cut()

    async def accept(self) -> None:
        """Listen again, on the same port; idempotent."""
        if self._server is None:
            self._server = await asyncio.start_server(
                self._serve, "127.0.0.1", self._port, limit=CHUNK_BYTES, reuse_address=True
            )
            self._port = self._server.sockets[0].getsockname()[1]

    async def heal(self) -> None:
        """Take every fault away. What ``half_open`` swallowed stays lost."""
        self.delay_ms = self.jitter_ms = 0.0
        self.bytes_per_s = None
        self._swallows = False
        self._flows.set()
        await self.accept()

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.refuse()
        await until(lambda: not self._pairs, 5, "the proxied sockets to be closed")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted_count += 1
        try:
            far_reader, far_writer = await asyncio.open_connection(*self.target, limit=CHUNK_BYTES)
        except OSError:
            _reset(writer)
            return
        pair = _Pair(writer, far_writer)
        self._pairs.add(pair)
        try:
            async with asyncio.TaskGroup() as outer:
                watch = outer.create_task(self._fail_when_cut(pair))
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._forward(reader, far_writer, pair))
                    both.create_task(self._forward(far_reader, writer, pair))
                watch.cancel()
        except* OSError:
            pair.reset()
        finally:
            self._pairs.discard(pair)
            await _close(pair)

    async def _fail_when_cut(self, pair: _Pair) -> None:
        await pair.is_cut.wait()
        raise ConnectionAbortedError

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: _Pair) -> None:
        """Read one direction into a queue with due times; another task writes what is due."""
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(HELD_CHUNKS_MAX)
        async with asyncio.TaskGroup() as both:
            both.create_task(self._write_due(held, writer, pair))
            last_due_s = 0.0
            while True:
                chunk = await reader.read(CHUNK_BYTES)
                await self._flows.wait()
                last_due_s = max(last_due_s, self._due_s())
                await held.put((last_due_s, chunk))
                if not chunk:
                    return

    def _due_s(self) -> float:
        jitter_ms = self._random.uniform(0, self.jitter_ms) if self.jitter_ms else 0.0
        return asyncio.get_running_loop().time() + (self.delay_ms + jitter_ms) / 1000

    async def _write_due(
        self, held: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, pair: _Pair
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_s, chunk = await held.get()
            if (wait_s := due_s - loop.time()) > 0:
                await asyncio.sleep(wait_s)
            await self._flows.wait()
            if self._swallows:
                if not chunk:
                    await pair.is_cut.wait()
                continue
            if not chunk:
                writer.write_eof()
                return
            await self._write_at_width(chunk, writer)

    async def _write_at_width(self, chunk: bytes, writer: asyncio.StreamWriter) -> None:
        """Write ``chunk`` no faster than ``bytes_per_s``, in slices of about 20 ms."""
        while chunk:
            width = self.bytes_per_s
            slice_bytes = len(chunk) if width is None else max(1, int(width / 50))
            piece, chunk = chunk[:slice_bytes], chunk[slice_bytes:]
            writer.write(piece)
            await writer.drain()
            if width is not None:
                await asyncio.sleep(len(piece) / width)


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    if raw is not None and not writer.transport.is_closing():
        with suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _close(pair: _Pair) -> None:
    for writer in pair.writers:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
