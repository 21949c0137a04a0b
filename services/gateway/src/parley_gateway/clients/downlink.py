"""What waits to be sent to one client: audio and messages in order, and a flush that drops what it outdates.

Pure: no socket, no clock. Law: no audio of an epoch older than the newest flush leaves here; what waits is
bounded in bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from parley_common.contracts.audio_link import downlink_epoch


class DownlinkQueue:
    """Frames (bytes) and messages (str) for one client."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._entries: deque[bytes | str] = deque()
        self._epoch = 0
        self.queued_bytes = 0
        self.stale_count = 0

    def is_stale(self, frame: bytes) -> bool:
        """Tell whether a frame's epoch is over, so that it must not leave here; it is counted."""
        if downlink_epoch(frame) >= self._epoch:
            return False
        self.stale_count += 1
        return True

    def audio(self, frame: bytes) -> bool:
        """Queue an audio frame, or drop it when it is stale. False: there is no room for it."""
        if self.is_stale(frame):
            return True
        if self.queued_bytes + len(frame) > self._bytes_max:
            return False
        self._put(frame)
        return True

    def text(self, text: str) -> bool:
        """Queue a message. False: there is no room for it."""
        if self.queued_bytes + len(text) > self._bytes_max:
            return False
        self._put(text)
        return True

    def last_text(self, text: str) -> None:
        """Queue a closing message, room or not: nothing comes after it."""
        self._put(text)

    def begin(self, entries: Iterable[bytes | str], epoch: int) -> None:
        """Queue what an earlier socket owed, room or not: it was bounded where it was kept."""
        self._epoch = epoch
        for entry in entries:
            self._put(entry)

    def flush(self, epoch: int, text: str) -> None:
        """Drop all audio older than ``epoch``, then queue the flush: it overtakes what it outdates."""
        self._epoch = max(self._epoch, epoch)
        self._drop(lambda frame: downlink_epoch(frame) < self._epoch)
        self._put(text)

    def drop_audio(self) -> None:
        """Drop all audio: the session ended badly and only messages matter."""
        self._drop(lambda _: True)

    def pop(self) -> bytes | str | None:
        """Return what to send next; null when nothing waits."""
        if not self._entries:
            return None
        entry = self._entries.popleft()
        self.queued_bytes -= len(entry)
        return entry

    def __len__(self) -> int:
        return len(self._entries)

    def _put(self, entry: bytes | str) -> None:
        self._entries.append(entry)
        self.queued_bytes += len(entry)

    def _drop(self, is_over: Callable[[bytes], bool]) -> None:
        kept = deque(entry for entry in self._entries if isinstance(entry, str) or not is_over(entry))
        self.stale_count += len(self._entries) - len(kept)
        self._entries = kept
        self.queued_bytes = sum(map(len, kept))
