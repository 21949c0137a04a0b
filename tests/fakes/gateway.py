"""A small gateway with a scripted agent, for clients: hands out tokens and speaks the client side of the protocol.

The agent greets, answers whatever is said or typed after it, and yields at once when the caller's level rises or a
text comes while it speaks. Its audio is a pattern from which each sample's item and place can be told, sent at
``speed`` times real time on the clock it is given.

It cannot imitate: recognition (it hears levels only), links, takeovers, limits, any real timing of a model.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, closing, nullcontext, suppress
from dataclasses import dataclass, field, replace

import numpy as np
import uvicorn
from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse

from harness.waiting import until
from parley_common import audio
from parley_common.clock import Clock, SystemClock
from parley_common.contracts import audio_link as wire

FIRST_EPOCH = 1 << 16
LOUD_DBFS = -40.0
TURN_ENDS_AFTER_MS = 200
CHUNK_MS = 100


@dataclass(frozen=True)
class Script:
    """What the agent does, and what goes wrong."""

    business: str = "cap"
    greeting: str | None = "Hello, this is the greeting."
    answer: str = "one two three four five six seven eight nine ten"
    item_ms: int = 600
    speed: float = 13.0
    tool: str | None = None
    """Used once in every answer when set."""
    token_status: int = 200
    token_body: dict[str, object] = field(default_factory=dict)
    refuse_open: wire.Error | None = None
    """Sent in place of ``ready``, followed by a close."""
    never_ready: bool = False
    never_answers: bool = False
    breaks_after_open: int | None = None
    """A close code with which the socket is closed when the first answer is due."""
    hangs_up_after: int | None = None
    """So many answers after which the agent ends the session."""
    extra_on_ready: tuple[str | bytes, ...] = ()
    """Raw frames sent right after ``ready``."""


def pattern(item: int, first_sample: int, count: int) -> bytes:
    """Return the agent's audio: never silent, different for each item, telling its own place."""
    at = np.arange(first_sample, first_sample + count)
    return ((at + item * 7_919) % 20_000 + 1).astype("<i2").tobytes()


class FakeSession:
    """One session: what the client sent, and the agent's side of it."""

    def __init__(self, socket_: WebSocket, script: Script, clock: Clock) -> None:
        self.script = script
        self.clock = clock
        self.opened: wire.Open | None = None
        self.messages: list[wire.FromClient] = []
        self.uplink: list[tuple[int, bytes]] = []
        self.flushes: list[int] = []
        self.answers = 0
        self._socket = socket_
        self._epoch = FIRST_EPOCH
        self._item = 0
        self._playing: int | None = None
        self._lengths: dict[int, int] = {}
        self._loud = False
        self._quiet_samples = 0
        self._due: asyncio.Queue[str] = asyncio.Queue(100)

    def sent(self, kind: type) -> list:
        """Return the messages of one type that the client sent."""
        return [message for message in self.messages if isinstance(message, kind)]

    async def run(self) -> None:
        self.opened = wire.decode_from_client(await self._socket.receive_text())
        if self.script.refuse_open:
            await self._send(self.script.refuse_open)
            await self._socket.close(1008, self.script.refuse_open.code)
            return
        if self.script.never_ready:
            await self._socket.receive()
            return
        await self._send(wire.Ready("0198c0de-0000-7000-8000-0000feedbeef", "resume-1", epoch=self._epoch))
        for raw in self.script.extra_on_ready:
            await (self._socket.send_bytes(raw) if isinstance(raw, bytes) else self._socket.send_text(raw))
        await self._send(wire.State("listening"))
        async with asyncio.TaskGroup() as group:
            agent = group.create_task(self._agent())
            await self._receive()
            agent.cancel()

    async def _receive(self) -> None:
        while True:
            frame = await self._socket.receive()
            if frame["type"] == "websocket.disconnect":
                return
            if frame.get("bytes") is not None:
                await self._hear(frame["bytes"])
                continue
            message = wire.decode_from_client(frame["text"])
            self.messages.append(message)
            if isinstance(message, wire.Hangup):
                await self._send(wire.Ended("caller"))
                await self._socket.close(1000)
                return
            await self._take(message)

    async def _take(self, message: wire.FromClient) -> None:
        match message:
            case wire.Ping(t_ms):
                await self._send(wire.Pong(t_ms))
            case wire.Text(text):
                await self._yield_floor()
                await self._caller_item(text)
            case wire.Playout(_, item, _, played) if item == self._playing:
                if played == self._lengths.get(item):
                    self._playing = None
                    await self._send(wire.State("listening"))
            case wire.Flushed(_, item, played) if item:
                await self._say_what_was_heard(item, played)

    async def _hear(self, frame: bytes) -> None:
        first_sample, pcm = wire.unpack_uplink(frame)
        self.uplink.append((first_sample, bytes(pcm)))
        if audio.level_dbfs(bytes(pcm)) > LOUD_DBFS:
            self._quiet_samples = 0
            if not self._loud:
                self._loud = True
                await self._yield_floor()
        elif self._loud:
            self._quiet_samples += len(pcm) // 2
            if self._quiet_samples >= audio.ms_to_samples(TURN_ENDS_AFTER_MS):
                self._loud = False
                await self._caller_item("(something said)")

    async def _yield_floor(self) -> None:
        if self._playing is not None:
            self._playing = None
            self._epoch += 1
            self.flushes.append(self._epoch)
            await self._send(wire.Flush(self._epoch))
            await self._send(wire.State("listening"))

    async def _say_what_was_heard(self, item: int, played: int) -> None:
        words = self._text_of(item).split()
        heard = " ".join(words[: len(words) * played // audio.ms_to_samples(self.script.item_ms)])
        await self._send(wire.Transcript(item, "assistant", self._text_of(item), final=True, heard=heard))

    def _text_of(self, item: int) -> str:
        return self.script.greeting or "" if item == 1 and self.script.greeting else self.script.answer

    async def _caller_item(self, text: str) -> None:
        self._item += 1
        await self._send(wire.Item(self._item, "user", "begins"))
        await self._send(wire.Transcript(self._item, "user", text, final=True))
        await self._send(wire.Item(self._item, "user", "ends"))
        self._due.put_nowait(self.script.answer)

    async def _agent(self) -> None:
        with suppress(WebSocketDisconnect, RuntimeError):
            if self.script.greeting:
                await self._speak(self.script.greeting)
            while True:
                text = await self._due.get()
                if self.script.never_answers:
                    continue
                if self.script.breaks_after_open is not None:
                    await self._socket.close(self.script.breaks_after_open, "internal_error: it broke")
                    return
                await self._answer(text)

    async def _answer(self, text: str) -> None:
        await self._send(wire.State("thinking"))
        if self.script.tool:
            await self._send(wire.Tool(self.script.tool, "begins", "call-1"))
            await self.clock.sleep_ms(80)
            await self._send(wire.Tool(self.script.tool, "ends", "call-1", "ok"))
        await self._speak(text)
        self.answers += 1
        if self.answers == self.script.hangs_up_after:
            await self._send(wire.Ended("agent"))
            await self._socket.close(1000)

    async def _speak(self, text: str) -> None:
        self._item += 1
        item, epoch = self._item, self._epoch
        await self._send(wire.State("speaking"))
        await self._send(wire.Item(item, "assistant", "begins", epoch=epoch))
        await self._send(wire.Transcript(item, "assistant", text, final=True))
        assert self.opened is not None
        samples = 0
        if self.opened.mode == "voice":
            self._playing = item
            samples = audio.ms_to_samples(self.script.item_ms)
            if not await self._stream(item, epoch, samples):
                return
            self._lengths[item] = samples
        await self._send(wire.Item(item, "assistant", "ends", epoch=epoch, samples=samples or None))
        if self.opened.mode == "text":
            await self._send(wire.State("listening"))

    async def _stream(self, item: int, epoch: int, samples: int) -> bool:
        """Send the audio of one item; return False when a flush overtook it."""
        chunk = audio.ms_to_samples(CHUNK_MS)
        for first in range(0, samples, chunk):
            if epoch != self._epoch:
                return False
            count = min(chunk, samples - first)
            await self._socket.send_bytes(wire.pack_downlink(epoch, item, first, pattern(item, first, count)))
            await self.clock.sleep_ms(CHUNK_MS / self.script.speed)
        return epoch == self._epoch

    async def _send(self, message: wire.ToClient) -> None:
        await self._socket.send_text(wire.encode(message))


class FakeGateway:
    """A gateway on a free port of 127.0.0.1; ``async with FakeGateway.running(script) as gateway``."""

    def __init__(self, script: Script, clock: Clock) -> None:
        self.script = script
        self.clock = clock
        self.sessions: list[FakeSession] = []
        self.tokens_asked: list[str] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def session(self) -> FakeSession:
        """The only session so far."""
        (session,) = self.sessions
        return session

    @classmethod
    @asynccontextmanager
    async def running(
        cls, script: Script | None = None, *, clock: Clock | None = None, **changes: object
    ) -> AsyncIterator[FakeGateway]:
        gateway = cls(replace(script or Script(), **changes), clock or SystemClock())
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        gateway.port = listener.getsockname()[1]
        config = uvicorn.Config(
            gateway._app(),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="websockets-sansio",
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=1,
        )
        server = _QuietServer(config)
        with closing(listener):
            async with asyncio.TaskGroup() as group:
                group.create_task(server.serve(sockets=[listener]))
                await until(lambda: server.started, why="the fake gateway to listen")
                try:
                    yield gateway
                finally:
                    server.should_exit = True

    def _app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/v1/tokens")
        async def tokens(request: Request) -> JSONResponse:
            business = (await request.json())["business"]
            self.tokens_asked.append(business)
            if self.script.token_status != 200:
                return JSONResponse(self.script.token_body, self.script.token_status)
            if business != self.script.business:
                fault = {"code": "unknown_business", "message": f"no business {business}"}
                return JSONResponse({"error": fault}, 404)
            url = f"ws://127.0.0.1:{self.port}/v1/audio"
            return JSONResponse(
                {"token": "token-1", "expires_in_s": 60, "url": url, **self.script.token_body}
            )

        @app.websocket("/v1/audio")
        async def audio_socket(socket_: WebSocket) -> None:
            await socket_.accept(subprotocol=wire.SUBPROTOCOL)
            session = FakeSession(socket_, self.script, self.clock)
            self.sessions.append(session)
            with suppress(WebSocketDisconnect):
                await session.run()

        return app


class _QuietServer(uvicorn.Server):
    """uvicorn without its signal handlers: the test runner has its own."""

    def capture_signals(self) -> AbstractContextManager[None]:
        return nullcontext()
