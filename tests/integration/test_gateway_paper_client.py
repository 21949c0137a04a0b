"""A client made of docs/client-protocol.md and its JSON Schema alone, without a line of ours, holds a conversation."""

from __future__ import annotations

import asyncio
import json
import struct
from functools import cache
from pathlib import Path
from typing import Any

import httpx
from jsonschema import Draft202012Validator
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from fakes.session_service import FakeLink, FakeSessionService
from harness.waiting import until
from parley_common.contracts import audio_link as wire
from unit.gateway.world import PATIENT, running_gateway

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "contracts" / "client-protocol.schema.json"
EPOCH = 65_536


@cache
def validator(side: str) -> Draft202012Validator:
    schema = json.loads(SCHEMA.read_text("utf-8"))
    return Draft202012Validator({"$ref": f"#/$defs/{side}", "$defs": schema["$defs"]})


class PaperClient:
    """Sections "In short", "Audio frames" and "Playing, reporting, flushing" of the page, in code."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.epoch = 0
        self.received: dict[int, int] = {}
        self.playing = 0
        self.sample = 0
        self.messages: list[dict[str, Any]] = []

    async def send(self, **message: Any) -> None:
        validator("FromClient").validate(message)
        await self.socket.send(json.dumps(message))

    async def speak(self, samples: int) -> None:
        await self.socket.send(struct.pack("<I", self.sample) + bytes(2 * samples))
        self.sample += samples

    async def take(self) -> dict[str, Any] | None:
        """Receive one frame and do what the page asks for; return a message, null for audio."""
        data = await self.socket.recv()
        if isinstance(data, bytes):
            await self.hear(data)
            return None
        message: dict[str, Any] = json.loads(data)
        validator("ToClient").validate(message)
        self.messages.append(message)
        if message["type"] == "ready":
            self.epoch = message["epoch"]
        elif message["type"] == "flush":
            self.epoch = message["epoch"]
            heard = self.received.get(self.playing, 0) // 2
            await self.send(type="flushed", epoch=self.epoch, item=self.playing, played=heard)
            self.playing = 0
        return message

    async def hear(self, frame: bytes) -> None:
        epoch, item, first = struct.unpack_from("<III", frame)
        if epoch < self.epoch:
            return
        end = first + (len(frame) - 12) // 2
        self.received[item] = max(self.received.get(item, 0), end)
        self.playing = item
        await self.send(type="playout", epoch=epoch, item=item, received=end, played=end // 2)

    async def hear_up_to(self, item: int, samples: int) -> None:
        async with asyncio.timeout(10):
            while self.received.get(item, 0) < samples:
                await self.take()

    async def until(self, kind: str) -> dict[str, Any]:
        async with asyncio.timeout(10):
            while True:
                message = await self.take()
                if message is not None and message["type"] == kind:
                    return message


async def dial(url: str) -> ClientConnection:
    return await connect(url, subprotocols=[Subprotocol("parley.v1")], compression=None, proxy=None)


async def say(link: FakeLink, item: int, epoch: int, frames: int, *, ends: bool = True) -> None:
    await link.send(wire.Item(item, "assistant", "begins", epoch))
    for number in range(frames):
        await link.send_raw(wire.pack_downlink(epoch, item, number * 480, bytes(960)))
    if ends:
        await link.send(wire.Item(item, "assistant", "ends", epoch, frames * 480))


async def test_a_client_written_from_the_page_alone_talks_is_barged_in_resumes_and_hangs_up() -> None:
    async with FakeSessionService() as service:
        service.ready = wire.Ready("", "", epoch=EPOCH)
        async with running_gateway(service, timing=PATIENT) as world:
            async with httpx.AsyncClient(trust_env=False) as http:
                answer = await http.post(f"{world.http_url}/v1/tokens", json={"business": "cap"})
            ticket = answer.json()
            client = PaperClient(await dial(ticket["url"]))
            await client.send(type="open", token=ticket["token"])
            ready = await client.until("ready")
            assert ready["session"] == ticket["session_id"]
            link = await service.attached()

            await say(link, 1, EPOCH, 10)
            await client.until("item")
            await client.until("item")
            assert client.received == {1: 4_800}
            await client.speak(480)
            await client.send(type="ping", t_ms=1)
            await client.until("pong")

            await say(link, 2, EPOCH, 5, ends=False)
            await client.hear_up_to(2, 2_400)
            await link.send(wire.Flush(EPOCH + 1))
            await client.until("flush")
            await until(lambda: wire.Flushed(EPOCH + 1, 2, 1_200) in link.messages, why="the answer")
            assert wire.Playout(EPOCH, 1, 4_800, 2_400) in link.messages

            await say(link, 3, EPOCH + 1, 2, ends=False)
            await client.hear_up_to(3, 960)
            client.socket.transport.abort()
            await link.send_raw(wire.pack_downlink(EPOCH + 1, 3, 960, bytes(960)))
            await link.send(wire.Item(3, "assistant", "ends", EPOCH + 1, 1_440))
            client.socket = await dial(ticket["url"])
            have = [{"item": item, "received": count} for item, count in client.received.items()]
            await client.send(type="open", resume=ready["resume"], have=have)
            back = await client.until("ready")
            assert (back["session"], back["epoch"], back["uplink_sample"]) == (
                ready["session"],
                EPOCH + 1,
                480,
            )
            while client.messages[-1].get("phase") != "ends":
                await client.take()
            assert client.received[3] == 1_440

            await client.send(type="feedback", rating=5)
            await client.send(type="hangup")
            await client.until("ended")
            await _closed(client.socket)
            assert client.socket.close_code == 1000
            assert wire.Feedback(5) in link.messages


async def _closed(socket: ClientConnection) -> None:
    async with asyncio.timeout(10):
        try:
            await socket.recv()
        except ConnectionClosed:
            return
    raise AssertionError("something came after ended")
