"""WebSockets of the audio path, both ends of ours and each against raw bytes, over real sockets."""

from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from websockets.asyncio.server import ServerConnection, serve

from fakes.tls import server_and_authority
from harness.ports import free_port, release
from harness.waiting import until
from parley_common.audio_door import Accepted, Refusal, audio_door
from parley_common.service import serve_http
from parley_common.websocket import Closed, HandshakeRefused, WebSocket, connect

MAX_BYTES = 4_096
TEXT, BINARY, CONTINUATION, CLOSE, PING = 0x1, 0x2, 0x0, 0x8, 0x9
FIN = 0x80


class Door:
    """A server with sockets at /audio; each is served by ``serve``."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.sockets: list[WebSocket] = []
        self.raws: list[Raw] = []
        self.serve: Callable[[WebSocket], Coroutine[Any, Any, None]] = self.hold
        self.let_go = asyncio.Event()
        self.stop = asyncio.Event()

    async def hold(self, _: WebSocket) -> None:
        await self.let_go.wait()

    def accept(self, path: str, headers: Mapping[str, str]) -> Accepted:
        if path != "/audio":
            raise Refusal(404)
        if headers.get("x-refuse"):
            raise Refusal(403)
        socket = WebSocket(message_max_bytes=MAX_BYTES)
        self.sockets.append(socket)
        return socket, headers.get("sec-websocket-protocol"), self.serve

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/audio"

    async def dial(self, path: str = "", **headers: str) -> WebSocket:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await connect(
            self.url + path, WebSocket(message_max_bytes=MAX_BYTES), headers=named, within_s=5
        )


@asynccontextmanager
async def door(**options: Any) -> AsyncIterator[Door]:
    port = free_port()
    here = Door(port)
    app = FastAPI()
    app.get("/hello")(lambda: {"hello": "there"})
    protocol = audio_door(here.accept, message_max_bytes=MAX_BYTES)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(serve_http(app, "127.0.0.1", port, here.stop, http=protocol, **options))
            await until(lambda: listens(port), 10, "the door to listen")
            try:
                yield here
            finally:
                here.let_go.set()
                here.stop.set()
                for raw in here.raws:
                    raw.writer.close()
                    with suppress(OSError):
                        await raw.writer.wait_closed()
    finally:
        release(port)


async def listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


class Raw:
    """A client that sends bytes as a test wants them."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def at(cls, here: Door, *lines: str, key: str = base64.b64encode(bytes(16)).decode()) -> Raw:
        raw = cls(*await asyncio.open_connection("127.0.0.1", here.port))
        here.raws.append(raw)
        head = ["GET /audio HTTP/1.1", "Host: here", "Upgrade: websocket", "Connection: Upgrade"]
        head += [f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", *lines]
        raw.writer.write("\r\n".join([*head, "", ""]).encode())
        return raw

    async def head(self) -> str:
        return (await self.reader.readuntil(b"\r\n\r\n")).decode()

    def frame(
        self, first: int, payload: bytes = b"", *, masked: bool = True, says: int | None = None
    ) -> None:
        """Send a frame; ``says`` is a payload length that is not its own."""
        size = len(payload) if says is None else says
        bit = 0x80 if masked else 0
        length = bytes([bit | size]) if size < 126 else bytes([bit | 126]) + struct.pack(">H", size)
        self.writer.write(bytes([first]) + length + (bytes(4) if masked else b"") + payload)

    async def close_code(self) -> int:
        """Read on to the close frame; return its code."""
        while True:
            first, size = await self.reader.readexactly(2)
            payload = await self.reader.readexactly(size)
            if first & 0xF == CLOSE:
                return int.from_bytes(payload[:2], "big")


async def test_frames_and_text_go_both_ways_and_in_order() -> None:
    async with door() as here:
        ours = await here.dial(sec_websocket_protocol="one")
        (theirs,) = here.sockets
        for message in (b"\x01\x02", "grüß", b"", ""):
            assert ours.send(message)
            assert await theirs.receive() == message
            assert theirs.send(message)
            assert await ours.receive() == message
        assert ours.send_as_text("já".encode())
        assert await theirs.receive() == "já"


async def test_http_is_served_at_the_same_port() -> None:
    async with door() as here:
        reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
        writer.write(b"GET /hello HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).endswith(b'{"hello":"there"}')
        writer.close()


async def test_what_waits_is_handed_over_first_when_somebody_begins_to_listen() -> None:
    async with door() as here:
        ours = await here.dial()
        (theirs,) = here.sockets
        for number in range(3):
            ours.send(bytes([number]))
        assert await theirs.receive() == b"\0"
        heard: list[bytes | str] = []
        theirs.listen(heard.append, lambda: heard.append("closed"))
        ours.send(b"\x03")
        ours.close(1000, "done")
        await until(lambda: "closed" in heard)
        assert heard == [b"\1", b"\2", b"\3", "closed"]
        assert (theirs.close_code, theirs.close_reason, theirs.is_clean) == (1000, "done", True)
        late: list[str] = []
        theirs.listen(heard.append, lambda: late.append("closed"))
        assert late == ["closed"], "who comes late is told too"


@pytest.mark.parametrize(("code", "is_clean"), [(1000, True), (1001, True), (4002, False), (1011, False)])
async def test_each_side_learns_what_the_other_closed_with(code: int, is_clean: bool) -> None:
    async with door() as here:
        ours = await here.dial()
        (theirs,) = here.sockets
        theirs.close(code, "because")
        with pytest.raises(Closed) as closed:
            await ours.receive()
        assert (closed.value.close_code, closed.value.is_clean, ours.close_reason) == (
            code,
            is_clean,
            "because",
        )
        assert not ours.send(b"too late")


async def test_a_peer_that_vanishes_is_no_clean_close() -> None:
    async with door() as here:
        ours = await here.dial()
        (theirs,) = here.sockets
        ours.abort()
        with pytest.raises(Closed) as closed:
            await theirs.receive()
        assert (closed.value.close_code, closed.value.is_clean) == (1006, False)


async def test_a_peer_that_does_not_read_chokes_its_sender_and_a_close_aborts_it() -> None:
    async with door() as here:
        raw = await Raw.at(here)
        await raw.head()
        (theirs,) = here.sockets
        writable: list[bool] = []
        theirs.on_writable = lambda: writable.append(theirs.is_choked)
        while not theirs.is_choked:
            theirs.send(bytes(60_000))
        assert not writable
        async with asyncio.timeout(10):
            while not writable:
                await raw.reader.read(1 << 20)
        assert writable == [False]
        while not theirs.is_choked:
            theirs.send(bytes(60_000))
        gone = asyncio.Event()
        theirs.listen(lambda _: None, gone.set)
        theirs.close(1000, "")
        await asyncio.wait_for(gone.wait(), 10)


async def test_who_is_not_listened_to_is_not_read_either() -> None:
    async with door() as here:
        raw = await Raw.at(here)
        await raw.head()
        (theirs,) = here.sockets
        for _ in range(3_000):
            raw.frame(FIN | BINARY, bytes(4_000))
        await until(lambda: len(theirs._inbox.messages) >= 64, 5, "messages to wait")
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(theirs._inbox.messages) < 300, "a bounded number waits, the rest is in the network"
        received = 0
        while received < 3_000:
            async with asyncio.timeout(10):
                received += len(await theirs.receive()) // 4_000


async def test_fragments_are_put_together_and_a_ping_between_them_is_answered() -> None:
    async with door() as here:
        raw = await Raw.at(here)
        await raw.head()
        (theirs,) = here.sockets
        raw.frame(TEXT, b"Gr\xc3")
        raw.frame(FIN | PING, b"?")
        raw.frame(CONTINUATION, b"\xbc")
        raw.frame(FIN | CONTINUATION, b"n")
        assert await theirs.receive() == "Grün"
        assert await raw.reader.readexactly(3) == b"\x8a\x01?"


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([(FIN | BINARY, b"", False, None)], 1002),
        ([(FIN | 0x3, b"", True, None)], 1002),
        ([(FIN | 0x40 | BINARY, b"", True, None)], 1002),
        ([(FIN | CONTINUATION, b"", True, None)], 1002),
        ([(TEXT, b"", True, None), (FIN | TEXT, b"", True, None)], 1002),
        ([(PING, b"", True, None)], 1002),
        ([(FIN | BINARY, b"", True, MAX_BYTES + 1)], 1009),
        ([(BINARY, bytes(4_000), True, None), (FIN | CONTINUATION, bytes(4_000), True, None)], 1009),
        ([(FIN | TEXT, b"\xff\xfe", True, None)], 1007),
        ([(FIN | CLOSE, b"\x03", True, None)], 1002),
        ([(FIN | CLOSE, struct.pack(">H", 1005), True, None)], 1002),
    ],
)
async def test_what_the_protocol_forbids_closes_with_its_code(
    frames: list[tuple[int, bytes, bool, int | None]], code: int
) -> None:
    async with door() as here:
        raw = await Raw.at(here)
        await raw.head()
        for first, payload, masked, says in frames:
            raw.frame(first, payload, masked=masked, says=says)
        assert await asyncio.wait_for(raw.close_code(), 5) == code
        (theirs,) = here.sockets
        gone = asyncio.Event()
        theirs.listen(lambda _: None, gone.set)
        await asyncio.wait_for(gone.wait(), 5)


async def test_a_bug_in_a_listener_costs_its_socket_and_no_other() -> None:
    async with door() as here:
        broken, whole = await here.dial(), await here.dial()
        first, second = here.sockets

        def breaks(_: bytes | str) -> None:
            raise RuntimeError("a bug")

        first.listen(breaks, lambda: None)
        broken.send(b"1")
        whole.send(b"2")
        with pytest.raises(Closed) as closed:
            await broken.receive()
        assert closed.value.close_code == 1011
        assert await second.receive() == b"2"


@pytest.mark.parametrize(
    ("path", "headers", "status"), [("/other", {}, 404), ("?a=b", {"x_refuse": "yes"}, 403)]
)
async def test_a_refusal_is_an_http_status(path: str, headers: dict[str, str], status: int) -> None:
    async with door() as here:
        with pytest.raises(HandshakeRefused) as refused:
            await here.dial(path, **headers)
        assert refused.value.status == status


async def test_what_is_no_websocket_is_refused() -> None:
    async with door() as here:
        with pytest.raises(HandshakeRefused):
            await connect(
                f"ws://127.0.0.1:{here.port}/hello",
                WebSocket(message_max_bytes=1),
                headers={},
                within_s=5,
            )
        with pytest.raises(HandshakeRefused):
            await connect("gopher://127.0.0.1", WebSocket(message_max_bytes=1), headers={}, within_s=5)
    with pytest.raises(OSError, match="Connect"):
        await connect(here.url, WebSocket(message_max_bytes=1), headers={}, within_s=5)


async def test_a_request_without_a_key_is_refused_and_leaves_nothing_behind() -> None:
    async with door() as here:
        raw = await Raw.at(here, key="")
        assert " 400 " in await raw.head()
        assert all(not socket.is_open for socket in here.sockets)


@pytest.mark.parametrize(
    ("trusted", "forwarded", "address"),
    [
        ("127.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("127.0.0.1", "198.51.100.1, 203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", "203.0.113.7", "127.0.0.1"),
        ("127.0.0.1", "", "127.0.0.1"),
    ],
)
async def test_only_a_trusted_proxy_says_where_a_client_is(
    trusted: str, forwarded: str, address: str
) -> None:
    async with door(forwarded_allow_ips=trusted) as here:
        raw = await Raw.at(here, *([f"X-Forwarded-For: {forwarded}"] if forwarded else []))
        await raw.head()
        assert [socket.address for socket in here.sockets] == [address]


async def test_a_server_that_stops_sends_its_sockets_away() -> None:
    async with door() as here:
        ours = await here.dial()

        async def leave_when_gone(socket: WebSocket) -> None:
            with pytest.raises(Closed):
                await socket.receive()

        here.serve = leave_when_gone
        second = await here.dial()
        here.stop.set()
        for socket in (ours, second):
            with pytest.raises(Closed) as closed:
                await socket.receive()
            assert closed.value.close_code == 1001
        here.let_go.set()


async def test_a_pong_is_told_once_to_whoever_pinged() -> None:
    async with door() as here:
        ours = await here.dial()
        heard: list[str] = []
        ours.ping(lambda: heard.append("first"))
        await until(lambda: heard)
        ours.ping(lambda: heard.append("second"))
        await until(lambda: len(heard) == 2)
        assert heard == ["first", "second"]


async def test_over_tls_large_messages_go_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, authority = server_and_authority()
    (tmp_path / "authority.pem").write_text(authority)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))

    async def echo(peer: ServerConnection) -> None:
        async for message in peer:
            await peer.send(message)

    async with serve(echo, "127.0.0.1", 0, ssl=context, max_size=None, compression=None) as server:
        port = server.sockets[0].getsockname()[1]
        ours = WebSocket(message_max_bytes=1 << 20, text_as_bytes=True)
        await connect(f"wss://127.0.0.1:{port}/", ours, headers={}, within_s=5)
        for size in (10, 5_000, 70_000, 900_000):
            assert ours.send_as_text(b"x" * size)
            async with asyncio.timeout(10):
                assert await ours.receive() == b"x" * size
        ours.close()


async def test_an_authority_that_is_not_known_is_not_trusted() -> None:
    context, _ = server_and_authority()

    async def nobody(_: ServerConnection) -> None: ...

    async with serve(nobody, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
            await connect(f"wss://127.0.0.1:{port}/", WebSocket(message_max_bytes=1), headers={}, within_s=5)
