"""`parley conform`: our gateway passes every check, and a gateway that does otherwise is told where."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest

from fakes.gateway import FakeGateway
from fakes.session_service import FakeSessionService
from harness.ports import free_port
from harness.processes import machine_environment
from parley_common.contracts.audio_link import Item, Text, pack_downlink
from parley_launcher import conformance
from parley_launcher.conformance import CHECKS, Verdict, Visit, judge
from unit.gateway.world import PATIENT, World, running_gateway

SPOKEN = "every frame is of an announced item and follows the one before"


async def conform(url: str, *more: str) -> tuple[int, str, str]:
    """Run the command to its end; return its exit code, stdout and stderr."""
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "parley_launcher",
        "conform",
        url,
        *more,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**machine_environment(), "COLUMNS": "200"},
    )
    async with asyncio.timeout(120):
        out, err = await running.communicate()
    assert running.returncode is not None
    return running.returncode, out.decode(), err.decode()


async def speak(world: World) -> None:
    """Let every agent that is typed to say two frames, the second of which follows the first."""
    done: set[int] = set()
    while True:
        for link in world.service.links:
            if id(link) not in done and Text("Hello.") in link.messages:
                done.add(id(link))
                await link.send(Item(1, "assistant", "begins"))
                await link.send_raw(pack_downlink(0, 1, 0, bytes(960)))
                await link.send_raw(pack_downlink(0, 1, 480, bytes(960)))
                await link.send(Item(1, "assistant", "ends", samples=960))
        await asyncio.sleep(0.05)


async def test_our_gateway_passes_every_check() -> None:
    async with (
        FakeSessionService() as service,
        running_gateway(service, timing=PATIENT) as world,
        asyncio.TaskGroup() as group,
    ):
        speaking = group.create_task(speak(world))
        code, out, err = await conform(f"ws://127.0.0.1:{world.port}", "--json")
        speaking.cancel()
    verdicts = [json.loads(line) for line in out.splitlines()]
    assert [v for v in verdicts if not v["good"]] == []
    assert (code, err, len(verdicts)) == (0, "", len(CHECKS))


async def verdicts_on(visit: Visit) -> dict[str, Verdict]:
    found: list[Verdict] = []
    await judge(visit, found.append)
    return {verdict.name: verdict for verdict in found}


async def test_a_gateway_that_does_otherwise_fails_where_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conformance, "ANSWER_WITHIN_S", 1.0)
    session = {"session_id": "0198c0de-0000-7000-8000-0000feedbeef"}
    async with FakeGateway.running(speed=100.0, token_body=session) as other:
        found = await verdicts_on(Visit(other.url, "cap"))
    good = {name for name, verdict in found.items() if verdict.is_good}
    assert {"a ping is answered", "a hang up is answered with ended and 1000", SPOKEN} <= good
    assert found["nothing opened is closed in time"] == Verdict(
        "nothing opened is closed in time", False, "no answer within 1 s"
    )
    assert (
        found["a token opens at most two sessions and is used then"].detail == "one token opened 4 sessions"
    )
    assert found["what is over is not resumed"].is_good is False


async def test_an_agent_that_says_nothing_is_nothing_to_see_and_not_a_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(conformance, "LISTEN_S", 0.3)
    check = conformance.every_frame_is_of_an_announced_item_and_follows_the_one_before
    monkeypatch.setattr(conformance, "CHECKS", (check,))
    async with FakeSessionService() as service, running_gateway(service, timing=PATIENT) as world:
        found = await verdicts_on(Visit(f"ws://127.0.0.1:{world.port}", "cap"))
    assert found[SPOKEN].is_good is None


async def test_where_nobody_listens_one_line_says_so() -> None:
    code, out, err = await conform(f"ws://127.0.0.1:{free_port()}")
    assert (code, out) == (1, "")
    assert "cannot reach the gateway" in err
