"""What the command prints through: one console for what was asked for, one for everything said about it.

Law: results go to stdout, progress and errors to stderr; an error is one red line and its remedy.
"""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from parley_common.errors import ParleyError

stdout = Console(highlight=False, soft_wrap=True)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)


def print_error(wrong: ParleyError, console: Console = stderr) -> None:
    """Print one error and what to do about it."""
    console.print(Text("error: ", style="bold red") + Text(wrong.message, style="red"))
    if wrong.remedy:
        console.print(Text(f"  → {wrong.remedy}", style="yellow"))


def duration(ms: float) -> str:
    """Return milliseconds as people read them: 85 ms, 1.2 s, 2 min 5 s."""
    if ms < 1_000:
        return f"{ms:.0f} ms"
    if ms < 60_000:
        return f"{ms / 1000:.1f} s"
    return f"{int(ms // 60_000)} min {int(ms % 60_000 // 1000)} s"
