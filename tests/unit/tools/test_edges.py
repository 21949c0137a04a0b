"""What comes in from Kafka, what goes to the catalog, what a search API may answer, what a setting may be."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.waiting import until
from parley_common.clock import ManualClock
from parley_common.contracts.record import Record, header_dict
from parley_common.contracts.tool_calls import Announcement
from parley_common.errors import ConfigInvalid, DependencyUnavailable
from parley_common.kafka import Incoming
from parley_common.settings import load_settings
from parley_tools.app import load_offer
from parley_tools.calls import Arrived
from parley_tools.catalog import Announcer
from parley_tools.consumer import Unreadable, read_call
from parley_tools.kits import KITS
from parley_tools.providers import HttpWebSearch
from parley_tools.registry import Registry
from parley_tools.settings import ToolsSettings
from unit.tools.world import CAP, Published

SENT = datetime(2026, 1, 5, 17, 0, tzinfo=UTC)
CALL: dict[str, Any] = {
    "call_id": "call-1",
    "session_id": "session-1",
    "business": "cap",
    "business_version": "1",
    "tool": "analyze_deal",
    "arguments": {"price_usd": 1},
    "deadline_ms": 4_000,
    "reply_partition": 3,
}


def record(value: bytes | None) -> Incoming:
    headers = (
        ("parley_reply_to", b"replica-a"),
        ("traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"),
    )
    return Incoming("calls", 0, 0, b"session-1", value, headers, int(SENT.timestamp() * 1000))


def test_a_call_is_read_with_who_asked_and_until_when_they_wait() -> None:
    arrived = read_call(record(json.dumps(CALL).encode()))
    assert isinstance(arrived, Arrived)
    assert (arrived.call.tool, arrived.reply_to) == ("analyze_deal", "replica-a")
    assert (arrived.answer_by - SENT).total_seconds() == 4
    assert arrived.traceparent is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"arguments": []},
        {"deadline_ms": 0},
        {"deadline_ms": None},
        {"fence": 2**31},
        {"attempt": 0},
        {"tool": None},
        {"arguments": {"note": "nul \u0000"}},
    ],
)
def test_what_is_no_call_can_be_answered_when_it_says_who_asked(changes: dict[str, Any]) -> None:
    read = read_call(record(json.dumps(CALL | changes).encode()))
    assert isinstance(read, Unreadable)
    assert read.key == ("session-1", "call-1")
    assert read.address is not None
    assert (read.address.partition, read.address.reply_to) == (3, "replica-a")


@pytest.mark.parametrize(
    "changes",
    [
        {"call_id": ""},
        {"call_id": "x" * 129},
        {"call_id": "two\nlines"},
        {"session_id": 7},
        {"reply_partition": 64},
        {"reply_partition": -1},
        {"reply_partition": True},
        {"reply_partition": None},
    ],
)
def test_what_cannot_be_answered_is_only_counted(changes: dict[str, Any]) -> None:
    read = read_call(record(json.dumps(CALL | changes).encode()))
    assert isinstance(read, Unreadable)
    assert (read.key, read.address) == (None, None)


@given(
    st.binary()
    | st.none()
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_no_bytes_break_the_reading(value: bytes | None) -> None:
    read_call(record(value))


async def test_an_instance_is_announced_every_five_seconds_and_taken_back_at_the_end() -> None:
    published = Published()
    specs = Registry.of_kits(KITS).specs()
    announcer = Announcer(published, ManualClock(), lambda: specs, service="tools", instance="tools-1")
    stop, states = asyncio.Event(), list[bool]()
    async with asyncio.TaskGroup() as group:
        group.create_task(announcer.run(stop, lambda is_ready, _: states.append(is_ready)))
        await until(lambda: len(published.records) == 1)
        stop.set()
    first, last = published.records
    said = Announcement.model_validate_json(first.value or b"")
    assert [spec.name for spec in said.tools] == sorted(spec.name for spec in specs)
    assert (first.key, last.key, last.value) == (b"tools/tools-1", b"tools/tools-1", None)
    assert header_dict(last.headers)["ce_type"] == "parley.tool.announcement.v1"
    assert states == [True]


async def test_a_catalog_that_cannot_be_written_is_said_and_does_not_end_the_service() -> None:
    states = list[tuple[bool, str]]()

    async def away(_: Record) -> None:
        raise DependencyUnavailable("no broker")

    announcer = Announcer(away, ManualClock(), lambda: (), service="tools", instance="tools-1")
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(announcer.run(stop, lambda is_ready, why: states.append((is_ready, why))))
        await until(lambda: states)
        stop.set()
    assert states == [(False, "no broker")]


def searching(answer: httpx.Response | Exception) -> tuple[HttpWebSearch, list[httpx.Request]]:
    asked: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    http = httpx.AsyncClient(transport=httpx.MockTransport(handle))
    headers = {"X-Subscription-Token": "key-1"}
    return HttpWebSearch(http, "https://search.example.com/v1", headers=headers, deadline_ms=500), asked


@pytest.mark.parametrize(
    "body",
    [
        {"results": [{"title": "A", "url": "https://example.com", "content": "Text"}, {"url": "no title"}]},
        {"web": {"results": [{"title": "A", "url": "https://example.com", "description": "Text"}]}},
    ],
)
async def test_a_search_reads_the_shapes_that_apis_answer_with(body: dict[str, Any]) -> None:
    search, asked = searching(httpx.Response(200, json=body))
    (hit,) = await search.find("austin & more", 3)
    assert (hit.title, hit.snippet) == ("A", "Text")
    assert asked[0].url.params["q"] == "austin & more"
    assert asked[0].headers["X-Subscription-Token"] == "key-1"


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(500),
        httpx.Response(429),
        httpx.Response(200, content=b"<html>"),
        httpx.Response(200, json=[1]),
        httpx.Response(200, json={"results": 7}),
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
    ],
)
async def test_a_search_that_fails_is_a_dependency_that_is_away(answer: httpx.Response | Exception) -> None:
    search, _ = searching(answer)
    with pytest.raises(DependencyUnavailable) as failure:
        await search.find("austin", 3)
    assert failure.value.stable_code == "provider_unavailable"
    assert "key-1" not in str(failure.value)


def test_every_tool_that_cap_names_is_there_and_its_data_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_BUSINESSES_DIR", str(CAP.parent))
    offer = load_offer(load_settings(ToolsSettings))
    assert set(offer.businesses["cap"].config.tools) <= set(offer.tools)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TOOLS_PORT", "0"),
        ("TOOLS_SERVICE", "Not A Name"),
        ("TOOLS_WEB_SEARCH_URL", "ftp://example.com"),
        ("TOOLS_NO_SUCH_THING", "1"),
        ("TOOLS_LEASE_S", "0"),
    ],
)
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigInvalid, match=variable):
        load_settings(ToolsSettings)


def test_production_does_not_start_with_private_addresses_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLS_ALLOW_PRIVATE_HTTP", "true")
    assert load_settings(ToolsSettings).allow_private_http
    monkeypatch.setenv("PARLEY_ENVIRONMENT", "production")
    monkeypatch.setenv("PARLEY_INTERNAL_TOKEN", "a-token-of-this-test-alone")
    with pytest.raises(ConfigInvalid, match="TOOLS_ALLOW_PRIVATE_HTTP"):
        load_settings(ToolsSettings)


def test_secrets_are_read_by_name_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLS_HTTP_SECRETS", '{"CRM_KEY": "hush"}')
    settings = load_settings(ToolsSettings)
    assert settings.http_secrets["CRM_KEY"].get_secret_value() == "hush"
    assert "hush" not in repr(settings)


def test_without_a_setting_the_database_is_a_file_in_the_state_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PARLEY_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("TOOLS_WEB_SEARCH_API_KEY", "key-1")
    settings = load_settings(ToolsSettings)
    assert settings.resolved_database_url() == f"sqlite+aiosqlite:///{tmp_path}/tools.db"
    assert "key-1" not in repr(settings)
