"""A person at a terminal as the caller: asks for a line when the agent has finished, and knows a few commands.

The line is read in a daemon thread, because reading a terminal cannot be cancelled; the terminal is put back as
it was whatever happens.

Law: the session's end ends the prompt, and the end of input ends the session.
"""

from __future__ import annotations

import asyncio
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from rich.console import Console

from parley_launcher.talk import turns
from parley_launcher.talk.client import TalkClient
from parley_launcher.talk.turns import CallerTurn

PROMPT = "you> "
HELP = "type what you want to say; /mute and /unmute, /help, /quit (or Ctrl-D)"

ReadLine = Callable[[], str]


class PromptCaller:
    """Reads turns from a person."""

    def __init__(self, console: Console, read_line: ReadLine | None = None) -> None:
        self._console = console
        self._read_line = read_line or _read_terminal_line

    async def next_turn(self, client: TalkClient) -> CallerTurn | None:
        """Return the next thing typed; null at /quit, at the end of input, or when the session is over."""
        while (line := await self._line_or_end(client)) is not None:
            if not (said := line.strip()):
                continue
            if not said.startswith("/"):
                return turns.typed(said)
            if not await self._command(said, client):
                return None
        return None

    async def _command(self, command: str, client: TalkClient) -> bool:
        """Do a /command; return False when it ends the session."""
        match command.split(maxsplit=1)[0]:
            case "/quit" | "/bye" | "/exit":
                return False
            case "/mute":
                await client.mute(True)
            case "/unmute":
                await client.mute(False)
            case _:
                self._console.print(HELP, style="dim")
        return True

    async def _line_or_end(self, client: TalkClient) -> str | None:
        loop = asyncio.get_running_loop()
        line: asyncio.Future[str | None] = loop.create_future()

        def deliver(text: str | None) -> None:
            if not line.done():
                line.set_result(text)

        def read() -> None:
            text: str | None = None
            with suppress(EOFError, OSError, ValueError):
                text = self._read_line()
            with suppress(RuntimeError):  # the loop may be gone by the time that somebody presses Enter
                loop.call_soon_threadsafe(deliver, text)

        threading.Thread(target=read, name="prompt", daemon=True).start()
        while not line.done() and not client.closed.is_set():
            await asyncio.wait({line}, timeout=0.1)
        return line.result() if line.done() else None


@contextmanager
def kept_terminal() -> Iterator[None]:
    """Put the terminal's modes back afterwards: a line editor that is left in mid-line changes them."""
    try:
        descriptor = sys.stdin.fileno()
        before = termios.tcgetattr(descriptor)
    except (OSError, ValueError, termios.error):
        yield
        return
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _read_terminal_line() -> str:
    with suppress(ImportError):
        import readline  # noqa: F401  (its import gives input() line editing and history)
    return input(PROMPT)
