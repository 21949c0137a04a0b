"""The receiver remembers what came, byte for byte, and answers as told."""

from __future__ import annotations

import httpx
import pytest

from harness.webhook_receiver import Reply, Reset, Silence, WebhookReceiver


def test_a_request_is_kept_with_its_headers_and_bytes(webhooks: WebhookReceiver) -> None:
    assert httpx.post(webhooks.url, content=b'{"a": 1}', headers={"X-Signature": "abc"}).status_code == 200
    (request,) = webhooks.requests
    assert (request.method, request.path, request.body) == ("POST", "/hook", b'{"a": 1}')
    assert request.headers["x-signature"] == "abc"
    assert webhooks.bodies() == [{"a": 1}]


def test_answers_are_given_in_order_and_then_the_standing_one(webhooks: WebhookReceiver) -> None:
    webhooks.then(500, Reply(429, b"later", {"retry-after": "3"}))
    first, second, third = (httpx.post(webhooks.url, content=b"{}") for _ in range(3))
    assert first.status_code == 500
    assert (second.status_code, second.text, second.headers["retry-after"]) == (429, "later", "3")
    assert third.status_code == 200
    webhooks.always = Reply(410)
    assert httpx.post(webhooks.url, content=b"{}").status_code == 410
    assert len(webhooks.requests) == 4


def test_silence_outlasts_the_clients_patience(webhooks: WebhookReceiver) -> None:
    webhooks.then(Silence())
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(webhooks.url, content=b"{}", timeout=0.1)
    assert httpx.post(webhooks.url, content=b"{}").status_code == 200


def test_a_reset_is_an_error_of_the_socket_not_an_answer(webhooks: WebhookReceiver) -> None:
    webhooks.then(Reset())
    with pytest.raises(httpx.ReadError, match=r"(?i)reset"):
        httpx.post(webhooks.url, content=b"{}")


def test_one_socket_carries_several_requests(webhooks: WebhookReceiver) -> None:
    with httpx.Client() as client:
        assert [client.post(webhooks.url, content=b"{}").status_code for _ in range(3)] == [200, 200, 200]


def test_a_closed_receiver_refuses() -> None:
    with WebhookReceiver() as receiver:
        url = receiver.url
    with pytest.raises(httpx.ConnectError):
        httpx.post(url, content=b"{}")
