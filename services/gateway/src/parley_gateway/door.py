"""Where clients come in: the audio socket shares the port of the gateway's HTTP. Wiring only."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from parley_common.audio_door import Accepted, Refusal, audio_door
from parley_common.contracts.audio_link import FRAME_MAX_BYTES, SUBPROTOCOL
from parley_common.websocket import WebSocket
from parley_gateway.clients.native import offered, serve_client
from parley_gateway.gateway import Gateway

AUDIO_PATH = "/v1/audio"
SOCKET_FRAME_MAX_BYTES = 4 * FRAME_MAX_BYTES
"""A larger frame closes with 1009 and no word; up to this the client gets an error that says why."""


def server_options(gateway: Gateway) -> dict[str, Any]:
    """Return what ``serve_http`` does not tell uvicorn yet. Liveness is parley.v1's own ping."""
    accept = partial(_accept, gateway)
    return {"http": audio_door(accept, message_max_bytes=SOCKET_FRAME_MAX_BYTES)}


def _accept(gateway: Gateway, path: str, headers: Mapping[str, str]) -> Accepted:
    """Take every client at the audio path: what is wrong with it, it is told in a message."""
    if path != AUDIO_PATH:
        raise Refusal(404)
    socket = WebSocket(message_max_bytes=SOCKET_FRAME_MAX_BYTES)
    subprotocol = SUBPROTOCOL if SUBPROTOCOL in offered(headers) else None
    return socket, subprotocol, partial(serve_client, gateway)
