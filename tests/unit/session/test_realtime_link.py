"""The connection to upstream: what leaves at once, what waits and what is dropped, and how its end is noticed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from parley_session import realtime_link
from parley_session.core import events as ev
from parley_session.realtime_link import AUDIO_MAX, CONTROL_MAX, Endpoint, RealtimeLink

HERE = Endpoint("ws://127.0.0.1/v1/realtime", "key")


class Socket:
    """An upstream in a test's hand."""

    def __init__(self) -> None:
        self.is_choked = self.is_clean = False
        self.close_code, self.close_reason = 1006, ""
        self.on_writable: Callable[[], None] | None = None
        self.on_message: Callable[[bytes | str], None] = lambda _: None
        self.on_closed: Callable[[], None] = lambda: None
        self.sent: list[bytes] = []
        self.pings: list[Callable[[], None]] = []
        self.closed: list[int] = []
        self.was_aborted = False

    def listen(self, on_message: Callable[[bytes | str], None], on_closed: Callable[[], None]) -> None:
        self.on_message, self.on_closed = on_message, on_closed

    def send_as_text(self, data: bytes) -> bool:
        self.sent.append(data)
        return True

    def ping(self, on_pong: Callable[[], None]) -> None:
        self.pings.append(on_pong)

    def close(self, code: int, reason: str) -> None:
        self.closed.append(code)

    def abort(self) -> None:
        self.was_aborted = True

    def reads(self, *, again: bool) -> None:
        self.is_choked = not again
        if again and self.on_writable is not None:
            self.on_writable()


class Line:
    """A link, its socket and what it told."""

    def __init__(self) -> None:
        self.socket = Socket()
        self.told: list[ev.Event] = []
        self.link = RealtimeLink(HERE, "a-model", lambda _, event: self.told.append(event), self.dial)
        self.refusal: OSError | None = None
        self.dialled: list[tuple[str, Mapping[str, str]]] = []

    async def dial(self, address: str, headers: Mapping[str, str]) -> Any:
        self.dialled.append((address, headers))
        if self.refusal is not None:
            raise self.refusal
        return self.socket


@asynccontextmanager
async def running(line: Line) -> Any:
    task = asyncio.create_task(line.link.run())
    await asyncio.sleep(0)
    try:
        yield task
    finally:
        line.link.abort()
        await asyncio.wait_for(task, 5)


async def test_what_was_said_before_the_connection_goes_out_first_and_the_rest_at_once() -> None:
    line = Line()
    assert line.link.send(b"first")
    async with running(line):
        assert line.socket.sent == [b"first"]
        line.link.send(b"second")
        assert line.socket.sent == [b"first", b"second"]
    assert line.dialled == [("ws://127.0.0.1/v1/realtime?model=a-model", {"Authorization": "Bearer key"})]


async def test_an_upstream_that_does_not_read_loses_the_oldest_audio_and_no_word() -> None:
    line = Line()
    async with running(line):
        line.socket.reads(again=False)
        line.link.send(b"a word")
        for number in range(AUDIO_MAX + 3):
            line.link.append(number.to_bytes(2, "little"))
        line.link.send(b"another")
        assert line.socket.sent == []
        line.socket.reads(again=True)
        assert (line.socket.sent[0], line.socket.sent[-1]) == (b"a word", b"another")
        assert len(line.socket.sent) == AUDIO_MAX + 2
        assert b'"AwA="' in line.socket.sent[1], "the first three frames went"


async def test_too_many_words_that_wait_fail_the_session() -> None:
    line = Line()
    async with running(line):
        line.socket.reads(again=False)
        assert all(line.link.send(b"word") for _ in range(CONTROL_MAX))
        assert not line.link.send(b"one too many")


async def test_a_close_lets_out_what_waits_and_an_abort_does_not() -> None:
    for ends, sent in ((RealtimeLink.close, [b"last"]), (RealtimeLink.abort, [])):
        line = Line()
        task = asyncio.create_task(line.link.run())
        await asyncio.sleep(0)
        line.socket.reads(again=False)
        line.link.send(b"last")
        ends(line.link)
        line.socket.reads(again=True)
        await asyncio.wait_for(task, 5)
        assert (line.socket.sent, line.socket.closed, line.told) == (sent, [1000], [])


async def test_the_end_of_the_socket_is_told_once_with_its_code() -> None:
    line = Line()
    task = asyncio.create_task(line.link.run())
    await asyncio.sleep(0)
    line.socket.on_message(b'{"type":"input_audio_buffer.speech_started","item_id":"i","audio_start_ms":5}')
    line.socket.close_code, line.socket.close_reason = 1001, "expired"
    line.socket.on_closed()
    await asyncio.wait_for(task, 5)
    assert line.told == [ev.CallerSpeechStarted("i", 5), ev.UpstreamLost(1001, "expired")]


async def test_an_upstream_that_cannot_be_reached_is_told_without_its_address() -> None:
    line = Line()
    line.refusal = ConnectionRefusedError("127.0.0.1 said no")
    await line.link.run()
    assert line.told == [ev.UpstreamLost(0, "cannot be reached: ConnectionRefusedError")]


async def test_a_silent_upstream_is_pinged_and_given_up_when_it_does_not_answer() -> None:
    line, heard = Line(), []
    async with running(line):

        def look(now_ms: int) -> None:
            line.link.keep_alive(now_ms, lambda: heard.append(now_ms))

        look(0)
        look(1_500)
        assert not line.socket.pings, "not yet"
        look(2_000)
        look(2_500)
        assert len(line.socket.pings) == 1, "one at a time"
        line.socket.pings[0]()
        assert heard == [2_000]
        look(3_000)
        look(5_000)
        assert len(line.socket.pings) == 2, "and again"
        line.socket.on_message(b"{}")
        look(14_000)
        assert not line.socket.was_aborted, "a word is as good as a pong"
        look(16_000)
        look(25_999)
        assert not line.socket.was_aborted
        look(26_000)
        assert line.socket.was_aborted


@pytest.mark.parametrize(
    ("address", "proxy"),
    [
        ("wss://api.example.com/v1/realtime", "http://proxy.example.com:3128"),
        ("ws://api.example.com/v1/realtime", None),
        ("wss://inside.example.com/v1/realtime", None),
    ],
)
async def test_upstream_is_dialled_through_the_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, address: str, proxy: str | None
) -> None:
    used: list[str | None] = []

    async def connect(_: str, socket: Any, *, proxy: str | None, **__: Any) -> Any:
        used.append(proxy)
        return socket

    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "http://proxy.example.com:3128")
    monkeypatch.setenv("no_proxy", "inside.example.com")
    monkeypatch.setattr(realtime_link, "connect", connect)
    await realtime_link.dial_websocket(address, {})
    assert used == [proxy]
