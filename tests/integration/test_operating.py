"""Operating a running Parley: sessions listed and ended, businesses switched off, speech rendered, a model that dies."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from harness.kafka import kinds_to_try, start_broker
from harness.processes import Processes
from harness.running import RunningParley, Told
from harness.waiting import until
from parley_common.contracts import audio_link as wire

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def parley(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningParley]:
    folder = tmp_path_factory.mktemp("operating")
    broker, _ = start_broker(kinds_to_try())
    with Processes(folder) as processes:
        running = RunningParley(processes, folder / "state", broker, UNDERSTUDY_LIGHT="true")
        yield running
        running.stop()
    broker.close()


def command(parley: RunningParley, *words: str) -> str:
    """Run `parley` as an operator does; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "parley_launcher", *words],
        env={**parley.env, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Caller:
    """A client of one session that keeps what it is told."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.told: list[wire.ToClient] = []

    async def read(self) -> None:
        try:
            async for frame in self.socket:
                if isinstance(frame, str):
                    self.told.append(wire.decode_to_client(frame))
        except ConnectionClosed:
            return

    def of(self, kind: type) -> list[object]:
        return [message for message in self.told if isinstance(message, kind)]

    async def waits_for(self, kind: type, count: int = 1, within_s: float = 60) -> object:
        await until(lambda: len(self.of(kind)) >= count, within_s, f"{count} of {kind.__name__}")
        return self.of(kind)[count - 1]

    def heard(self, words: str) -> bool:
        return any(t.role == "assistant" and words in t.text for t in self.of(wire.Transcript))  # type: ignore[attr-defined]


@asynccontextmanager
async def calling(parley: RunningParley, *, mode: wire.Mode = "text") -> AsyncIterator[Caller]:
    async with httpx.AsyncClient(trust_env=False) as http:
        asked = await http.post(f"{parley.url}/v1/tokens", json={"business": "cap", "channel": "cli"})
    answer = asked.json()
    async with connect(answer["url"], subprotocols=["parley.v1"], compression=None) as socket:  # type: ignore[list-item]
        await socket.send(wire.encode(wire.Open(token=answer["token"], mode=mode)))
        caller = Caller(socket)
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(caller.read())
            yield caller
            reading.cancel()


async def test_an_operator_lists_a_session_and_ends_it_and_its_caller_is_told(parley: RunningParley) -> None:
    async with calling(parley) as caller:
        ready = await caller.waits_for(wire.Ready)
        session_id = ready.session  # type: ignore[attr-defined]
        assert session_id in await asyncio.to_thread(command, parley, "sessions", "list")
        await asyncio.to_thread(command, parley, "sessions", "end", session_id)
        error = await caller.waits_for(wire.Error)
    assert (error.code, error.fatal) == ("ended_by_operator", True)  # type: ignore[attr-defined]
    told = [f for f in await _session_facts(parley, session_id) if "ended" in f.type]
    assert [f.value["reason"] for f in told] == ["operator"]


async def test_a_business_switched_off_ends_its_sessions_and_takes_none_until_it_is_on_again(
    parley: RunningParley,
) -> None:
    async with calling(parley) as caller:
        await caller.waits_for(wire.Ready)
        await asyncio.to_thread(command, parley, "switch", "off", "cap", "--reason", "maintenance")
        try:
            await caller.waits_for(wire.Error)
            assert "maintenance" in await asyncio.to_thread(command, parley, "switch", "list")
            async with calling(parley) as refused:
                error = await refused.waits_for(wire.Error)
                assert error.code == "switched_off"  # type: ignore[attr-defined]
                assert error.retry_after_s == 300  # type: ignore[attr-defined]
                await until(lambda: refused.socket.close_code is not None, 20, "the refusal's close")
                assert refused.socket.close_code == 1013
        finally:
            await asyncio.to_thread(command, parley, "switch", "on", "cap")

    async def opens() -> bool:
        async with calling(parley) as again:
            await until(lambda: bool(again.of(wire.Ready) or again.of(wire.Error)), 30, "an answer")
            return bool(again.of(wire.Ready))

    await until(opens, 60, "the business to be on again")


async def test_a_model_that_dies_in_mid_session_is_found_again_and_the_conversation_goes_on(
    parley: RunningParley,
) -> None:
    async with calling(parley) as caller:
        await caller.waits_for(wire.Ready)
        await caller.socket.send(
            wire.encode(wire.Text("Hi, I want to buy a rental for $300,000 with 25% down."))
        )
        await until(lambda: caller.heard("rent"), 60, "the agent to ask for the rent")
        parley.kill9("understudy")
        await until(lambda: _notices(caller) == ["reconnecting"], 30, "the loss to be told")
        await until(lambda: _notices(caller) == ["reconnecting", "reconnected"], 60, "upstream to be back")
        await caller.socket.send(wire.encode(wire.Text("It brings in 2,400 a month.")))
        await until(lambda: caller.heard("payment"), 60, "the deal to be analysed with what was said before")
        await caller.socket.send(wire.encode(wire.Hangup()))
        await caller.waits_for(wire.Ended)


def _notices(caller: Caller) -> list[str]:
    return [notice.code for notice in caller.of(wire.Notice)]  # type: ignore[attr-defined]


async def test_rendered_speech_greets_without_a_response_and_is_counted(parley: RunningParley) -> None:
    assert "cap greeting" in await asyncio.to_thread(command, parley, "render", "cap")
    async with calling(parley, mode="voice") as caller:
        ready = await caller.waits_for(wire.Ready)
        await until(lambda: caller.heard("Harborlight"), 30, "the greeting")
        await caller.socket.send(wire.encode(wire.Hangup()))
        await caller.waits_for(wire.Ended)
    session_id = ready.session  # type: ignore[attr-defined]

    (end,) = [f for f in await _session_facts(parley, session_id) if "ended" in f.type]
    assert end.value["local_audio_ms"] > 1_000
    assert end.value["usage"]["output_audio_tokens"] == 0


async def _session_facts(parley: RunningParley, session_id: str) -> list[Told]:
    """Return the facts of a session, its end among them."""

    async def found() -> list[Told]:
        return await parley.facts("parley.session.events", session_id=session_id)

    async def is_ended() -> bool:
        return any("ended" in fact.type for fact in await found())

    await until(is_ended, 30, "the fact of its end")
    return await found()
