"""What the generator and the upstream write down while they run, and how it is read back.

A frame is three numbers in a binary file: when it was stamped, its sequence number, how long it took (microseconds).
Everything else is a line of JSON. Both are written out now and then, so that a step can be judged while the next runs.
"""

from __future__ import annotations

import json
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint64]
"""One row a frame: stamped at, sequence number, took; in microseconds."""


class Log:
    """The two files of one program."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.frame = array("Q")
        """Extended by three numbers a frame: by the caller itself, because it is the hot path."""
        self._lines: list[str] = []
        self._frames_file = (folder / f"{name}.frames").open("ab")
        self._lines_file = (folder / f"{name}.jsonl").open("a", encoding="utf-8")

    def note(self, what: str, **facts: Any) -> None:
        """Write down something that is no frame."""
        self._lines.append(json.dumps({"what": what, **facts}))

    def write(self) -> None:
        """Put what was written down into the files."""
        frames, self.frame = self.frame, array("Q")
        frames.tofile(self._frames_file)
        self._frames_file.flush()
        lines, self._lines = self._lines, []
        if lines:
            self._lines_file.write("\n".join(lines) + "\n")
            self._lines_file.flush()

    def close(self) -> None:
        """Write the rest."""
        self.write()
        self._frames_file.close()
        self._lines_file.close()


@dataclass(frozen=True)
class Read:
    """One program's log, read back."""

    frames: Frames
    notes: list[dict[str, Any]]

    def notes_of(self, what: str) -> list[dict[str, Any]]:
        return [note for note in self.notes if note["what"] == what]


def read_log(folder: Path, name: str) -> Read:
    """Return what ``name`` has written so far; whole frames and lines only."""
    raw = np.fromfile(folder / f"{name}.frames", dtype=np.uint64)
    frames = raw[: len(raw) // 3 * 3].reshape(-1, 3)
    text = (folder / f"{name}.jsonl").read_text("utf-8")
    whole = text[: text.rfind("\n") + 1]
    return Read(frames, [json.loads(line) for line in whole.splitlines()])
