"""The understudy's port: who is let in and how others are turned away, plain HTTP, pings, expiry, and its end."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from contract.ga_types import faults
from contract.understudy_running import DEADLINE_S, talk, understudy
from harness.waiting import until
from parley_common.audio import silence, write_text_tag
from parley_common.clock import ScaledClock
from parley_common.errors import ConfigInvalid
from parley_understudy.light_voice import speech_like
from parley_understudy.server import serve
from parley_understudy.settings import Settings

KEY = {"Authorization": "Bearer any"}


async def received(socket: ClientConnection) -> tuple[list[dict[str, Any]], int | None, str | None]:
    """Receive until the server closes; return the events, the close code and its reason."""
    events = []
    async with asyncio.timeout(DEADLINE_S):
        try:
            while True:
                events.append(json.loads(await socket.recv()))
        except ConnectionClosed:
            return events, socket.close_code, socket.close_reason


@pytest.mark.parametrize(
    ("query", "headers", "code", "reason", "error_code"),
    [
        ("?model=gpt-realtime", {}, 3000, "invalid_request_error", None),
        (
            "?model=gpt-realtime",
            {"Authorization": "Bearer invalid"},
            3000,
            "invalid_request_error.invalid_api_key",
            "invalid_api_key",
        ),
        ("?model=gpt-nope", KEY, 4000, "invalid_request_error.invalid_model", "invalid_model"),
        ("", KEY, 4000, "invalid_request_error.missing_model", "missing_model"),
        (
            "?model=gpt-realtime",
            {**KEY, "OpenAI-Beta": "realtime=v1"},
            4000,
            "invalid_request_error.beta_api_shape_disabled",
            "beta_api_shape_disabled",
        ),
    ],
)
async def test_a_client_that_may_not_come_in_is_told_why_after_the_handshake(
    query: str, headers: dict[str, str], code: int, reason: str, error_code: str | None
) -> None:
    async with understudy() as running, connect(running.url + query, additional_headers=headers) as socket:
        events, close_code, close_reason = await received(socket)

    assert [event["error"]["code"] for event in events] == [error_code]
    assert faults(events) == []
    assert (close_code, close_reason) == (code, reason)


@pytest.mark.parametrize(
    "credentials",
    [
        {"additional_headers": KEY},
        {"additional_headers": {"api-key": "any"}},
        {"subprotocols": ["realtime", "openai-insecure-api-key.any"]},
    ],
)
async def test_any_key_opens_a_session_however_it_is_shown(credentials: dict[str, Any]) -> None:
    async with understudy() as running, connect(f"{running.url}?model=gpt-realtime", **credentials) as socket:
        created = json.loads(await socket.recv())
        assert created["type"] == "session.created"
        assert socket.subprotocol == ("realtime" if "subprotocols" in credentials else None)


async def test_frames_that_are_no_events_are_refused_and_the_session_goes_on() -> None:
    async with (
        understudy() as running,
        connect(f"{running.url}?model=gpt-realtime", additional_headers=KEY) as socket,
    ):
        for frame in (b"\x00\x01", "{not json", "[" * 5000, "12", '{"type": "nope"}', '"\\ud800"'):
            await socket.send(frame)
        await socket.send('{"type": "session.close"}')
        events, code, _ = await received(socket)

    codes = [event["error"]["code"] for event in events[1:]]
    assert codes == [
        "invalid_event",
        "invalid_json",
        "invalid_json",
        "invalid_event",
        "invalid_value",
        "invalid_json",
    ]
    assert faults(events) == []
    assert code == 1000


async def test_a_session_ends_when_it_has_lasted_its_longest() -> None:
    clock = ScaledClock(3600)
    async with (
        understudy(clock=clock) as running,
        connect(f"{running.url}?model=gpt-realtime", additional_headers=KEY) as socket,
    ):
        events, code, reason = await received(socket)

    assert events[-1]["error"]["code"] == "session_expired"
    assert (code, reason) == (1001, "Your session hit the maximum duration of 60 minutes.")
    assert events[0]["session"]["expires_at"] - clock.now().timestamp() <= 3600


async def test_clients_are_pinged_with_four_bytes_and_one_that_does_not_answer_is_dropped() -> None:
    pings: list[bytes] = []

    class Watched(ClientConnection):
        def process_event(self, event: Any) -> None:
            if getattr(getattr(event, "opcode", None), "name", "") == "PING":
                pings.append(bytes(event.data))
            super().process_event(event)

    async with (
        understudy(clock=ScaledClock(200)) as running,
        connect(
            f"{running.url}?model=gpt-realtime", additional_headers=KEY, create_connection=Watched
        ) as socket,
    ):
        await until(lambda: len(pings) >= 2, why="two pings")
        assert {len(ping) for ping in pings} == {4}
        assert socket.close_code is None


async def test_the_callers_script_is_what_the_next_turns_are_taken_to_say() -> None:
    async with (
        understudy() as running,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{running.port}") as http,
    ):
        left = await http.post("/control/script", json={"lines": ["First line.", "Second line."]})
        assert left.json() == {"lines_left": 2}
        tagged = write_text_tag(speech_like("Not this.", "x", 1.0), "Nor this.")
        async with talk(running) as conversation:
            for expected in ("First line.", "Second line.", "Nor this."):
                await conversation.microphone(silence(600) + tagged + silence(900), speed=30)
                done = await conversation.until("response.done")
                said = done["response"]["output"][0]["content"][0]["transcript"]
                assert said == f"You said: {expected}"


async def test_health_readiness_and_metrics_are_answered_over_plain_http() -> None:
    async with (
        understudy() as running,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{running.port}") as http,
    ):
        assert (await http.get("/healthz")).json() == {"status": "ok"}
        ready = await http.get("/readyz")
        assert (ready.status_code, ready.json()["mode"]) == (200, "light")
        assert "light" in ready.json()["light_because"]
        async with talk(running):
            assert "understudy_sessions 1\n" in (await http.get("/metrics")).text


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nowhere", b"", 404),
        ("POST", "/healthz", b"", 405),
        ("POST", "/control/script", b"{", 400),
        ("POST", "/control/script", b'{"lines": [1]}', 400),
        ("POST", "/control/script", b"[" * 3000, 400),
        ("PUT", "/control/script", b"", 405),
        ("POST", "/control/script", b"x" * 300_000, 413),
        ("DELETE", "/control/script", b"", 200),
        ("POST", "/control/script?line=one&line=two", b"", 200),
    ],
)
async def test_wrong_requests_get_a_clear_answer(method: str, path: str, body: bytes, status: int) -> None:
    async with (
        understudy() as running,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{running.port}") as http,
    ):
        answer = await http.request(method, path, content=body)
        assert answer.status_code == status
        assert (await http.get("/healthz")).status_code == 200


@pytest.mark.parametrize("garbage", [b"\r\n\r\n", b"GET\r\n\r\n", b"\xff" * 100 + b"\r\n\r\n", b"x" * 20_000])
async def test_garbage_on_the_port_harms_no_one(garbage: bytes) -> None:
    async with understudy() as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(garbage)
        async with asyncio.timeout(DEADLINE_S):
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 4")
        writer.close()
        await writer.wait_closed()
        async with talk(running):
            pass


async def test_stopping_the_server_closes_open_sessions() -> None:
    async with understudy() as running:
        socket = await connect(f"{running.url}?model=gpt-realtime", additional_headers=KEY)
    _, code, _ = await received(socket)
    assert code == 1001


async def test_more_sessions_than_allowed_are_sent_away() -> None:
    async with (
        understudy(sessions_max=1) as running,
        talk(running),
        connect(f"{running.url}?model=gpt-realtime", additional_headers=KEY) as second,
    ):
        assert (await received(second))[1] == 1013


async def test_a_brain_that_breaks_fails_its_response_and_nothing_else() -> None:
    def broken(_view: object) -> Any:
        raise ZeroDivisionError

    async with understudy(brain=broken) as running, talk(running) as conversation:
        await conversation.connection.response.create()
        done = await conversation.until("response.done")
        assert done["response"]["status"] == "failed"
        assert done["response"]["usage"]["total_tokens"] == 0
        await conversation.connection.session.update(session={"type": "realtime", "instructions": "Go on."})
        await conversation.until("session.updated")


async def test_a_port_that_is_taken_is_a_clear_error() -> None:
    async with understudy() as running:
        taken = Settings(port=running.port, light=True)
        with pytest.raises(ConfigInvalid, match=rf"UNDERSTUDY_PORT.*{running.port}"):
            await serve(taken, stop=asyncio.Event())
