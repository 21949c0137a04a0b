"""Stands in for the session service, so that a gateway can be measured alone: a link at one end, tones at the other.

It answers ``attach`` with ``ready``, hears caller audio as the lean upstream does, and speaks, is spoken over and falls
silent on the same schedule; a flush goes out in the same moment in which speech arrives.

    python -m load.bench.link_stand --port 9003 --log <folder>
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from picows import (
    WSAutoPingStrategy,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)
from picows.picows import WSProtocol

from load.bench import stamps, turns
from load.bench.hearing import Ear
from load.bench.lean_upstream import Stand, until_stopped
from load.bench.logs import Log
from load.bench.stamps import now_us

SUBPROTOCOL = "parley.link.v1"
BEAT_S = 0.5
_BINARY, _TEXT = WSMsgType.BINARY, WSMsgType.TEXT
_DOWN = struct.Struct("<III")


class Session(WSListener):
    """One link."""

    def __init__(self, stand: Stand) -> None:
        self._stand = stand
        self._socket: WSTransport
        self._ear = Ear(stand.log, self._spoken_over, self._answer)
        self._epoch = 1
        self._number = 0
        self._responses: dict[int, int] = {}
        """Response by item."""
        self._frames = self._sent = 0
        self._is_speaking = False
        self._beat: asyncio.TimerHandle
        self.slot = 0

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._socket = transport
        self._stand.add(self)
        self._send_beat()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._beat.cancel()
        self._fall_silent("gone")
        self._stand.remove(self)

    def _send_beat(self) -> None:
        self._say(type="beat")
        self._beat = asyncio.get_running_loop().call_later(BEAT_S, self._send_beat)

    def _say(self, **message: Any) -> None:
        self._socket.send(_TEXT, msgspec.json.encode(message))

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == _BINARY:
            self._ear.hear(frame.get_payload_as_bytes()[4:])
        elif frame.msg_type == _TEXT:
            self._obey(msgspec.json.decode(frame.get_payload_as_bytes()))
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def _obey(self, message: dict[str, Any]) -> None:
        if message["type"] == "attach":
            self._say(type="ready", session=message["session_id"], resume="", epoch=self._epoch)
        elif message["type"] == "flushed" and message["played"]:
            number, ms = self._responses.get(message["item"], 0), message["played"] // 24
            self._stand.log.note("truncate", caller=self._ear.caller, number=number, ms=ms, t=now_us())
        elif message["type"] == "hangup":
            self._say(type="ended", reason="caller")
            self._socket.send_close()

    def _spoken_over(self, now: int) -> None:
        over = self._responses.get(self._number, 0) if self._is_speaking else 0
        self._stand.log.note("speech", caller=self._ear.caller, t=now, over=over, frames=self._frames)
        if self._is_speaking:
            self._epoch += 1
            self._say(type="flush", epoch=self._epoch)
            self._fall_silent("cancelled")

    def _answer(self) -> None:
        self._stand.responses += 1
        self._number += 1
        self._frames = 0
        self._responses[self._number] = self._stand.responses
        self._say(type="item", number=self._number, role="assistant", phase="begins", epoch=self._epoch)
        number, first = self._stand.responses, self._sent
        self._stand.log.note("response", caller=self._ear.caller, number=number, first=first, t=now_us())
        self._is_speaking = True
        self._stand.speaking.add(self)
        for _ in range(turns.LEAD_FRAMES):
            self.speak()

    def speak(self) -> None:
        """Send the next frame of the answer."""
        if not self._is_speaking or self._ear.caller is None:
            return
        if self._frames % turns.WORDS_EVERY_FRAMES == 0:
            text = f"word{self._frames} "
            self._say(type="transcript", item=self._number, role="assistant", text=text)
        first = self._frames * (stamps.FRAME_BYTES // 2)
        stamp = stamps.write(stamps.seq_of(self._ear.caller, self._sent), now_us())
        self._socket.send(_BINARY, _DOWN.pack(self._epoch, self._number, first) + stamp + stamps.SILENCE)
        self._sent += 1
        self._frames += 1
        if self._frames >= self._stand.answer_frames:
            self._fall_silent("completed")

    def _fall_silent(self, status: str) -> None:
        if not self._is_speaking:
            return
        self._is_speaking = False
        self._stand.speaking.discard(self)
        number = self._responses[self._number]
        over = {"number": number, "frames": self._frames, "status": status}
        self._stand.log.note("response_over", caller=self._ear.caller, **over, t=now_us())
        self._frames = 0


class FrontDoor:
    """Accepts links, and answers the gateway's probes, which picows would refuse for their HTTP/1.0."""

    def __init__(self, make: Callable[[], Session], port: int) -> None:
        self._make = make
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._socket = socket.create_server(("127.0.0.1", port), backlog=512)
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket, self._accept)

    def _accept(self) -> None:
        client, _ = self._socket.accept()
        client.setblocking(False)
        self._loop.add_reader(client, self._look, client)

    def _look(self, client: socket.socket) -> None:
        self._loop.remove_reader(client)
        if client.recv(11, socket.MSG_PEEK) == b"GET /readyz":
            client.recv(4096)
            client.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")
            client.close()
            return
        task = self._loop.create_task(self._loop.connect_accepted_socket(self._protocol, client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _protocol(self) -> WSProtocol:
        def listener(_: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
            answer = WSUpgradeResponse.create_101_response({"Sec-WebSocket-Protocol": SUBPROTOCOL})
            return WSUpgradeResponseWithListener(answer, self._make())

        no_pings = (False, 10, 10, WSAutoPingStrategy.PING_WHEN_IDLE, False)
        log = logging.getLogger("link")
        return WSProtocol(None, None, False, listener, log, True, 5, *no_pings, 2**20, None, 2**14)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", type=Path, required=True)
    args = parser.parse_args()

    async def run() -> None:
        log = Log(args.log, "upstream")
        stand = Stand(log, is_burst=False, tool_every=0, answer_s=30.0)
        FrontDoor(lambda: Session(stand), args.port)
        await until_stopped(stand.write)
        log.close()

    gc.disable()
    uvloop.run(run())


if __name__ == "__main__":
    main()
