"""The understudy without socket, models or waiting: for tests that move the clock by hand.

``Stand`` is the entry point for asyncio code. Its ``connect`` is called like ``websockets.asyncio.client.connect``, so
that a client which dials through a function can be given it; an hour passes as fast as the client can live it::

    clock = ManualClock()
    stand = Stand(clock)
    socket = await stand.connect("ws://understudy/v1/realtime?model=gpt-realtime-2.1", additional_headers=KEY)
    await socket.send('{"type": "response.create"}')
    await clock.advance(1_000)
    created = json.loads(await socket.recv())

``Rehearsal`` is one session for code without asyncio: the time is an argument of every call, ``due_ms`` says when to
call ``advance``, and what is returned are the frames of wire.py (``Send``, ``Raw``, ``Close``, ``Vanish``,
``FallSilent``). Both take URLs as the server does, with all that conditions.py reads from a query.

Ears read the text tag of exact PCM (``parley_common.audio.write_text_tag``), or take the next of ``lines``; the voice
is light_voice.py; the brain is the understudy's own unless another is given. ``Latency`` says how long each takes.

Law: nothing happens but in a call or at a due time of the given clock; the same calls at the same times give the same
frames.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
from websockets import frames
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK

from parley_common.clock import Clock, Timer
from parley_understudy.disturbances import Disturbances
from parley_understudy.rehearsal import Frame, Latency, Rehearsal, Troupe
from parley_understudy.settings import Settings
from parley_understudy.wire import Close, FallSilent, Raw, Send, Vanish

__all__ = ["Frame", "Latency", "Rehearsal", "Stand", "StandSocket", "Troupe"]


class Stand:
    """Sessions for asyncio code, on one clock.

    ``troupe`` and ``disturbances`` may be changed at any time; ``sockets`` are those that were opened and are open.
    ``down`` makes dialling fail as a host does that does not listen.
    """

    def __init__(
        self, clock: Clock, *, settings: Settings | None = None, troupe: Troupe | None = None, seed: int = 1
    ) -> None:
        self.clock = clock
        self.troupe = troupe or Troupe()
        self.disturbances = Disturbances()
        self.sockets: list[StandSocket] = []
        self.down = False
        self._settings = settings or Settings()
        self._random = random.Random(seed)  # noqa: S311 - ids, not secrets

    async def connect(
        self,
        uri: str,
        *,
        additional_headers: Mapping[str, str] | None = None,
        subprotocols: Iterable[str] | None = None,
        **_client_options: Any,
    ) -> StandSocket:
        """Open a session, as ``await websockets.asyncio.client.connect(uri, ...)`` does.

        Raises:
            ConnectionRefusedError: The stand is ``down``.
        """
        if self.down:
            raise ConnectionRefusedError("the stand is down")
        url = urlsplit(uri)
        rehearsal = Rehearsal(
            f"{url.path}?{url.query}",
            self.clock.now_ms(),
            headers=additional_headers or {},
            subprotocols=subprotocols or (),
            settings=self._settings,
            troupe=self.troupe,
            opened_at=self.clock.now(),
            seed=self._random.random(),
            plan=self.disturbances.next_plan(),
        )
        socket = StandSocket(rehearsal, self.clock)
        self.sockets = [each for each in self.sockets if each.close_code is None]
        self.sockets.append(socket)
        return socket


class StandSocket:
    """The client's end of one session, shaped like a websockets connection."""

    KEEPALIVE_S = 40.0
    """A websockets client gives a silent server up after so long: one ping interval and one deadline of 20 s."""

    def __init__(self, rehearsal: Rehearsal, clock: Clock) -> None:
        self.session_id = rehearsal.id
        self._rehearsal = rehearsal
        self._clock = clock
        self._received: deque[str] = deque()
        self._news = asyncio.Event()
        self._timer: Timer | None = None
        self._timer_ms: float = math.inf
        self._closed: ConnectionClosed | None = None
        self._take(rehearsal.open(clock.now_ms()))

    @property
    def close_code(self) -> int | None:
        """Return the code that ended the connection; 1006 when it was dropped, None while it is open."""
        if self._closed is None:
            return None
        told = self._closed.rcvd or self._closed.sent
        return told.code if told else 1006

    async def send(self, message: str | bytes, text: bool | None = None) -> None:
        """Send one event. Raises ConnectionClosed."""
        if self._closed is not None:
            raise self._closed
        now_ms = self._clock.now_ms()
        is_binary = isinstance(message, bytes) and not text
        self._take(
            self._rehearsal.send_binary(now_ms) if is_binary else self._rehearsal.send(message, now_ms)
        )

    async def recv(self, decode: bool | None = None) -> str | bytes:
        """Return the next frame; bytes with ``decode=False``. Raises ConnectionClosed after the last."""
        while not self._received:
            if self._closed is not None:
                raise self._closed
            self._news.clear()
            await self._news.wait()
        frame = self._received.popleft()
        return frame.encode() if decode is False else frame

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close from the client's side; harmless when it is closed already."""
        if self._closed is None:
            said = frames.Close(code, reason)
            self._end(ConnectionClosedOK(said, said, False))

    def _lived(self) -> None:
        self._timer, self._timer_ms = None, math.inf
        if self._closed is None:
            self._take(self._rehearsal.advance(self._clock.now_ms()))

    def _take(self, sent: list[Frame]) -> None:
        for frame in sent:
            if isinstance(frame, Send):
                self._received.append(msgspec.json.encode(frame.event).decode())
            elif isinstance(frame, Raw):
                self._received.append(frame.text)
            elif isinstance(frame, FallSilent):
                self._clock.call_later_ms(self.KEEPALIVE_S * 1000, self._give_up)
            else:
                self._end(_as_seen_by_the_client(frame))
        if sent:
            self._news.set()
        self._set_timer()

    def _set_timer(self) -> None:
        due_ms = None if self._closed else self._rehearsal.due_ms()
        if due_ms is None or due_ms == self._timer_ms:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_ms = due_ms
        self._timer = self._clock.call_later_ms(due_ms - self._clock.now_ms(), self._lived)

    def _give_up(self) -> None:
        if self._closed is None:
            self._end(ConnectionClosedError(None, frames.Close(1011, "keepalive ping timeout"), None))

    def _end(self, closed: ConnectionClosed) -> None:
        self._closed = closed
        if self._timer is not None:
            self._timer.cancel()
        self._news.set()


def _as_seen_by_the_client(ending: Close | Vanish) -> ConnectionClosed:
    if isinstance(ending, Vanish):
        return ConnectionClosedError(None, None, None)
    said = frames.Close(ending.code, ending.reason)
    kind = ConnectionClosedOK if ending.code in (1000, 1001) else ConnectionClosedError
    return kind(said, said, True)
