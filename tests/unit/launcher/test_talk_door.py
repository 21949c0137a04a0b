"""Getting in: addresses mean what people type, and every refusal has a code and a remedy."""

from __future__ import annotations

import pytest

from fakes.gateway import FakeGateway
from harness.ports import free_port
from parley_common.errors import ConfigInvalid, DependencyUnavailable, Overloaded, Permanent
from parley_launcher.talk.door import Door, door_of, get_ticket


@pytest.mark.parametrize(
    ("url", "tokens_url", "audio_url"),
    [
        ("ws://host:1/v1/audio", "http://host:1/v1/tokens", "ws://host:1/v1/audio"),
        ("wss://host/v1/audio", "https://host/v1/tokens", "wss://host/v1/audio"),
        ("ws://host:1", "http://host:1/v1/tokens", "ws://host:1/v1/audio"),
        ("wss://host/voice/v1/audio", "https://host/voice/v1/tokens", "wss://host/voice/v1/audio"),
        ("http://host:1", "http://host:1/v1/tokens", None),
        ("https://host/voice/", "https://host/voice/v1/tokens", None),
    ],
)
def test_an_address_names_the_token_endpoint_and_the_socket(
    url: str, tokens_url: str, audio_url: str | None
) -> None:
    assert door_of(url) == Door(tokens_url, audio_url)


@pytest.mark.parametrize("url", ["", "127.0.0.1:8080", "ftp://host/", "ws://", "gateway"])
def test_what_is_no_address_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(ConfigInvalid, match="ws://127"):
        door_of(url)


async def test_a_ticket_names_the_socket_that_the_gateway_names() -> None:
    async with FakeGateway.running(token_body={"url": "ws://elsewhere:1/v1/audio"}) as gateway:
        ticket = await get_ticket(gateway.url, "cap")

    assert (ticket.token, ticket.audio_url) == ("token-1", "ws://elsewhere:1/v1/audio")
    assert gateway.tokens_asked == ["cap"]


async def test_a_socket_that_was_asked_for_is_dialled_whatever_the_gateway_names() -> None:
    async with FakeGateway.running(token_body={"url": "ws://elsewhere:1/v1/audio"}) as gateway:
        asked = f"ws://127.0.0.1:{gateway.port}/v1/audio"
        assert (await get_ticket(asked, "cap")).audio_url == asked


async def test_an_unknown_business_is_said_with_a_remedy() -> None:
    async with FakeGateway.running() as gateway:
        with pytest.raises(Permanent) as refused:
            await get_ticket(gateway.url, "nobody")

    assert refused.value.stable_code == "unknown_business"
    assert "businesses/" in str(refused.value)


async def test_a_server_that_is_no_gateway_is_said() -> None:
    async with FakeGateway.running(token_status=404, token_body={"detail": "Not Found"}) as gateway:
        with pytest.raises(Permanent) as refused:
            await get_ticket(gateway.url, "cap")

    assert refused.value.stable_code == "no_gateway"


async def test_a_full_gateway_says_when_to_come_back() -> None:
    fault = {"error": {"code": "overloaded", "message": "full", "retry_after_s": 2}}
    async with FakeGateway.running(token_status=503, token_body=fault) as gateway:
        with pytest.raises(Overloaded) as refused:
            await get_ticket(gateway.url, "cap")

    assert refused.value.retry_after_s == 2.0


async def test_a_gateway_in_trouble_is_no_fault_of_ours() -> None:
    async with FakeGateway.running(token_status=500, token_body={}) as gateway:
        with pytest.raises(DependencyUnavailable):
            await get_ticket(gateway.url, "cap")


async def test_an_answer_without_a_token_is_refused() -> None:
    async with FakeGateway.running(token_body={"token": ""}) as gateway:
        with pytest.raises(Permanent, match="without a token"):
            await get_ticket(gateway.url, "cap")


async def test_nothing_that_listens_is_said_with_how_to_start_it() -> None:
    with pytest.raises(DependencyUnavailable) as refused:
        await get_ticket(f"http://127.0.0.1:{free_port()}", "cap")

    assert refused.value.stable_code == "gateway_unreachable"
    assert "parley up" in str(refused.value)
