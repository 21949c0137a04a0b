"""Reads one client: forwards its audio untouched, checks and forwards its messages, answers its pings.

It ends nothing itself: it says how the session should end. Law: per audio frame one check and one send; bad
input is an error with a stable code, and only size or repetition ends the session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from parley_common.clock import Clock
from parley_common.contracts.audio_link import (
    Error,
    FromClient,
    Hangup,
    Open,
    Ping,
    Pong,
    SetMode,
    encode,
)
from parley_common.errors import PeerViolation
from parley_common.websocket import WebSocket
from parley_gateway import metrics
from parley_gateway.clients.ends import CLIENT_LOST, HUNG_UP, End, client_broke_protocol
from parley_gateway.clients.flow import NO_LIMITS, Flow, FlowLimits, flooding
from parley_gateway.clients.uplink import VIOLATIONS_MAX, UplinkMeter, read_message
from parley_gateway.refusals import CLOSE_POLICY
from parley_gateway.session_link import SessionLink


@dataclass(frozen=True, slots=True)
class Uplink:
    """What the readers of one session share, over all the sockets that its client has in turn."""

    traffic: metrics.Traffic
    accept: Callable[[FromClient], bool]
    """Is told each message; false: it goes no further."""
    text_only: bool = False
    """The client's token is good for no voice."""
    flow: FlowLimits = NO_LIMITS
    meter: UplinkMeter = field(default_factory=UplinkMeter)


class ClientReader:
    """The uplink of one client's socket."""

    def __init__(
        self, socket: WebSocket, clock: Clock, uplink: Uplink, answer: Callable[[str], None]
    ) -> None:
        """``answer`` sends a message to the client."""
        self.heard_ms = clock.now_ms()
        self.hung_up_ms: int | None = None
        """When the client said ``hangup``; null while it did not."""
        self._socket = socket
        self._clock = clock
        self._uplink = uplink
        self._answer = answer
        self._flow = Flow(uplink.flow, self.heard_ms)
        self._violations_count = 0

    async def run(self, link: SessionLink) -> End:
        """Forward until the client is gone or broke the protocol for good; return what that means."""
        self.heard_ms = self._clock.now_ms()
        ended: asyncio.Future[End] = asyncio.get_running_loop().create_future()

        def tell(end: End) -> None:
            if not ended.done():
                ended.set_result(end)

        def take(message: bytes | str) -> None:
            end = self._take(message, link)
            if end is not None:
                tell(end)

        def gone() -> None:
            is_over = self._socket.is_clean or self.hung_up_ms is not None
            tell(HUNG_UP if is_over else CLIENT_LOST)

        self._socket.listen(take, gone)
        try:
            return await ended
        finally:
            self._socket.ignore()

    def _take(self, message: bytes | str, link: SessionLink) -> End | None:
        self.heard_ms = self._clock.now_ms()
        try:
            if not self._flow.take(len(message), self.heard_ms):
                raise flooding()
            if isinstance(message, bytes):
                self._forward_audio(message, link)
            else:
                self._forward(read_message(message), link)
        except PeerViolation as wrong:
            return self._violated(wrong)
        return None

    def _forward_audio(self, frame: bytes, link: SessionLink) -> None:
        self._uplink.meter.accept(frame)
        if link.send_frame(frame):
            self._uplink.traffic.up_count += 1
            self._uplink.traffic.up_bytes += len(frame)
        else:
            self._uplink.traffic.dropped_count += 1

    def _forward(self, message: FromClient, link: SessionLink) -> None:
        match message:
            case Ping():
                self._answer(encode(Pong(message.t_ms)))
            case Open():
                raise PeerViolation("this session is open already", code="already_open")
            case SetMode(mode="voice") if self._uplink.text_only:
                raise PeerViolation("this token is for text only", code="text_only")
            case _:
                if isinstance(message, Hangup):
                    self.hung_up_ms = self._clock.now_ms()
                if self._uplink.accept(message):
                    link.send_text(encode(message))

    def _violated(self, wrong: PeerViolation) -> End | None:
        metrics.VIOLATIONS.labels(wrong.stable_code).inc()
        self._violations_count += 1
        if wrong.close_code != CLOSE_POLICY:
            return client_broke_protocol(wrong.stable_code, wrong.message, wrong.close_code)
        if self._violations_count > VIOLATIONS_MAX:
            return client_broke_protocol(
                "too_many_violations", "this client does not speak parley.v1", CLOSE_POLICY
            )
        self._answer(encode(Error(wrong.stable_code, wrong.message)))
        return None
