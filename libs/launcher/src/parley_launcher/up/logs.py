"""What processes print: kept whole in bounded files, and trouble echoed shortened.

Pure but for ``LogFile``. It does not parse anything it need not: a line is JSON with a level, or it is text.

Law: a file never grows past its bound; what is echoed is one short line and never floods.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

TAIL_LINES = 40
LINE_MAX_BYTES = 16_384
ECHO_MAX_CHARS = 180
ECHO_LINES_MAX = 8
ECHO_WINDOW_S = 10.0

Level = Literal["warning", "error"]
_LEVELS: dict[str, Level] = {
    "warning": "warning",
    "warn": "warning",
    "error": "error",
    "critical": "error",
    "fatal": "error",
}
_BORING_KEYS = frozenset({"event", "level", "timestamp", "service", "trace_id", "exception", "logger"})


@dataclass(frozen=True, slots=True)
class Trouble:
    """A line that people should see."""

    level: Level
    text: str


def trouble_in(line: str) -> Trouble | None:
    """Return the shortened trouble in a line of output; null when it tells of none."""
    entry = _entry(line)
    if entry is not None:
        level = _LEVELS.get(str(entry.get("level", "")).lower())
        return Trouble(level, _shorten(_sentence(entry))) if level else None
    head = line.lstrip()[:40].upper()
    if head.startswith(("ERROR", "CRITICAL", "FATAL", "TRACEBACK")) or " ERROR " in head:
        return Trouble("error", _shorten(line))
    if head.startswith("WARN") or " WARN" in head:
        return Trouble("warning", _shorten(line))
    return None


def _entry(line: str) -> dict[str, object] | None:
    if not line.startswith("{"):
        return None
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _sentence(entry: dict[str, object]) -> str:
    rest = (f"{key}={value}" for key, value in entry.items() if key not in _BORING_KEYS)
    return " ".join([str(entry.get("event", "")), *rest])


def _shorten(text: str) -> str:
    clean = "".join(char if char.isprintable() else " " for char in text.strip())
    return clean if len(clean) <= ECHO_MAX_CHARS else clean[: ECHO_MAX_CHARS - 1] + "…"


class EchoBudget:
    """Lets a few lines of one process through per window; counts the rest."""

    def __init__(self) -> None:
        self._window_from_s = float("-inf")
        self._count = 0

    def admit(self, now_s: float) -> tuple[bool, int]:
        """Return whether a line may be echoed now, and how many were held back in the window that just ended."""
        held_back = 0
        if now_s - self._window_from_s >= ECHO_WINDOW_S:
            held_back = max(0, self._count - ECHO_LINES_MAX)
            self._window_from_s, self._count = now_s, 0
        self._count += 1
        return self._count <= ECHO_LINES_MAX, held_back


class LineSplitter:
    """Cuts chunks of output into lines; a line without end is cut at a bound."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[str]:
        """Return the lines that ``chunk`` completes; an empty chunk completes the last one."""
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        while len(self._rest) > LINE_MAX_BYTES:
            whole.append(self._rest[:LINE_MAX_BYTES])
            self._rest = self._rest[LINE_MAX_BYTES:]
        if not chunk and self._rest:
            whole.append(self._rest)
            self._rest = b""
        return [line.decode("utf-8", "replace").rstrip("\r") for line in whole]


class LogFile:
    """One process's output on disk: turned over at the start and at ``max_bytes``, one older file kept."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._max_bytes = max_bytes
        self._size_bytes = 0
        self._turn_over()
        self._file: IO[bytes] = path.open("wb")

    def write(self, line: str) -> None:
        """Keep one line."""
        self.tail.append(line)
        raw = line.encode("utf-8", "replace") + b"\n"
        if self._size_bytes and self._size_bytes + len(raw) > self._max_bytes:
            self._file.close()
            self._turn_over()
            self._file = self.path.open("wb")
        self._file.write(raw)
        self._file.flush()
        self._size_bytes += len(raw)

    def close(self) -> None:
        self._file.close()

    def _turn_over(self) -> None:
        self._size_bytes = 0
        if self.path.exists() and self.path.stat().st_size:
            self.path.replace(self.path.with_name(self.path.name + ".1"))
