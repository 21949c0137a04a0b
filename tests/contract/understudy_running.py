"""Runs a real understudy on a free port, for as long as a test needs it, and a client that keeps what it is sent."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from openai import AsyncOpenAI
from openai.resources.realtime.realtime import AsyncRealtimeConnection

from contract.ga_types import faults
from fakes.brain import decide
from parley_common.audio import ms_to_bytes
from parley_common.clock import Clock
from parley_understudy.server import Running, serve
from parley_understudy.settings import Settings

DEADLINE_S = 20.0


@asynccontextmanager
async def understudy(
    *, brain: Any = decide, clock: Clock | None = None, **settings: Any
) -> AsyncIterator[Running]:
    """Serve on a free port of 127.0.0.1, in light mode unless told otherwise."""
    stop = asyncio.Event()
    ready: asyncio.Future[Running] = asyncio.get_running_loop().create_future()
    wanted = Settings(**{"port": 0, "light": True, "seed": 1, **settings})
    async with asyncio.TaskGroup() as group:
        group.create_task(serve(wanted, stop=stop, brain=brain, clock=clock, started=ready.set_result))
        async with asyncio.timeout(90):
            running = await ready
        try:
            yield running
        finally:
            stop.set()


class Talk:
    """A session of the official client, and every event that it received."""

    def __init__(self, connection: AsyncRealtimeConnection) -> None:
        self.connection = connection
        self.events: list[dict[str, Any]] = []

    async def until(
        self, kind: str, where: Callable[[dict[str, Any]], bool] = lambda _: True
    ) -> dict[str, Any]:
        """Receive until an event of this type comes, and return it."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                event = (await self.connection.recv()).to_dict(exclude_unset=True)
                self.events.append(dict(event))
                if event["type"] == kind and where(self.events[-1]):
                    return self.events[-1]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of a type so far."""
        return [event for event in self.events if event["type"] == kind]

    async def microphone(self, pcm: bytes, *, speed: float = 1.0) -> None:
        """Send audio in 20 ms frames at a multiple of real time."""
        for at in range(0, len(pcm), ms_to_bytes(20)):
            frame = base64.b64encode(pcm[at : at + ms_to_bytes(20)]).decode()
            await self.connection.input_audio_buffer.append(audio=frame)
            await asyncio.sleep(0.02 / speed)

    def audio(self) -> bytes:
        """Return all audio received so far."""
        return b"".join(base64.b64decode(event["delta"]) for event in self.of("response.output_audio.delta"))


@asynccontextmanager
async def talk(running: Running, model: str = "gpt-realtime-2.1", **session: Any) -> AsyncIterator[Talk]:
    """Open a session with the official client; at the end, hold every event against its GA type."""
    async with (
        AsyncOpenAI(api_key="any", base_url=f"http://127.0.0.1:{running.port}/v1") as client,
        client.realtime.connect(model=model) as connection,
    ):
        conversation = Talk(connection)
        await conversation.until("session.created")
        if session:
            await connection.session.update(session={"type": "realtime", **session})  # type: ignore[typeddict-item]
            await conversation.until("session.updated")
        yield conversation
    assert faults(conversation.events) == []
