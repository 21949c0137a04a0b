"""How starting, running and stopping look in a terminal: a line per step, spinners while they run.

On anything but a terminal there are plain lines only. Law: nothing here decides anything.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from parley_launcher.up.logs import Trouble

NAME_WIDTH = 16


@dataclass(slots=True)
class _Step:
    name: str
    since_s: float = field(default_factory=time.monotonic)
    why: str = ""


class Progress:
    """The reporter of `parley up`. Use it with ``with`` while things start; it goes on reporting afterwards."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._steps: dict[str, _Step] = {}
        self._spinner = Spinner("dots")
        self._live = Live(get_renderable=self._running, console=console, transient=True, refresh_per_second=8)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    @contextmanager
    def step(self, name: str, detail: str = "") -> Iterator[None]:
        """Show one step from its beginning to its end, with its seconds."""
        step = self._steps[name] = _Step(name)
        mark, style = "✗", "red"
        try:
            yield
            mark, style = "✓", "green"
        finally:
            del self._steps[name]
            took_s = time.monotonic() - step.since_s
            line = Text(f"  {mark} ", style=style) + Text(f"{name:<{NAME_WIDTH}}")
            self.console.print(line + Text(f"{took_s:6.1f} s  ", style="dim") + Text(detail, style="dim"))

    def waiting(self, name: str, why: str) -> None:
        """Show why a step takes its time."""
        if step := self._steps.get(name):
            step.why = why

    def ended(self, name: str, how: str, tail: Sequence[str], restart_in_s: float) -> None:
        """Show a process that ended by itself, with the end of its log."""
        self.console.print(Text(f"  {name} ended ({how}); again in {restart_in_s:g} s", style="bold red"))
        self.tail(tail)

    def trouble(self, name: str, trouble: Trouble, held_back: int) -> None:
        """Show a warning or an error that a process printed."""
        if held_back:
            self.console.print(
                Text(f"  {name}: {held_back} more lines like these are in its log", style="dim")
            )
        style = "red" if trouble.level == "error" else "yellow"
        self.console.print(Text(f"  {name:<{NAME_WIDTH}}", style=style) + Text(trouble.text, style=style))

    def tail(self, lines: Sequence[str]) -> None:
        """Show the end of a log."""
        for line in lines:
            self.console.print(Text(f"    │ {line}", style="dim"))

    def say(self, text: str, style: str = "") -> None:
        """Print one line."""
        self.console.print(Text(text, style=style))

    def _running(self) -> Group:
        return Group(*(self._row(step) for step in self._steps.values()))

    def _row(self, step: _Step) -> Text:
        frame = self._spinner.render(time.monotonic())
        mark = frame if isinstance(frame, Text) else Text("·")
        took = Text(f"{time.monotonic() - step.since_s:6.1f} s  ", style="dim")
        return Text("  ") + mark + Text(f" {step.name:<{NAME_WIDTH}}") + took + Text(step.why, style="dim")
