"""Strangers at the edge: stolen, replayed and foreign tokens, keys and origins, tricks with paths and headers, floods."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import AsyncExitStack

import pytest
from websockets.exceptions import InvalidStatus

from fakes.session_service import FakeSessionService
from harness.waiting import until
from parley_common.contracts.audio_link import Error, Hangup, Open, Ping, Ready, pack_uplink
from parley_gateway.admission import AdmissionLimits
from parley_gateway.clients.flow import FlowLimits
from parley_gateway.token_access import ApiKey, TokenAccess
from unit.gateway.world import PATIENT, World, running_gateway

SECRET = "9b1f0c5d7e"
SITE, EVIL = "https://www.example.com", "https://evil.example.com"
ACCESS = TokenAccess(
    business_origins={"cap": (SITE,)},
    api_keys=(ApiKey("cap", "crm", hashlib.sha256(SECRET.encode()).hexdigest()),),
    is_open=False,
)


async def refusal(world: World, opening: Open, **options: object) -> tuple[str, int]:
    async with world.caller(**options) as caller:
        await caller.say(opening)
        return await caller.refused()


async def test_in_production_only_a_key_or_an_allowed_site_gets_a_token_and_only_for_its_business() -> None:
    async with FakeSessionService() as service, running_gateway(service, access=ACCESS) as world:
        asked = [
            ("cap", {}, 401, "unauthorized"),
            ("cap", {"authorization": f"Bearer {SECRET}"}, 200, None),
            ("oak", {"authorization": f"Bearer {SECRET}"}, 401, "api_key_invalid"),
            ("cap", {"authorization": "Bearer guessed", "origin": SITE}, 401, "api_key_invalid"),
            ("cap", {"origin": SITE}, 200, None),
            ("oak", {"origin": SITE}, 403, "origin_not_allowed"),
            ("cap", {"origin": EVIL}, 403, "origin_not_allowed"),
            ("cap", {"origin": "https://[::1"}, 403, "origin_not_allowed"),
        ]
        async with world.http() as http:
            for business, headers, status, code in asked:
                answer = await http.post("/v1/tokens", json={"business": business}, headers=headers)
                assert answer.status_code == status, (business, headers)
                assert answer.json().get("error", {}).get("code") == code


async def test_a_token_of_a_page_opens_a_session_from_its_own_site_only() -> None:
    async with FakeSessionService() as service, running_gateway(service, access=ACCESS) as world:
        async with world.http() as http:
            answer = await http.post("/v1/tokens", json={"business": "cap"}, headers={"origin": SITE})
        token = answer.json()["token"]
        assert await refusal(world, Open(token=token), origin=EVIL) == ("origin_not_allowed", 1008)
        assert service.attach_count == 0
        async with world.caller(origin=SITE) as caller:
            await caller.say(Open(token=token))
            await caller.expect(Ready)


async def test_a_resume_token_of_one_session_opens_no_other_and_a_replayed_open_token_none() -> None:
    async with FakeSessionService() as service, running_gateway(service, timing=PATIENT) as world:
        token = world.token()
        async with world.caller() as first, world.session() as (second, _):
            await first.say(Open(token=token))
            ready = await first.expect(Ready)
            assert await refusal(world, Open(token=token)) == ("token_used", 1008)
            assert await refusal(world, Open(token=ready.resume)) == ("token_invalid", 1008)
            async with world.caller() as again:
                await again.say(Open(resume=ready.resume))
                assert (await again.expect(Ready)).session == ready.session
                await again.say(Hangup())
                await again.closed()
            await second.say(Ping())


@pytest.mark.parametrize(
    "path",
    [
        "/v1/audio/",
        "/v1/audio/../audio",
        "/v1/%61udio/..",
        "//v1/audio",
        "/v1/link",
        "/metrics",
        "/v1/tokens",
        "/../../etc/passwd",
        "/v1/audio%00",
    ],
)
async def test_no_other_path_takes_a_socket(path: str) -> None:
    async with FakeSessionService() as service, running_gateway(service) as world:
        with pytest.raises((InvalidStatus, ValueError)) as caught:
            async with world.caller(path=path) as caller:
                await caller.next()
        if isinstance(caught.value, InvalidStatus):
            assert caught.value.response.status_code in {403, 404, 400}
        assert world.gateway.admission.sockets_count == 0


SPLIT_HEADER = (
    b"GET /v1/audio HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: parley.v1\rX-Injected: 1\r\n\r\n"
)
TWO_LENGTHS = (
    b"POST /v1/tokens HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"0\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n"
)
HOSTILE_REQUESTS = {
    "a header split by a bare CR": SPLIT_HEADER,
    "two lengths": TWO_LENGTHS,
    "a huge header": b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
    "a null in the path": b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.mark.parametrize("request_bytes", HOSTILE_REQUESTS.values(), ids=HOSTILE_REQUESTS)
async def test_a_hostile_request_is_refused_and_the_gateway_serves_on(request_bytes: bytes) -> None:
    async with FakeSessionService() as service, running_gateway(service) as world:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        writer.write(request_bytes)
        writer.write_eof()
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
        head = answer.partition(b"\r\n\r\n")[0].lower()
        assert b"x-injected" not in head
        assert b"101 switching" not in head
        assert b"python_gc" not in answer, "no second request was smuggled in"
        async with world.session():
            pass


@pytest.mark.parametrize(
    "value", ["ws://evil.example.com/\r\nSet-Cookie: a=b", "a\nb", "voice.example.com\x00"]
)
async def test_no_header_of_a_request_becomes_one_of_the_answer(value: str) -> None:
    async with FakeSessionService() as service, running_gateway(service) as world:
        body = b'{"business":"cap"}'
        head = (
            f"POST /v1/tokens HTTP/1.1\r\nHost: {value}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        writer.write(head.encode() + body)
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
        assert b"set-cookie" not in answer.partition(b"\r\n\r\n")[0].lower()


async def test_a_client_that_floods_is_told_and_closed() -> None:
    flow = FlowLimits(bytes_per_s=5_000, messages_per_s=0)
    async with (
        FakeSessionService() as service,
        running_gateway(service, timing=PATIENT, flow=flow) as world,
        world.session() as (caller, link),
    ):
        for number in range(200):
            await caller.send(pack_uplink(number * 480, bytes(960)))
        assert await caller.refused() == ("too_fast", 1013)
        assert await link.closed() == 4001
        assert len(link.frames) < 200


async def test_a_client_that_chatters_is_told_and_closed() -> None:
    flow = FlowLimits(bytes_per_s=0, messages_per_s=2)
    async with (
        FakeSessionService() as service,
        running_gateway(service, timing=PATIENT, flow=flow) as world,
        world.session() as (caller, _),
    ):
        for _ in range(100):
            await caller.say(Ping())
        assert await caller.refused() == ("too_fast", 1013)


async def test_three_hundred_sockets_that_open_nothing_are_bounded_and_a_caller_gets_in_after_them() -> None:
    limits = AdmissionLimits(sessions_max=20, address_opens_per_minute=0)
    async with FakeSessionService() as service, running_gateway(service, limits=limits) as world:
        highest = 0
        async with AsyncExitStack() as stack:
            for _ in range(300):
                caller = await stack.enter_async_context(world.caller())
                highest = max(highest, world.gateway.admission.sockets_count)
                if world.gateway.admission.sockets_count >= limits.sockets_max:
                    error = await caller.expect(Error)
                    assert error.code in {"full", "open_timeout"}
        assert 0 < highest <= limits.sockets_max
        await until(lambda: not world.gateway.admission.sockets_count, 20, "the slow sockets to be gone")
        async with world.session():
            assert service.attach_count == 1
