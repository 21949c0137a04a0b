"""Baseline: a bare echo on picows and uvloop. What it costs is the price of two sockets' worth of frames, and no more.

It says ``ready`` to whoever opens, and sends each frame back at once as an agent's: its stamp then tells the round trip.

    python -m load.bench.echo --port 9002
"""

from __future__ import annotations

import argparse
import struct

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport

from load.bench.lean_upstream import serve
from load.bench.relay import SUBPROTOCOL

_DOWN = struct.Struct("<II")
_HEAD = _DOWN.pack(1, 1)
_BINARY = WSMsgType.BINARY


class Session(WSListener):
    """One caller."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == _BINARY:
            transport.send(_BINARY, _HEAD + frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.TEXT:
            self._answer(transport, frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()

    def _answer(self, transport: WSTransport, text: bytes) -> None:
        if b'"open"' in text:
            item = b'{"type":"item","number":1,"role":"assistant","phase":"begins","epoch":1}'
            transport.send(WSMsgType.TEXT, b'{"type":"ready","session":"echo","resume":"","epoch":1}')
            transport.send(WSMsgType.TEXT, item)
        elif b'"hangup"' in text:
            transport.send(WSMsgType.TEXT, b'{"type":"ended","reason":"caller"}')
            transport.send_close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, required=True)
    args = parser.parse_args()
    uvloop.run(serve(Session, args.port, subprotocol=SUBPROTOCOL))


if __name__ == "__main__":
    main()
