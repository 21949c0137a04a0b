"""Baseline: the smallest relay that is correct, in one process, on picows and uvloop.

It speaks ``parley.v1`` to callers and the Realtime protocol to upstream, flushes at a barge-in, drops late deltas of a
response that was spoken over, truncates at what the caller says it heard, and answers a tool call by itself, at once.
It keeps no history and no facts, admits everyone, survives nothing, forgets nobody's limits, and bounds no queue: it is
the floor under what a gateway can cost, not a gateway.

    python -m load.bench.relay --port 9001 --upstream ws://127.0.0.1:9000/v1/realtime
"""

from __future__ import annotations

import argparse
import asyncio
import struct
from binascii import a2b_base64, b2a_base64
from typing import Any

import msgspec
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from load.bench.lean_upstream import APPEND, serve

SUBPROTOCOL = "parley.v1"
_BINARY, _TEXT = WSMsgType.BINARY, WSMsgType.TEXT
_DELTA = b'{"type":"response.output_audio.delta"'
_DOWN = struct.Struct("<III")
_decode, _encode = msgspec.json.decode, msgspec.json.encode


class Upstream(WSListener):
    """The socket to upstream of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._session.upstream = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == _TEXT:
            raw = frame.get_payload_as_bytes()
            if raw.startswith(_DELTA):
                self._session.play(raw)
            else:
                self._session.learn(_decode(raw))

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._session.end("lost")


class Session(WSListener):
    """One caller's socket, and the little that must be known to be correct."""

    def __init__(self, upstream_url: str) -> None:
        self.upstream: WSTransport | None = None
        self._upstream_url = upstream_url
        self._caller: WSTransport
        self._is_ready = False
        self._epoch = 1
        self._number = 0
        self._sent = 0
        self._item_id = ""
        self._words = ""
        self._response_id = ""
        self._is_dead = True
        self._dialling: asyncio.Task[None]

    # -- the caller ---------------------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._caller = transport
        self._dialling = asyncio.get_running_loop().create_task(self._dial())

    async def _dial(self) -> None:
        await ws_connect(lambda: Upstream(self), self._upstream_url)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self.upstream is not None:
            self.upstream.disconnect()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == _BINARY:
            if self._is_ready and self.upstream is not None:
                pcm = frame.get_payload_as_memoryview()[4:]
                self.upstream.send(_TEXT, APPEND + b2a_base64(pcm, newline=False) + b'"}')
        elif frame.msg_type == _TEXT:
            self._obey(_decode(frame.get_payload_as_bytes()))
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()

    def _obey(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "ping":
            self._tell({"type": "pong", "t_ms": message.get("t_ms", 0)})
        elif kind == "flushed" and message["item"] and message["item"] == self._number and message["played"]:
            self._ask(
                {
                    "type": "conversation.item.truncate",
                    "item_id": self._item_id,
                    "content_index": 0,
                    "audio_end_ms": min(message["played"], self._sent) // 24,
                }
            )
        elif kind == "hangup":
            self.end("caller")

    def _tell(self, message: dict[str, Any]) -> None:
        self._caller.send(_TEXT, _encode(message))

    def end(self, reason: str) -> None:
        """Say that the session is over."""
        self._tell({"type": "ended", "reason": reason})
        self._caller.send_close()

    # -- upstream -----------------------------------------------------------------------------------

    def play(self, raw: bytes) -> None:
        """Pass an audio delta on, unless its response was spoken over."""
        if self._is_dead:
            return
        begin = raw.index(b'"delta":"') + 9
        pcm = a2b_base64(raw[begin : raw.index(b'"', begin)])
        self._caller.send(_BINARY, _DOWN.pack(self._epoch, self._number, self._sent) + pcm)
        self._sent += len(pcm) // 2

    def learn(self, event: dict[str, Any]) -> None:
        """Follow what upstream says."""
        kind = event["type"]
        if kind == "input_audio_buffer.speech_started":
            if not self._is_dead and self._sent:
                self._epoch += 1
                self._tell({"type": "flush", "epoch": self._epoch})
            self._is_dead = True
        elif kind == "response.created":
            self._response_id = event["response"]["id"]
        elif kind == "response.output_item.added":
            self._begin(event)
        elif kind == "response.output_item.done":
            self._finish(event["item"])
        elif kind == "response.output_audio_transcript.delta":
            self._words += event["delta"]
            said = {"item": self._number, "role": "assistant", "text": self._words}
            self._tell({"type": "transcript", **said})
        elif kind == "session.created":
            self._ask({"type": "session.update", "session": {"type": "realtime", "tools": []}})
        elif kind == "session.updated":
            self._is_ready = True
            self._tell({"type": "ready", "session": "relay", "resume": "", "epoch": self._epoch})

    def _begin(self, event: dict[str, Any]) -> None:
        item = event["item"]
        if item["type"] == "message" and event["response_id"] == self._response_id:
            self._is_dead = False
            self._number += 1
            self._sent, self._item_id, self._words = 0, item["id"], ""
            begins = {"number": self._number, "role": "assistant", "phase": "begins", "epoch": self._epoch}
            self._tell({"type": "item", **begins})

    def _finish(self, item: dict[str, Any]) -> None:
        if item["type"] == "function_call":
            output = {"type": "function_call_output", "call_id": item["call_id"], "output": '{"ok": true}'}
            self._ask({"type": "conversation.item.create", "item": output})
            self._ask({"type": "response.create"})
        elif not self._is_dead:
            ends = {"number": self._number, "role": "assistant", "phase": "ends", "epoch": self._epoch}
            self._tell({"type": "item", **ends, "samples": self._sent})

    def _ask(self, event: dict[str, Any]) -> None:
        if self.upstream is not None:
            self.upstream.send(_TEXT, _encode(event))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True)
    args = parser.parse_args()
    uvloop.run(serve(lambda: Session(args.upstream), args.port, subprotocol=SUBPROTOCOL))


if __name__ == "__main__":
    main()
