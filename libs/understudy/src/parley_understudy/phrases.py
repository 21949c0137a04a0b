"""Rendered phrases, so that what was said once is not rendered again: in memory, and on disk when told where.

Law: a phrase is found by SHA-256 of its text, voice and speed; both places are bounded, oldest use goes first.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import OrderedDict
from pathlib import Path

_MEMORY_BYTES = 64 * 1024 * 1024
_DISK_BYTES = 512 * 1024 * 1024


class Phrases:
    """A cache of PCM16 24 kHz by phrase."""

    def __init__(
        self, folder: Path | None = None, *, memory_bytes: int = _MEMORY_BYTES, disk_bytes: int = _DISK_BYTES
    ) -> None:
        self._folder = folder
        self._memory_bytes = memory_bytes
        self._memory: OrderedDict[str, bytes] = OrderedDict()
        self._held_bytes = 0
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            _prune(folder, disk_bytes)

    def find(self, text: str, voice: str, speed: float) -> bytes | None:
        """Return a phrase's audio, or None. May read a file."""
        key = _key(text, voice, speed)
        if key in self._memory:
            self._memory.move_to_end(key)
            return self._memory[key]
        pcm = _read(self._folder / f"{key}.pcm") if self._folder else None
        if pcm is not None:
            self._remember(key, pcm)
        return pcm

    def keep(self, text: str, voice: str, speed: float, pcm: bytes) -> None:
        """Keep a phrase's audio. May write a file; a disk that cannot be written costs only the reuse."""
        key = _key(text, voice, speed)
        self._remember(key, pcm)
        if self._folder is not None:
            with contextlib.suppress(OSError):
                partial = self._folder / f"{key}.{os.getpid()}.partial"
                partial.write_bytes(pcm)
                partial.replace(self._folder / f"{key}.pcm")

    def _remember(self, key: str, pcm: bytes) -> None:
        self._held_bytes += len(pcm) - len(self._memory.pop(key, b""))
        self._memory[key] = pcm
        while self._held_bytes > self._memory_bytes and len(self._memory) > 1:
            self._held_bytes -= len(self._memory.popitem(last=False)[1])


def _key(text: str, voice: str, speed: float) -> str:
    return hashlib.sha256("\0".join((text, voice, f"{speed:.3f}")).encode()).hexdigest()


def _read(path: Path) -> bytes | None:
    try:
        os.utime(path)
        return path.read_bytes()
    except OSError:
        return None


def _prune(folder: Path, limit_bytes: int) -> None:
    files = sorted(folder.glob("*.pcm"), key=lambda path: path.stat().st_mtime, reverse=True)
    held = 0
    for path in files:
        held += path.stat().st_size
        if held > limit_bytes:
            path.unlink(missing_ok=True)
    for leftover in folder.glob("*.partial"):
        leftover.unlink(missing_ok=True)
