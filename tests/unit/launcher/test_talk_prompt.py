"""A person at a prompt types turns and commands; the session's end ends the prompt."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Iterator

import pytest
from rich.console import Console

from fakes.gateway import FakeGateway
from parley_common.clock import ScaledClock
from parley_common.contracts import audio_link as wire
from parley_launcher.talk.prompt import HELP, PromptCaller, kept_terminal
from parley_launcher.talk.report import TalkReport
from parley_launcher.talk.run import TalkOptions, run_talk
from parley_launcher.talk.turns import Patience


class Typist:
    """Gives its lines one by one, then the end of input."""

    def __init__(self, *lines: str) -> None:
        self._lines: Iterator[str] = iter(lines)

    def __call__(self) -> str:
        try:
            return next(self._lines)
        except StopIteration:
            raise EOFError from None


async def prompted(read_line: object, shown: io.StringIO, **script: object) -> tuple[TalkReport, FakeGateway]:
    clock = ScaledClock(5)
    async with FakeGateway.running(clock=clock, **script) as gateway, asyncio.timeout(20):
        options = TalkOptions("cap", (), gateway.url, patience=Patience(quiet_ms=50, greeting_ms=100))
        caller = PromptCaller(Console(file=shown), read_line)  # type: ignore[arg-type]
        return await run_talk(options, clock=clock, caller=caller), gateway


async def test_lines_are_turns_until_the_end_of_input() -> None:
    report, gateway = await prompted(Typist("hello", "", "  more  "), io.StringIO())

    assert report.ok
    assert [message.text for message in gateway.session.sent(wire.Text)] == ["hello", "more"]
    assert report.ended == "caller"


async def test_quit_ends_the_session_without_being_said() -> None:
    report, gateway = await prompted(Typist("/quit", "never said"), io.StringIO())

    assert report.ended == "caller"
    assert gateway.session.sent(wire.Text) == []


async def test_mute_and_unmute_are_sent_and_an_unknown_command_shows_the_known() -> None:
    shown = io.StringIO()
    _, gateway = await prompted(Typist("/mute", "/unmute now", "/sing"), shown)

    assert gateway.session.sent(wire.Mute) == [wire.Mute(True), wire.Mute(False)]
    assert HELP.split(";")[0] in shown.getvalue()


async def test_the_sessions_end_does_not_wait_for_a_line() -> None:
    never_pressed = threading.Event()
    lines = Typist("bye")

    def read_line() -> str:
        try:
            return lines()
        except EOFError:
            never_pressed.wait(60)
            raise

    try:
        report, _ = await prompted(read_line, io.StringIO(), hangs_up_after=1, item_ms=100)
    finally:
        never_pressed.set()

    assert (report.ended, report.failure) == ("agent", None)


def test_without_a_terminal_there_is_nothing_to_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())

    with kept_terminal():
        pass
