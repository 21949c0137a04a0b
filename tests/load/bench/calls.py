"""One caller of the benchmark: a socket that speaks ``parley.v1``, a microphone, a loudspeaker that is only counted.

Its frames go out by the clock and carry when they did; what comes back is checked, timed and played in arithmetic. It
reports playout and answers flushes as docs/client-protocol.md asks. A second way in, for a session service alone, is
the link of a gateway: the same frames after ``attach``.
"""

from __future__ import annotations

import asyncio
import json
import struct
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from load.bench import stamps, turns
from load.bench.logs import Log
from load.bench.stamps import now_us

SAMPLES_PER_FRAME = 480
READY_S = 15.0
ENDED_S = 4.0
_BINARY, _TEXT = WSMsgType.BINARY, WSMsgType.TEXT
_UP = struct.Struct("<I")
_DOWN = struct.Struct("<III")
_SPEECH = stamps.tone()
_BEAT = b'{"type":"beat"}'
_BEAT_EVERY_FRAMES = 25
_decode = msgspec.json.decode


@dataclass(frozen=True)
class Door:
    """Where callers come in. ``tokens_url`` null: the system under test takes any token."""

    url: str
    tokens_url: str | None = None
    business: str = "bench"
    link_token: str | None = None
    """Set for a session service alone: what its link wants to be shown."""
    turn_s: float = turns.TURN_S


class Playout:
    """What a client that plays without a gap would have played of the present item."""

    __slots__ = ("_empty_us", "item", "received")

    def __init__(self) -> None:
        self.item = self.received = 0
        self._empty_us = 0

    def begin(self, item: int) -> None:
        self.item, self.received, self._empty_us = item, 0, 0

    def add(self, samples: int, now: int) -> None:
        self.received += samples
        self._empty_us = max(self._empty_us, now) + samples * 1000 // 24

    def played(self, now: int) -> int:
        """Return the samples that the loudspeaker has rendered by now."""
        return self.received - max(0, self._empty_us - now) * 24 // 1000


class Call(WSListener):
    """One caller, from its token to its hang-up."""

    def __init__(self, number: int, door: Door, log: Log) -> None:
        self.number = number
        self.sent = 0
        """Frames sent: the number of the next."""
        self.is_live = False
        self.is_hanging_up = False
        self._door = door
        self._log = log
        self._plan = turns.Caller(number, round(door.turn_s * turns.FRAMES_PER_S))
        self._socket: WSTransport | None = None
        self._frames = 0
        self._epoch = 0
        self._playout = Playout()
        self._last_seq = 0
        loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = loop.create_future()
        self._ended: asyncio.Future[None] = loop.create_future()

    # -- coming and going ---------------------------------------------------------------------------

    async def open(self) -> None:
        """Get in, and be ready to speak; what went wrong is written down."""
        began = now_us()
        try:
            async with asyncio.timeout(READY_S):
                token = await self._token()
                has_token = now_us()
                self._socket, _ = await ws_connect(
                    lambda: self, self._door.url, extra_headers=self._headers()
                )
                connected = now_us()
                self._socket.send(_TEXT, self._opening(token).encode())
                await self._ready
        except Exception as wrong:
            why = f"{type(wrong).__name__}: {wrong}"[:300]
            self._log.note("not_opened", caller=self.number, t=began, why=why)
            return
        self._log.note(
            "opened",
            caller=self.number,
            t=began,
            token_us=has_token - began,
            connect_us=connected - has_token,
            ready_us=now_us() - connected,
        )
        self.is_live = True

    def _headers(self) -> dict[str, str]:
        if self._door.link_token is None:
            return {"Sec-WebSocket-Protocol": "parley.v1"}
        return {
            "Sec-WebSocket-Protocol": "parley.link.v1",
            "Authorization": f"Bearer {self._door.link_token}",
        }

    def _opening(self, token: str) -> str:
        if self._door.link_token is None:
            return json.dumps({"type": "open", "token": token, "client": "bench"})
        who = {"session_id": str(uuid.uuid4()), "token_id": str(uuid.uuid4())}
        return json.dumps({"type": "attach", **who, "business": self._door.business, "fence": 1})

    async def _token(self) -> str:
        if self._door.tokens_url is None:
            return "any"
        place = urlsplit(self._door.tokens_url)
        body = json.dumps({"business": self._door.business, "channel": "cli"})
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        head = f"POST {place.path} HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
        answer = await reader.read()
        writer.close()
        token: str = json.loads(answer.partition(b"\r\n\r\n")[2])["token"]
        return token

    async def hang_up(self) -> None:
        """Say goodbye and wait for the session's end."""
        self.is_live, self.is_hanging_up = False, True
        if self._socket is None or self._ended.done():
            return
        self._socket.send(_TEXT, b'{"type":"hangup"}')
        await asyncio.wait({self._ended}, timeout=ENDED_S)
        if not self._ended.done():
            self._log.note("not_ended", caller=self.number, t=now_us())
        self._socket.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if not self._ready.done():
            self._ready.set_exception(ConnectionError("closed before it was ready"))
        if not self._ended.done():
            self._ended.set_result(None)
            if not self.is_hanging_up:
                self._log.note("cut_off", caller=self.number, t=now_us())
        self.is_live = False

    # -- the microphone -----------------------------------------------------------------------------

    def speak(self) -> None:
        """Send the next 20 ms, whatever has become of the last."""
        if not self.is_live or self._socket is None:
            return
        number = self.sent
        speech = self._plan.speech_frame(number)
        now = now_us()
        self._socket.send(
            _BINARY,
            _UP.pack(number * SAMPLES_PER_FRAME)
            + stamps.write(stamps.seq_of(self.number, number), now)
            + (stamps.SILENCE if speech is None else _SPEECH),
        )
        self.sent = number + 1
        if speech == 0:
            self._log.note("speaks", caller=self.number, t=now)
        if number % turns.REPORT_EVERY_FRAMES == 0:
            self._report(self._socket, number)

    def _report(self, socket: WSTransport, number: int) -> None:
        playout = self._playout
        if playout.received:
            played = playout.played(now_us())
            socket.send(
                _TEXT,
                f'{{"type":"playout","epoch":{self._epoch},"item":{playout.item},'
                f'"received":{playout.received},"played":{played}}}'.encode(),
            )
        if self._door.link_token is not None:
            if number % _BEAT_EVERY_FRAMES == 0:
                socket.send(_TEXT, _BEAT)
        elif number % turns.PING_EVERY_FRAMES == 0:
            socket.send(_TEXT, b'{"type":"ping","t_ms":0}')

    # -- the loudspeaker ----------------------------------------------------------------------------

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == _BINARY:
            self._play(frame.get_payload_as_bytes())
        elif frame.msg_type == _TEXT:
            self._learn(frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def _play(self, frame: bytes) -> None:
        now = now_us()
        epoch, item, first = _DOWN.unpack_from(frame)
        stamp = stamps.read(frame[12 : 12 + stamps.STAMP_BYTES])
        if stamp is None or stamp[0] >> stamps.NUMBER_BITS != self.number:
            self._log.note("foreign", caller=self.number, t=now, seq=stamp and stamp[0])
            return
        self._log.frame.extend((stamp[1], stamp[0], max(0, now - stamp[1])))
        if epoch < self._epoch:
            self._log.note("late", caller=self.number, t=now, seq=stamp[0])
            return
        playout = self._playout
        if item != playout.item:
            playout.begin(item)
        if first != playout.received:
            self._log.note("gap", caller=self.number, t=now, item=item, first=first, had=playout.received)
        playout.add((len(frame) - 12) // 2, now)
        self._last_seq = stamp[0]

    def _learn(self, text: bytes) -> None:
        message = _decode(text)
        handler = _HANDLERS.get(message["type"])
        if handler is not None:
            handler(self, message)

    def _on_ready(self, message: dict[str, Any]) -> None:
        self._epoch = message["epoch"]
        if not self._ready.done():
            self._ready.set_result(None)

    def _on_flush(self, message: dict[str, Any]) -> None:
        now = now_us()
        playout = self._playout
        self._epoch = message["epoch"]
        played = playout.played(now)
        answer = {"type": "flushed", "epoch": self._epoch, "item": playout.item, "played": played}
        if self._socket is not None:
            self._socket.send(_TEXT, msgspec.json.encode(answer))
        self._log.note("flush", caller=self.number, t=now, seq=self._last_seq, played=played)
        playout.begin(0)

    def _on_error(self, message: dict[str, Any]) -> None:
        self._log.note("error", caller=self.number, t=now_us(), code=message["code"])
        if message.get("fatal") and not self._ready.done():
            self._ready.set_exception(ConnectionError(message["code"]))

    def _on_ended(self, message: dict[str, Any]) -> None:
        if not self.is_hanging_up:
            self._log.note("ended", caller=self.number, t=now_us(), reason=message["reason"])
        self.is_live, self.is_hanging_up = False, True
        if not self._ended.done():
            self._ended.set_result(None)


_HANDLERS: dict[str, Callable[[Call, dict[str, Any]], None]] = {
    "ready": Call._on_ready,
    "flush": Call._on_flush,
    "error": Call._on_error,
    "ended": Call._on_ended,
}
