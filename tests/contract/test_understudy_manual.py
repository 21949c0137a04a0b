"""What docs/how-to/test-a-realtime-client.md shows works as it is shown."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect

from contract.understudy_running import DEADLINE_S, understudy
from parley_understudy.brain import decide
from parley_understudy.fault_plan import ACTS, read_plan

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "test-a-realtime-client.md").read_text(
    encoding="utf-8"
)
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
PRINTED = ["Hello! How can I help you today?", "dropped", "session.created"]
"""What the programs on the page print last, or first."""


def blocks(kind: str) -> list[str]:
    return [text for found, text in BLOCKS if found == kind]


async def printed(program: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


@pytest.mark.parametrize("number", range(len(blocks("python"))))
async def test_each_program_on_the_page_runs_and_prints_what_it_should(number: int) -> None:
    program = blocks("python")[number]
    async with understudy(brain=decide) as running:
        out = await printed(program.replace("8090", str(running.port)))
    assert PRINTED[number] in out.splitlines()
    if "FAULTS" in program:
        assert out.startswith("failed Rate limit reached")
        assert "Please try again in 1.5s." in out
    if "ManualClock" in program:
        assert out.splitlines()[-1] == "Your session hit the maximum duration of 60 minutes. 1001"


@pytest.mark.parametrize("script", blocks("json"))
def test_each_script_on_the_page_is_understood(script: str) -> None:
    assert read_plan(script).rules


async def test_each_request_on_the_page_is_answered() -> None:
    commands = [
        shlex.split(line) for text in blocks("sh") for line in text.splitlines() if line.startswith("curl")
    ]
    assert len(commands) >= 5
    async with understudy() as running, httpx.AsyncClient() as http:
        for _curl, _x, method, url, *rest in commands:
            content = rest[1] if rest else None
            answer = await http.request(method, url.replace("8090", str(running.port)), content=content)
            assert answer.status_code == 200, (url, answer.text)


@pytest.mark.parametrize("place", re.findall(r"`ws://127\.0\.0\.1:8090(/\S+?)`", PAGE))
async def test_each_address_on_the_page_opens_a_session(place: str) -> None:
    headers = {"api-key": "any"}
    async with understudy() as running:
        url = f"ws://127.0.0.1:{running.port}{place}"
        async with connect(url, additional_headers=headers) as socket, asyncio.timeout(DEADLINE_S):
            assert '"session.created"' in str(await socket.recv())


def test_every_act_is_on_the_page() -> None:
    table = PAGE.partition("### Do")[2].partition("### Examples")[0]
    assert [name for name in ACTS if f'"{name}"' not in table] == []


def test_the_page_has_programs_for_all_that_is_printed() -> None:
    assert len(blocks("python")) == len(PRINTED)
