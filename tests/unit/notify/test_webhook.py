"""Webhooks against a real receiver: what is posted, how it is signed, and what each answer means."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from harness.http_server import Request
from harness.webhook_receiver import Reply, Reset, Silence, WebhookReceiver
from parley_common.clock import ManualClock
from parley_notify.channels.addresses import is_public
from parley_notify.channels.guarded_http import WebhookRules
from parley_notify.channels.http_status import judge_status, retry_after_s
from parley_notify.channels.outcome import RETRY_AFTER_MAX_S, Delivered, Outcome, Refused, TryAgain
from parley_notify.channels.signature import SigningKey
from parley_notify.channels.webhook import WebhookChannel
from parley_notify.delivery import Delivery
from unit.notify.samples import AT, LEAD, TRACEPARENT, captured, delivery

KEY = SigningKey("k1", b"a secret of sixteen")
OPEN = WebhookRules(https_only=False, allow_private=True)
STRICT = WebhookRules(https_only=False, allow_private=False)


def told(url: str, **changes: Any) -> Delivery:
    return delivery(captured(), channel="webhook", destination=url, route="crm", **changes)


async def send(what: Delivery, *, rules: WebhookRules = OPEN, deadline_s: float = 5, **more: Any) -> Outcome:
    channel = WebhookChannel(KEY, rules, clock=ManualClock(), deadline_s=deadline_s, **more)
    try:
        return await channel.send(what)
    finally:
        await channel.aclose()


def assert_signed(request: Request, secret: bytes) -> None:
    """Check a signature as a receiver would, from the documentation alone."""
    parts = dict(part.split("=", 1) for part in request.headers["parley-signature"].split(","))
    expected = hmac.new(secret, parts["t"].encode() + b"." + request.body, hashlib.sha256).hexdigest()
    assert parts["k"] == "k1"
    assert hmac.compare_digest(parts["v1"], expected)
    assert int(parts["t"]) == int(AT.timestamp())


async def test_a_fact_is_posted_once_as_cloudevents_json(webhooks: WebhookReceiver) -> None:
    what = told(webhooks.url, traceparent=TRACEPARENT, tracestate="a=1", attempts=3)
    assert await send(what) == Delivered()
    (request,) = webhooks.requests
    assert request.method == "POST"
    assert request.headers["content-type"] == "application/cloudevents+json"
    assert json.loads(request.body) == {
        "specversion": "1.0",
        "id": what.fact_id,
        "source": "/parley/tools",
        "type": "parley.lead.captured.v1",
        "subject": LEAD,
        "time": "2026-01-05T17:00:00.000Z",
        "datacontenttype": "application/json",
        "data": json.loads(what.payload or ""),
    }
    assert request.headers["parley-delivery"] == what.delivery_id
    assert request.headers["parley-attempt"] == "3"
    assert request.headers["traceparent"] == TRACEPARENT
    assert request.headers["tracestate"] == "a=1"


async def test_a_receiver_can_check_the_signature_with_the_key_alone(webhooks: WebhookReceiver) -> None:
    await send(told(webhooks.url))
    (request,) = webhooks.requests
    assert_signed(request, KEY.secret)
    with pytest.raises(AssertionError):
        assert_signed(request, b"another secret")


async def test_every_attempt_posts_the_same_bytes_under_the_same_idempotency_key(
    webhooks: WebhookReceiver,
) -> None:
    await send(told(webhooks.url, fact_id="f-1"))
    await send(told(webhooks.url, fact_id="f-1", attempts=2))
    first, second = webhooks.requests
    assert first.body == second.body
    assert first.headers["parley-delivery"] == second.headers["parley-delivery"]


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Delivered()),
        (204, Delivered()),
        (301, Refused("http_301")),
        (400, Refused("http_400")),
        (404, Refused("http_404")),
        (410, Refused("http_410")),
        (408, TryAgain("http_408")),
        (425, TryAgain("http_425")),
        (429, TryAgain("http_429")),
        (500, TryAgain("http_500")),
        (503, TryAgain("http_503")),
    ],
)
async def test_each_status_has_one_meaning(webhooks: WebhookReceiver, status: int, outcome: Outcome) -> None:
    webhooks.then(status)
    assert await send(told(webhooks.url)) == outcome


async def test_a_redirect_is_not_followed(webhooks: WebhookReceiver) -> None:
    webhooks.then(Reply(307, headers={"location": webhooks.url}))
    assert await send(told(webhooks.url)) == Refused("http_307")
    assert len(webhooks.requests) == 1


async def test_retry_after_is_taken_from_the_answer(webhooks: WebhookReceiver) -> None:
    webhooks.then(Reply(429, headers={"retry-after": "17"}))
    assert await send(told(webhooks.url)) == TryAgain("http_429", 17.0)


async def test_a_reset_is_tried_again(webhooks: WebhookReceiver) -> None:
    webhooks.then(Reset())
    outcome = await send(told(webhooks.url))
    assert isinstance(outcome, TryAgain)
    assert outcome.cause.startswith("network:")


async def test_a_silent_receiver_is_given_up_at_the_deadline(webhooks: WebhookReceiver) -> None:
    webhooks.then(Silence())
    assert await send(told(webhooks.url), deadline_s=0.1) == TryAgain("timed_out")


async def test_a_long_answer_is_not_read(webhooks: WebhookReceiver) -> None:
    webhooks.then(Reply(200, body=b"x" * 8_000_000))
    assert await send(told(webhooks.url)) == Delivered()


async def test_a_receiver_that_is_not_there_is_tried_again() -> None:
    with WebhookReceiver() as gone:
        url = gone.url
    assert await send(told(url)) == TryAgain("connect_failed")


async def test_the_next_address_of_a_host_is_tried_when_one_does_not_connect(
    webhooks: WebhookReceiver,
) -> None:
    async def two(host: str, port: int) -> list[str]:
        return ["127.0.0.2", "127.0.0.1"]

    url = f"http://hooks.example.com:{webhooks.port}/in"
    assert await send(told(url), resolve=two) == Delivered()
    (request,) = webhooks.requests
    assert request.headers["host"] == f"hooks.example.com:{webhooks.port}"
    assert request.path == "/in"


async def test_a_name_that_does_not_resolve_is_tried_again() -> None:
    async def unknown(host: str, port: int) -> list[str]:
        raise OSError("no such name")

    assert await send(told("https://hooks.example.com/in"), resolve=unknown) == TryAgain("dns_failed")


async def test_a_private_address_is_refused_and_never_connected_to(webhooks: WebhookReceiver) -> None:
    assert await send(told(webhooks.url), rules=STRICT) == Refused("private_address")
    assert webhooks.requests == []


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "127.1", "localhost", "[::ffff:127.0.0.1]"])
async def test_other_spellings_of_a_private_address_are_refused_too(
    webhooks: WebhookReceiver, host: str
) -> None:
    outcome = await send(told(f"http://{host}:{webhooks.port}/"), rules=STRICT)
    assert outcome in (Refused("private_address"), TryAgain("dns_failed"))
    assert webhooks.requests == []


async def test_a_name_is_resolved_once_so_that_a_second_answer_cannot_lead_inside(
    webhooks: WebhookReceiver,
) -> None:
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["192.0.2.1"] if len(asked) == 1 else ["127.0.0.1"]

    url = f"http://rebind.example.com:{webhooks.port}/"
    outcome = await send(told(url), rules=STRICT, resolve=rebinding)
    assert outcome == Refused("private_address")
    assert asked == ["rebind.example.com"]
    assert webhooks.requests == []


async def test_of_a_hosts_addresses_only_the_public_ones_are_connected_to(webhooks: WebhookReceiver) -> None:
    async def mixed(host: str, port: int) -> list[str]:
        return ["127.0.0.1", "169.254.169.254"]

    outcome = await send(told(f"http://x.example.com:{webhooks.port}/"), rules=STRICT, resolve=mixed)
    assert outcome == Refused("private_address")
    assert webhooks.requests == []


@pytest.mark.parametrize("url", ["ftp://example.com/", "not a url", "http://", "", "http://[::1"])
async def test_what_is_no_web_address_is_refused(url: str) -> None:
    assert await send(told(url)) == Refused("invalid_url")


async def test_production_refuses_http() -> None:
    rules = WebhookRules(https_only=True, allow_private=False)
    assert await send(told("http://hooks.example.com/"), rules=rules) == Refused("https_required")


async def test_erased_data_is_not_sent(webhooks: WebhookReceiver) -> None:
    assert await send(told(webhooks.url, payload=None)) == Refused("payload_erased")
    assert webhooks.requests == []


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700:4700::1111", True),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::808:808", True),
        ("2002:7f00:1::", False),
        ("nonsense", False),
    ],
)
def test_only_addresses_of_the_open_internet_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_retry_after_may_be_a_date() -> None:
    later = format_datetime(AT + timedelta(minutes=2), usegmt=True)
    assert retry_after_s(later, AT) == 120
    assert retry_after_s(format_datetime(AT - timedelta(minutes=2), usegmt=True), AT) == 0


@pytest.mark.parametrize("value", [None, "", "soon", "-5", "1.5", "٣"])
def test_a_retry_after_that_says_nothing_is_ignored(value: str | None) -> None:
    assert retry_after_s(value, AT) is None


def test_an_endless_retry_after_is_bounded() -> None:
    assert retry_after_s("9" * 400, AT) == RETRY_AFTER_MAX_S


def test_a_cause_never_quotes_the_receiver() -> None:
    outcome = judge_status(500, "x" * 500, AT)
    assert isinstance(outcome, TryAgain)
    assert re.fullmatch(r"http_\d{3}", outcome.cause)
