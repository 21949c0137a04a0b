"""Faults, faster clocks and other hosts over real sockets: what an unsuspecting client meets."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from openai import AsyncOpenAI
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError

from contract.ga_types import beta_faults, faults
from contract.understudy_running import DEADLINE_S, understudy
from harness.waiting import until
from parley_common.audio import silence
from parley_common.clock import ScaledClock
from parley_understudy.light_voice import speech_like
from parley_understudy.server import Running

KEY = {"Authorization": "Bearer any"}
STORY = {
    "type": "conversation.item.create",
    "item": {
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": "Tell me a story."}],
    },
}
CREATE = {"type": "response.create"}


def asked(*rules: dict[str, Any]) -> str:
    return f"&faults={quote(json.dumps(list(rules)))}"


@asynccontextmanager
async def client(
    running: Running, query: str = "", path: str = "/v1/realtime?model=gpt-realtime", **options: Any
) -> AsyncIterator[ClientConnection]:
    url = f"ws://127.0.0.1:{running.port}{path}{query}"
    async with connect(url, **{"additional_headers": KEY, **options}) as socket:
        yield socket


async def say(socket: ClientConnection, *events: dict[str, Any]) -> None:
    for event in events:
        await socket.send(json.dumps(event))


async def until_event(socket: ClientConnection, kind: str) -> dict[str, Any]:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            event: dict[str, Any] = json.loads(await socket.recv())
            if event["type"] == kind:
                return event


async def until_closed(socket: ClientConnection) -> tuple[list[str], ConnectionClosed]:
    frames = []
    async with asyncio.timeout(DEADLINE_S):
        try:
            while True:
                frames.append(str(await socket.recv()))
        except ConnectionClosed as closed:
            return frames, closed


async def test_the_connection_is_dropped_without_a_close_frame_in_mid_reply() -> None:
    rule = {"when": {"server": "response.output_audio.delta", "nth": 3}, "do": "drop"}
    async with understudy() as running, client(running, asked(rule)) as socket:
        await say(socket, STORY, CREATE)
        frames, closed = await until_closed(socket)
    assert isinstance(closed, ConnectionClosedError)
    assert closed.rcvd is None
    assert len([frame for frame in frames if '"response.output_audio.delta"' in frame]) <= 3


async def test_the_connection_is_closed_with_a_code_and_reason() -> None:
    rule = {
        "when": {"client": "response.create"},
        "do": {"close": {"code": 1013, "reason": "try again later"}},
    }
    async with understudy() as running, client(running, asked(rule)) as socket:
        await say(socket, CREATE)
        await until_closed(socket)
    assert (socket.close_code, socket.close_reason) == (1013, "try again later")


async def test_the_session_is_refused_after_101_as_with_a_bad_key() -> None:
    rule = {"when": "open", "do": {"refuse": "invalid_api_key"}}
    async with understudy() as running, client(running, asked(rule)) as socket:
        frames, _ = await until_closed(socket)
    assert [json.loads(frame)["error"]["code"] for frame in frames] == ["invalid_api_key"]
    assert (socket.close_code, socket.close_reason) == (3000, "invalid_request_error.invalid_api_key")


async def test_a_silent_server_answers_neither_events_nor_pings_and_its_socket_stays_open() -> None:
    rule = {"when": {"client": "response.create"}, "do": "silence"}
    async with (
        understudy() as running,
        client(running, asked(rule), ping_interval=0.2, ping_timeout=0.5, close_timeout=0.1) as socket,
    ):
        await until_event(socket, "session.created")
        assert await asyncio.wait_for(await socket.ping(), DEADLINE_S) >= 0
        await say(socket, CREATE)
        _, closed = await until_closed(socket)
        assert closed.rcvd is None, "the server never closed"
        assert closed.sent is not None
        assert closed.sent.code == 1011, "the client gave up"
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{running.port}") as http:
            assert (await http.get("/healthz")).status_code == 200


async def test_a_silent_session_ends_when_its_client_goes() -> None:
    rule = {"when": {"client": "response.create"}, "do": "silence"}
    async with (
        understudy() as running,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{running.port}") as http,
    ):
        async with client(running, asked(rule), close_timeout=0.1) as socket:
            await until_event(socket, "session.created")
            await say(socket, CREATE)
            await socket.send("{}")

        async def left() -> bool:
            return (await http.get("/control/faults")).json()["sessions"] == []

        await until(left, DEADLINE_S, "the session to end")


async def test_frames_that_are_no_json_reach_the_client_as_they_are() -> None:
    rule = {"when": {"server": "response.created"}, "do": "malformed"}
    async with understudy() as running, client(running, asked(rule)) as socket:
        await until_event(socket, "session.created")
        await say(socket, CREATE)
        async with asyncio.timeout(DEADLINE_S):
            frame = await socket.recv()
        with pytest.raises(json.JSONDecodeError):
            json.loads(frame)
        assert await until_event(socket, "response.created")


async def test_a_minutes_delay_is_over_in_an_instant_on_a_fast_clock_and_keeps_the_order() -> None:
    rule = {"when": {"server": "response.created"}, "do": {"delay_ms": 60_000}}
    async with understudy() as running, client(running, f"&time_scale=300{asked(rule)}") as socket:
        await say(socket, CREATE, {"type": "input_audio_buffer.clear"})
        order: list[str] = []
        async with asyncio.timeout(DEADLINE_S):
            while "response.done" not in order:
                order.append(json.loads(await socket.recv())["type"])
    assert order[:2] == ["session.created", "response.created"]
    assert "input_audio_buffer.cleared" in order


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("&faults=%5B%7B", "faults: not JSON"),
        (asked({"when": "open", "do": "dorp"}), "faults[0].do: 'dorp' is not known"),
        ("&time_scale=0", "time_scale: expected a number from 0.001 to 10000, got '0'"),
        ("&expiry_s=soon", "expiry_s: expected a number"),
        ("&dialect=alpha", "dialect: expected ga or beta"),
    ],
)
async def test_a_query_that_cannot_be_followed_is_refused_with_its_reason(query: str, says: str) -> None:
    async with understudy() as running, client(running, query) as socket:
        frames, _ = await until_closed(socket)
    (error,) = map(json.loads, frames)
    assert says in error["error"]["message"]
    assert socket.close_code == 4000


async def test_a_fault_that_is_far_off_holds_nothing_up() -> None:
    rule = {"when": {"at_ms": 80_000_000}, "do": "drop"}
    async with understudy() as running, client(running, asked(rule)) as socket:
        await say(socket, STORY, CREATE)
        assert (await until_event(socket, "response.done"))["response"]["status"] == "completed"
        assert await until_event(socket, "rate_limits.updated")


async def test_scripted_turns_are_taken_in_semantic_detection_too() -> None:
    async with (
        understudy() as running,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{running.port}") as http,
        client(running) as socket,
    ):
        await http.post("/control/script", json={"lines": ["Scripted words."]})
        turns = {"input": {"turn_detection": {"type": "semantic_vad"}}}
        await say(socket, {"type": "session.update", "session": {"type": "realtime", "audio": turns}})
        pcm = silence(300) + speech_like("Other words", "caller", 1.0) + silence(1_200)
        for at in range(0, len(pcm), 4_800):
            frame = base64.b64encode(pcm[at : at + 4_800]).decode()
            await say(socket, {"type": "input_audio_buffer.append", "audio": frame})
        done = await until_event(socket, "response.done")
        assert (await http.get("/control/script")).json() == {"lines_left": 0}
    assert done["response"]["output"][0]["content"][0]["transcript"] == "You said: Scripted words."


async def test_an_hour_is_a_second_on_a_fast_clock_and_ends_exactly_as_an_hour_does() -> None:
    async with understudy() as running, client(running, "&time_scale=3600") as socket:
        created = await until_event(socket, "session.created")
        frames, _ = await until_closed(socket)
    assert json.loads(frames[-1])["error"]["code"] == "session_expired"
    assert (socket.close_code, socket.close_reason) == (
        1001,
        "Your session hit the maximum duration of 60 minutes.",
    )
    assert created["session"]["expires_at"] > 0


async def test_all_sessions_live_faster_when_the_setting_says_so() -> None:
    async with understudy(time_scale=1000.0, expiry_s=100.0) as running, client(running) as socket:
        frames, _ = await until_closed(socket)
    assert json.loads(frames[-1])["error"]["code"] == "session_expired"


async def test_scripts_come_from_the_control_endpoint_for_the_next_connections_or_a_running_session() -> None:
    async with (
        understudy() as running,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{running.port}") as http,
    ):
        fail = [{"when": {"response": 1}, "do": {"fail": "insufficient_quota"}}]
        left = await http.post("/control/faults?connections=2", json=fail)
        assert left.json() == {"scripts_waiting": 1, "sessions": []}
        outcomes = []
        for _ in range(3):
            async with client(running) as socket:
                await say(socket, CREATE)
                outcomes.append((await until_event(socket, "response.done"))["response"]["status"])
        assert outcomes == ["failed", "failed", "completed"]

        async with client(running) as socket:
            session_id = (await until_event(socket, "session.created"))["session"]["id"]
            assert (await http.get("/control/faults")).json()["sessions"] == [session_id]
            strike = [{"when": {"at_ms": 0}, "do": {"close": 1012}}]
            assert (await http.post(f"/control/faults?session={session_id}", json=strike)).status_code == 200
            await until_closed(socket)
            assert socket.close_code == 1012
        assert (await http.post(f"/control/faults?session={session_id}", json=strike)).status_code == 404


async def test_a_waiting_script_can_be_taken_back() -> None:
    async with (
        understudy() as running,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{running.port}") as http,
    ):
        await http.post("/control/faults?connections=all", json=[{"when": "open", "do": "drop"}])
        async with client(running) as socket:
            await until_closed(socket)
        assert (await http.delete("/control/faults")).json()["scripts_waiting"] == 0
        async with client(running) as socket:
            assert await until_event(socket, "session.created")
            await say(socket, CREATE)
            assert await until_event(socket, "response.done")


@pytest.mark.parametrize(
    ("method", "query", "body", "status", "code"),
    [
        ("POST", "", b"[", 400, "invalid_faults"),
        ("POST", "", b'[{"when": "open", "do": "dorp"}]', 400, "invalid_faults"),
        ("POST", "?connections=0", b"[]", 400, "invalid_query"),
        ("POST", "?connections=some", b"[]", 400, "invalid_query"),
        ("POST", "?session=sess_no", b"[]", 404, "no_such_session"),
        ("PUT", "", b"[]", 405, "method_not_allowed"),
    ],
)
async def test_a_wrong_script_on_the_control_endpoint_gets_a_clear_answer(
    method: str, query: str, body: bytes, status: int, code: str
) -> None:
    async with (
        understudy() as running,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{running.port}") as http,
    ):
        answer = await http.request(method, f"/control/faults{query}", content=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert (await http.get("/control/faults")).json()["scripts_waiting"] == 0


async def test_the_official_client_reconnects_after_a_drop_and_goes_on() -> None:
    rule = {"when": {"client": "response.create"}, "do": "drop"}
    reconnects = []

    async with (
        understudy() as running,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{running.port}") as http,
        AsyncOpenAI(api_key="any", base_url=f"http://127.0.0.1:{running.port}/v1") as openai,
    ):
        await http.post("/control/faults", json=[rule])

        def on_reconnecting(event: Any) -> None:
            reconnects.append(event)

        async with openai.realtime.connect(
            model="gpt-realtime", on_reconnecting=on_reconnecting, initial_delay=0.01
        ) as connection:
            async with asyncio.timeout(DEADLINE_S):
                kinds: list[str] = []
                async for event in connection:
                    kinds.append(event.type)
                    if event.type == "session.created":
                        await connection.response.create()
                    if event.type == "response.done":
                        break
    assert len(reconnects) == 1
    assert kinds[:3] == ["session.created", "session.created", "response.created"]


async def test_azures_path_and_key_give_azures_dialect() -> None:
    path = "/openai/v1/realtime?model=my-deployment"
    async with (
        understudy() as running,
        client(running, path=path, additional_headers={"api-key": "any"}) as socket,
    ):
        await say(socket, STORY, CREATE)
        events = [json.loads(await socket.recv())]
        while events[-1]["type"] != "response.done":
            events.append(json.loads(await socket.recv()))
        session = events[0]["session"]
        events.append(await next_event_after_a_ping(socket))
    assert faults(events, azure=True) == []
    assert session["expires_at"] > 0
    assert events[-1]["type"] == "session.updated", "no rate limits came between"


async def next_event_after_a_ping(socket: ClientConnection) -> dict[str, Any]:
    await say(socket, {"type": "session.update", "session": {"type": "realtime"}})
    event: dict[str, Any] = json.loads(await socket.recv())
    return event


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (
            "/openai/realtime?api-version=2025-04-01-preview&deployment=gpt-4o-realtime-preview",
            {"api-key": "any"},
        ),
        ("/v1/realtime?model=gpt-4o-realtime-preview&dialect=beta", {**KEY, "OpenAI-Beta": "realtime=v1"}),
    ],
)
async def test_the_preview_endpoints_speak_beta(path: str, headers: dict[str, str]) -> None:
    async with understudy() as running, client(running, path=path, additional_headers=headers) as socket:
        await say(
            socket, {"type": "session.update", "session": {"modalities": ["text", "audio"], "voice": "echo"}}
        )
        await say(socket, STORY, CREATE)
        events = [json.loads(await socket.recv())]
        while events[-1]["type"] != "response.done":
            events.append(json.loads(await socket.recv()))
    assert beta_faults(events) == []
    assert {"response.audio.delta", "response.audio_transcript.done", "conversation.item.created"} <= {
        event["type"] for event in events
    }


async def test_a_beta_header_is_still_refused_where_the_beta_is_switched_off() -> None:
    headers = {**KEY, "OpenAI-Beta": "realtime=v1"}
    async with understudy() as running, client(running, additional_headers=headers) as socket:
        await until_closed(socket)
    assert socket.close_code == 4000


async def test_a_clock_of_the_tests_own_is_hastened_too() -> None:
    async with understudy(clock=ScaledClock(10)) as running, client(running, "&time_scale=360") as socket:
        await until_closed(socket)
    assert socket.close_code == 1001
