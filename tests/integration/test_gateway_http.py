"""The gateway's HTTP: tokens, businesses, the page, and errors of one shape."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from fakes.session_service import FakeSessionService
from harness.waiting import until
from parley_common.contracts.audio_link import Open, Ready
from parley_gateway.admission import AdmissionLimits
from parley_gateway.web_files import WIDGET_MODULES
from unit.gateway.world import running_gateway


def error_of(answer: httpx.Response) -> tuple[int, dict[str, Any]]:
    body = answer.json()
    assert list(body) == ["error"], body
    assert {"code", "message"} <= set(body["error"]) <= {"code", "message", "remedy", "retry_after_s"}
    return answer.status_code, body["error"]


async def test_a_token_opens_a_session_at_the_url_it_came_with() -> None:
    async with FakeSessionService() as service, running_gateway(service) as world, world.http() as http:
        answer = await http.post("/v1/tokens", json={"business": "cap"})
        body = answer.json()
        assert answer.status_code == 200
        assert (body["expires_in_s"], body["url"]) == (60, world.audio_url)
        assert body["facts_token"] is None, "nobody watches facts unless the process shows them"
        async with world.caller() as caller:
            await caller.say(Open(token=body["token"]))
            assert (await caller.expect(Ready)).session == body["session_id"]


async def test_a_public_url_replaces_the_one_that_was_asked() -> None:
    async with (
        FakeSessionService() as service,
        running_gateway(service, public_url="wss://voice.example.com/") as world,
        world.http() as http,
    ):
        answer = await http.post("/v1/tokens", json={"business": "cap"})
        assert answer.json()["url"] == "wss://voice.example.com/v1/audio"


async def test_a_token_carries_mode_and_channel() -> None:
    async with FakeSessionService() as service, running_gateway(service) as world, world.http() as http:
        answer = await http.post("/v1/tokens", json={"business": "oak", "mode": "text", "channel": "cli"})
        grant = world.gateway.tokens.verify(answer.json()["token"], world.gateway.clock.now())
        assert (grant.business, grant.mode, grant.channel) == ("oak", "text", "cli")


@pytest.mark.parametrize("business", ["elm", "", "../cap", "Cap", "cap\n", "<script>"])
async def test_an_unknown_business_is_not_found(business: str) -> None:
    async with FakeSessionService() as service, running_gateway(service) as world, world.http() as http:
        status, error = error_of(await http.post("/v1/tokens", json={"business": business}))
        assert (status, error["code"]) == (404, "unknown_business")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"business": 7}',
        b'{"mode": "text"}',
        b'{"business": "cap", "mode": "telepathy"}',
        b'{"business": "cap", "channel": "pigeon"}',
        b'{"business": "' + b"x" * 200 + b'"}',
        b"\xff\xfe",
    ],
)
async def test_a_body_that_asks_for_nothing_is_an_invalid_request(content: bytes) -> None:
    headers = {"content-type": "application/json"}
    async with FakeSessionService() as service, running_gateway(service) as world, world.http() as http:
        status, error = error_of(await http.post("/v1/tokens", content=content, headers=headers))
        assert (status, error["code"]) == (400, "invalid_request")
        assert len(error["message"]) < 300


async def test_a_huge_body_is_refused_while_it_comes_in() -> None:
    async def endless() -> Any:
        for _ in range(1_000):
            yield b" " * 1_000

    async with FakeSessionService() as service, running_gateway(service) as world, world.http() as http:
        for content in (b"x" * 20_000, endless()):
            status, error = error_of(await http.post("/v1/tokens", content=content))
            assert (status, error["code"]) == (413, "body_too_large")


async def test_an_address_that_asks_too_often_is_told_when_to_come_back() -> None:
    limits = AdmissionLimits(sessions_max=10, address_opens_per_minute=2)
    async with (
        FakeSessionService() as service,
        running_gateway(service, limits=limits) as world,
        world.http() as http,
    ):
        for _ in range(2):
            assert (await http.post("/v1/tokens", json={"business": "cap"})).status_code == 200
        answer = await http.post("/v1/tokens", json={"business": "cap"})
        status, error = error_of(answer)
        assert (status, error["code"]) == (429, "too_many_opens")
        assert int(answer.headers["retry-after"]) == error["retry_after_s"] > 0


async def test_a_full_gateway_issues_no_tokens() -> None:
    limits = AdmissionLimits(sessions_max=1, address_opens_per_minute=0)
    async with (
        FakeSessionService() as service,
        running_gateway(service, limits=limits) as world,
        world.session(),
        world.http() as http,
    ):
        answer = await http.post("/v1/tokens", json={"business": "cap"})
        status, error = error_of(answer)
        assert (status, error["code"], answer.headers["retry-after"]) == (503, "full", "5")


async def test_without_a_session_service_there_are_no_tokens_and_readyz_says_why() -> None:
    async with running_gateway(urls=["ws://127.0.0.1:1"]) as world, world.http() as http:
        answer = await http.post("/v1/tokens", json={"business": "cap"})
        status, error = error_of(answer)
        assert (status, error["code"], answer.headers["retry-after"]) == (503, "service_unavailable", "2")
        ready = await http.get("/readyz")
        assert (ready.status_code, list(ready.json()["waiting_for"])) == (503, ["session_service"])
        assert (await http.get("/healthz")).status_code == 200


async def test_businesses_are_listed_by_name() -> None:
    async with FakeSessionService() as service, running_gateway(service) as world, world.http() as http:
        assert (await http.get("/v1/businesses")).json() == [
            {"name": "cap", "title": "Cap Lending", "callback": False},
            {"name": "oak", "title": "Oak Dental", "callback": False},
        ]


async def test_the_page_says_how_to_talk_and_may_load_nothing_but_its_own() -> None:
    async with FakeSessionService() as service, running_gateway(service) as world, world.http() as http:
        page = await http.get("/")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "parley talk --business cap" in page.text
        assert page.headers["content-security-policy"] == (
            "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; img-src 'self'; "
            "connect-src 'self' ws:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        assert page.headers["x-content-type-options"] == "nosniff"
        assert "microphone=(self)" in page.headers["permissions-policy"]
        assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|style=", page.text), "nothing inline"
        for link in re.findall(r'(?:href|src)="(/[^"]*)"', page.text):
            assert (await http.get(link)).status_code == 200, link


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/page.css", "text/css; charset=utf-8"),
        ("/page.js", "text/javascript; charset=utf-8"),
        ("/favicon.svg", "image/svg+xml"),
        *((f"/parley/{name}", "text/javascript; charset=utf-8") for name in WIDGET_MODULES),
    ],
)
async def test_each_file_has_its_type_and_is_sent_again_only_when_it_changed(
    path: str, content_type: str
) -> None:
    async with FakeSessionService() as service, running_gateway(service) as world, world.http() as http:
        answer = await http.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (200, content_type)
        assert answer.headers["cache-control"] == "no-cache"
        again = await http.get(path, headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        other = await http.get(path, headers={"if-none-match": '"of-another-version"'})
        assert other.content == answer.content
        is_for_any_site = answer.headers.get("access-control-allow-origin") == "*"
        assert is_for_any_site is path.startswith("/parley/")


async def test_a_page_of_another_site_gets_no_token() -> None:
    async with FakeSessionService() as service, running_gateway(service) as world, world.http() as http:
        for origin in ("https://evil.example.com", "null", f"{world.http_url}.example.com"):
            answer = await http.post("/v1/tokens", json={"business": "cap"}, headers={"origin": origin})
            status, error = error_of(answer)
            assert (status, error["code"]) == (403, "origin_not_allowed")
            assert answer.headers["access-control-allow-origin"] == "*", "the page may read why"
        own = await http.post("/v1/tokens", json={"business": "cap"}, headers={"origin": world.http_url})
        assert own.status_code == 200


async def test_a_page_of_an_allowed_site_gets_a_token_that_it_may_read_and_nothing_else() -> None:
    site = "https://www.example.com"
    async with (
        FakeSessionService() as service,
        running_gateway(service, allowed_origins=(site,)) as world,
        world.http() as http,
    ):
        asked = {"origin": site, "access-control-request-method": "POST"}
        ask = await http.options("/v1/tokens", headers=asked)
        assert (ask.status_code, ask.headers["access-control-allow-headers"]) == (204, "content-type")
        answer = await http.post("/v1/tokens", json={"business": "cap"}, headers={"origin": site})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "*")
        foreign = await http.post(
            "/v1/tokens", json={"business": "cap"}, headers={"origin": "https://www.example.org"}
        )
        assert foreign.status_code == 403
        for path in ("/metrics", "/readyz", "/v1/businesses", "/"):
            other = await http.get(path, headers={"origin": site})
            assert "access-control-allow-origin" not in other.headers, path


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/page.css/../../settings.py", 404, "not_found"),
        ("GET", "/%2e%2e/settings.py", 404, "not_found"),
        ("GET", "/parley/", 404, "not_found"),
        ("GET", "/parley/../index.html", 404, "not_found"),
        ("GET", "/parley/%2e%2e/page.js", 404, "not_found"),
        ("GET", "/v1/sessions/any/facts", 404, "not_found"),
        ("GET", "/v1/tokens", 405, "method_not_allowed"),
        ("DELETE", "/v1/businesses", 405, "method_not_allowed"),
        ("GET", "/v1/audio", 404, "not_found"),
    ],
)
async def test_what_is_not_there_has_the_same_shape_of_error(
    method: str, path: str, status: int, code: str
) -> None:
    async with FakeSessionService() as service, running_gateway(service) as world, world.http() as http:
        answer_status, error = error_of(await http.request(method, path))
        assert (answer_status, error["code"]) == (status, code)


async def test_metrics_tell_of_sessions_refusals_and_frames() -> None:
    async with FakeSessionService() as service, running_gateway(service) as world, world.http() as http:
        async with world.caller() as caller:
            await caller.say(Open(token="forged"))
            await caller.refused()
        async with world.session():
            assert "parley_gateway_sessions_count 1.0" in (await http.get("/metrics")).text
        await until(lambda: not world.gateway.sessions, why="the session to end")
        text = (await http.get("/metrics")).text
        assert 'parley_gateway_opens_refused_total{code="token_invalid"}' in text
        for name in (
            "link_open_ms_bucket",
            "slow_clients_total",
            "stale_frames_total",
        ):
            assert f"parley_gateway_{name}" in text
