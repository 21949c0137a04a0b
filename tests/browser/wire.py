"""What a tab's audio socket carried, as the browser itself saw it pass: for tests that insist on the protocol."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

from browser.chromium import Tab

TEXT, BINARY = 1, 2


def sent(tab: Tab, kind: str | None = None) -> list[dict[str, Any]]:
    """Return the messages that the client sent, of one type or all."""
    return _texts(tab, "Network.webSocketFrameSent", kind)


def received(tab: Tab, kind: str | None = None) -> list[dict[str, Any]]:
    """Return the messages that the service sent."""
    return _texts(tab, "Network.webSocketFrameReceived", kind)


def uplink(tab: Tab) -> list[tuple[int, bytes]]:
    """Return the audio frames that the client sent: first sample, PCM."""
    frames = [base64.b64decode(payload) for payload in _payloads(tab, "Network.webSocketFrameSent", BINARY)]
    return [(struct.unpack_from("<I", frame)[0], frame[4:]) for frame in frames]


def downlink(tab: Tab) -> list[tuple[int, int, bytes]]:
    """Return the audio frames that the client received, over all its sockets: item, first sample, PCM."""
    payloads = _payloads(tab, "Network.webSocketFrameReceived", BINARY)
    frames = [base64.b64decode(payload) for payload in payloads]
    return [(*struct.unpack_from("<II", frame, 4), frame[12:]) for frame in frames]


def sockets_count(tab: Tab) -> int:
    """Return how many sockets the page dialled, those that were refused too."""
    return len(tab.events["Network.webSocketCreated"])


def order_sent(tab: Tab) -> list[str]:
    """Return the types of what the client sent, audio frames as ``audio``, in order."""
    frames = [event["response"] for event in tab.events["Network.webSocketFrameSent"]]
    return [
        "audio" if frame["opcode"] == BINARY else json.loads(frame["payloadData"])["type"] for frame in frames
    ]


def _texts(tab: Tab, event: str, kind: str | None) -> list[dict[str, Any]]:
    messages = [json.loads(payload) for payload in _payloads(tab, event, TEXT)]
    return [message for message in messages if kind is None or message["type"] == kind]


def _payloads(tab: Tab, event: str, opcode: int) -> list[str]:
    frames = [happened["response"] for happened in tab.events[event]]
    return [frame["payloadData"] for frame in frames if frame["opcode"] == opcode]
