"""What a test run stood on: which Kafka and which PostgreSQL, said once at its end.

Workers of pytest-xdist hand their lines to the controlling process. It judges nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class Backends:
    """The lines of the summary, in order of first use."""

    lines: list[str] = field(default_factory=list)

    def started(self, what: str, label: str, began_s: float, reasons: list[str]) -> None:
        """Note that ``what`` is ``label``, since ``began_s`` (monotonic), and why nothing stronger; once each."""
        if any(line.startswith(f"{what}:") for line in self.lines):
            return
        passed_over = f"; passed over: {'; '.join(reasons)}" if reasons else ""
        self.add(f"{what}: {label}, ready in {time.monotonic() - began_s:.1f} s{passed_over}")

    def add(self, line: str) -> None:
        """Note a line."""
        self.lines.append(line)

    def text(self) -> list[str]:
        """Return what to print: a backend that nobody asked for is said so."""
        return self.lines or ["Kafka and PostgreSQL: not needed by these tests"]
