"""The gateway as a real process: it starts without anyone, traces a session, drains on SIGTERM, refuses bad settings."""

from __future__ import annotations

import hashlib
import shutil
import sys
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from fakes.session_service import FakeSessionService
from harness.otlp import OtlpCollector
from harness.processes import Proc, Processes
from harness.waiting import until
from parley_common.contracts.audio_link import SUBPROTOCOL, Notice, Open, Ready
from parley_common.contracts.operations import UsageReport
from parley_common.contracts.record import Record, to_json
from parley_common.contracts.topics import USAGE
from parley_common.kafka import Publisher
from parley_common.settings import KafkaSettings
from parley_common.topic_admin import apply_topics
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
            assert (await caller.expect(Notice)).code == "move"
            assert await caller.closed() == 1012
        assert await service.link.closed() == 4002
        assert await proc.wait_exit(5) == 0


async def test_in_development_a_new_business_is_there_without_a_restart_and_one_that_goes_is_not(
    start: Start, businesses: Path
) -> None:
    async with FakeSessionService() as service, httpx.AsyncClient(trust_env=False) as http:
        proc, url = start(service.url)
        await proc.wait_ready(f"{url}/readyz")

        async def are(*names: str) -> bool:
            listed = (await http.get(f"{url}/v1/businesses")).json()
            return [each["name"] for each in listed] == sorted(names)

        assert await are("cap")
        (businesses / "spa").mkdir()
        (businesses / "spa" / "prompt.md").write_text("You are Spa. Be brief.")
        (businesses / "spa" / "business.yaml").write_text(
            BUSINESS.replace("cap", "spa").replace("Cap", "Spa")
        )
        await until(lambda: are("cap", "spa"), 30, why="the new business")
        assert (await http.post(f"{url}/v1/tokens", json={"business": "spa"})).status_code == 200
        shutil.rmtree(businesses / "cap")
        await until(lambda: are("spa"), 30, why="the old one to go")
        assert (await http.post(f"{url}/v1/tokens", json={"business": "cap"})).status_code == 404


async def test_a_limited_business_is_served_without_kafka_and_held_to_its_limit(
    start: Start, port: Callable[[], int], businesses: Path
) -> None:
    (businesses / "cap" / "business.yaml").write_text(f"{BUSINESS}limits:\n  sessions_max: 1\n")
    async with FakeSessionService() as service:
        proc, url = start(service.url, KAFKA_BOOTSTRAP_SERVERS=f"127.0.0.1:{port()}")
        await proc.wait_ready(f"{url}/readyz")
        (token, audio_url), (second, _) = await token_of(url), await token_of(url)
        async with dial(audio_url) as socket:
            caller = Caller(socket)
            await caller.say(Open(token=token))
            await caller.expect(Ready)
            async with dial(audio_url) as other:
                refused = Caller(other)
                await refused.say(Open(token=second))
                assert await refused.refused() == ("business_full", 1013)
        assert await proc.terminate() == 0


async def test_what_session_replicas_tell_on_kafka_fills_a_business(
    start: Start, businesses: Path, bootstrap_servers: str
) -> None:
    name = f"cap-{uuid.uuid4().hex[:8]}"
    (businesses / name).mkdir()
    (businesses / name / "prompt.md").write_text("You are Cap. Be brief.")
    text = BUSINESS.replace("name: cap", f"name: {name}")
    (businesses / name / "business.yaml").write_text(f"{text}limits:\n  sessions_max: 7\n")
    settings = KafkaSettings(bootstrap_servers=bootstrap_servers)
    await apply_topics(settings)
    writer = Publisher(settings, client_id="test")
    await writer.start()
    statuses: list[int] = []

    async def refused() -> bool:
        now = datetime.now(UTC)
        report = UsageReport(replica="session-7", business=name, at=now, sessions=7, day=now.date())
        await writer.publish(Record(USAGE.name, report.key.encode(), to_json(report), ()))
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.post(f"{url}/v1/tokens", json={"business": name})
        statuses.append(answer.status_code)
        return answer.status_code == 429

    async with FakeSessionService() as service:
        proc, url = start(service.url, KAFKA_BOOTSTRAP_SERVERS=bootstrap_servers)
        await proc.wait_ready(f"{url}/readyz")
        await until(refused, 20, "the gateway to hear of what runs elsewhere")
        assert set(statuses) <= {200, 429}
        assert await proc.terminate() == 0
    await writer.aclose()


async def test_in_production_a_token_needs_a_key_or_an_allowed_site(start: Start) -> None:
    async with FakeSessionService() as service:
        proc, url = start(
            service.url,
            PARLEY_ENVIRONMENT="production",
            PARLEY_INTERNAL_TOKEN="between-our-services",
            GATEWAY_TOKEN_KEYS="june:0123456789abcdef0123456789abcdef",
            GATEWAY_API_KEYS=f"cap:crm:{hashlib.sha256(b'a key').hexdigest()}",
        )
        await proc.wait_ready(f"{url}/readyz")
        async with httpx.AsyncClient(trust_env=False) as http:
            for headers, status in (({}, 401), ({"authorization": "Bearer a key"}, 200)):
                answer = await http.post(f"{url}/v1/tokens", json={"business": "cap"}, headers=headers)
                assert answer.status_code == status
        assert await proc.terminate() == 0


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
        ("GATEWAY_API_KEYS", "cap:crm:plain"),
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
