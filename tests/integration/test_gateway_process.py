"""The gateway as a real process: it starts without anyone, traces a session, drains on SIGTERM, refuses bad settings."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from fakes.session_service import FakeSessionService
from harness.otlp import OtlpCollector
from harness.processes import Proc, Processes
from harness.waiting import until
from parley_common.contracts.audio_link import SUBPROTOCOL, Error, Notice, Open, Ready
from unit.gateway.world import Caller

GATEWAY = [sys.executable, "-m", "parley_gateway.app"]
TRACE_ID, CLIENT_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
BUSINESS = """\
name: cap
title: Cap Lending
fictional: true
agent:
  name: Cap
"""


@pytest.fixture
def businesses(tmp_path: Path) -> Path:
    folder = tmp_path / "businesses" / "cap"
    folder.mkdir(parents=True)
    (folder / "business.yaml").write_text(BUSINESS)
    (folder / "prompt.md").write_text("You are Cap. Be brief.")
    return folder.parent


Start = Callable[..., tuple[Proc, str]]


@pytest.fixture
def start(processes: Processes, port: Callable[[], int], businesses: Path) -> Start:
    """``start(service_url, **settings)``: a gateway process and its base URL."""

    def start_one(service_url: str, **env: str) -> tuple[Proc, str]:
        number = env.pop("GATEWAY_PORT", None) or str(port())
        settings = {
            "GATEWAY_PORT": number,
            "GATEWAY_SESSION_SERVICES": service_url,
            "PARLEY_BUSINESSES_DIR": str(businesses),
            "GATEWAY_DRAIN_GRACE_S": "0.5",
            **env,
        }
        return processes.start(GATEWAY, name="gateway", env=settings), f"http://127.0.0.1:{number}"

    return start_one


async def token_of(url: str) -> tuple[str, str]:
    async with httpx.AsyncClient(trust_env=False) as http:
        body = (await http.post(f"{url}/v1/tokens", json={"business": "cap"})).json()
    return body["token"], body["url"]


def dial(url: str) -> connect:
    return connect(url, subprotocols=[Subprotocol(SUBPROTOCOL)], compression=None, proxy=None)


async def test_a_session_is_one_trace_whose_root_is_exported_as_soon_as_it_is_ready(
    start: Start, otlp: OtlpCollector
) -> None:
    async with FakeSessionService() as service:
        proc, url = start(service.url, OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url)
        await proc.wait_ready(f"{url}/readyz")
        token, audio_url = await token_of(url)
        async with dial(audio_url) as socket:
            caller = Caller(socket)
            await caller.say(Open(token=token, traceparent=f"00-{TRACE_ID}-{CLIENT_SPAN}-01"))
            ready = await caller.expect(Ready)
            await until(lambda: otlp.spans(name="session.open"), why="the root span, while the session runs")
            (root,) = otlp.spans(name="session.open")
            assert (root.trace_id, root.parent_id, root.service) == (TRACE_ID, CLIENT_SPAN, "parley-gateway")
            assert root.attributes["parley.session_id"] == ready.session
            assert service.link.attach.traceparent == f"00-{TRACE_ID}-{root.span_id}-01"
        assert await service.link.closed() == 4000
        assert await proc.terminate() == 0
        log = proc.log()
        assert "session.opened" in log
        assert "session.ended" in log
        assert "127.0.0.1" not in log
        assert token not in log


async def test_it_waits_for_a_session_service_and_says_so(start: Start, port: Callable[[], int]) -> None:
    service = FakeSessionService(port=port())
    proc, url = start(service.url)
    await proc.wait_ready(f"{url}/healthz")
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"{url}/readyz")
    assert (answer.status_code, list(answer.json()["waiting_for"])) == (503, ["session_service"])
    async with service:
        await proc.wait_ready(f"{url}/readyz", deadline_s=5)


async def test_sigterm_asks_clients_to_move_and_ends_within_the_grace(start: Start) -> None:
    async with FakeSessionService() as service:
        proc, url = start(service.url)
        await proc.wait_ready(f"{url}/readyz")
        token, audio_url = await token_of(url)
        async with dial(audio_url) as socket:
            caller = Caller(socket)
            await caller.say(Open(token=token))
            await caller.expect(Ready)
            proc._popen.terminate()
            assert (await caller.expect(Notice)).code == "move"
            async with httpx.AsyncClient(trust_env=False) as http:
                assert (await http.get(f"{url}/readyz")).json()["waiting_for"].keys() == {"draining"}
                assert (await http.post(f"{url}/v1/tokens", json={"business": "cap"})).status_code == 503
            assert (await caller.expect(Error)).code == "draining"
            assert await caller.closed() == 1012
        assert await service.link.closed() == 4002
        assert await proc.wait_exit(5) == 0


async def test_a_taken_port_ends_it_with_one_line_that_names_the_setting(start: Start) -> None:
    async with FakeSessionService() as service:
        proc, _ = start(service.url, GATEWAY_PORT=str(service.port))
        assert await proc.wait_exit() == 78
        assert "GATEWAY_PORT" in proc.log().splitlines()[-1]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("GATEWAY_TOKEN_KEYS", "name:short"),
        ("GATEWAY_SESSION_SERVICES", "http://localhost"),
        ("GATEWAY_SESSIONS_MAX", "none"),
        ("GATEWAY_SESSION_MAX", "3"),
        ("PARLEY_BUSINESSES_DIR", "/nowhere"),
    ],
)
async def test_a_wrong_setting_ends_it_with_one_line_that_names_it(
    start: Start, variable: str, value: str
) -> None:
    proc, _ = start("ws://127.0.0.1:1", **{variable: value})
    assert await proc.wait_exit() == 78
    (line,) = proc.log().splitlines()
    assert variable in line
