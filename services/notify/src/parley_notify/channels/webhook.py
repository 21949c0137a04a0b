"""Webhooks: a fact as one signed POST of CloudEvents JSON. When to try again is not decided here.

What it promises: exactly once in effect, for a receiver that remembers Parley-Delivery (the idempotency key).
Redirects are not followed, answers are not read, addresses are judged before they are connected to.

Source: CloudEvents 1.0.2, HTTP protocol binding, section 3.2 (structured content mode).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from parley_common.clock import Clock
from parley_common.telemetry import current_traceparent
from parley_notify.channels.addresses import Resolve, is_public, resolve
from parley_notify.channels.outcome import RETRY_AFTER_MAX_S, Delivered, Outcome, Refused, TryAgain
from parley_notify.channels.signature import SigningKey, sign
from parley_notify.delivery import Delivery

CONTENT_TYPE = "application/cloudevents+json"
TRANSIENT_STATUSES = frozenset({408, 425, 429})
ADDRESSES_MAX = 3
"""Of a host with many addresses, so many are tried before the attempt counts as failed."""
PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class WebhookRules:
    """What a deployment allows webhooks to do."""

    https_only: bool
    allow_private: bool


class WebhookChannel:
    """Sends webhooks. One per process; close it at the end."""

    def __init__(
        self,
        key: SigningKey,
        rules: WebhookRules,
        *,
        clock: Clock,
        deadline_s: float,
        resolve: Resolve = resolve,
        verify: Any = True,
    ) -> None:
        """
        Args:
            verify: what httpx takes: an SSL context for receivers with a private authority.
        """
        self._key = key
        self._rules = rules
        self._clock = clock
        self._resolve = resolve
        # A kept connection to an address would be shared by every host there, with the certificate of the first.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._http = httpx.AsyncClient(
            verify=verify, limits=limits, timeout=deadline_s, follow_redirects=False, trust_env=False
        )

    async def send(self, delivery: Delivery) -> Outcome:
        """Make one attempt."""
        if delivery.payload is None:
            return Refused("payload_erased")
        try:
            url = httpx.URL(delivery.destination)
        except httpx.InvalidURL:
            return Refused("invalid_url")
        if url.scheme not in PORTS or not url.host:
            return Refused("invalid_url")
        if self._rules.https_only and url.scheme != "https":
            return Refused("https_required")
        try:
            found = await self._resolve(url.host, url.port or PORTS[url.scheme])
        except (OSError, UnicodeError):
            return TryAgain("dns_failed")
        allowed = [address for address in found if self._rules.allow_private or is_public(address)]
        if not allowed:
            return Refused("private_address")
        return await self._post_to_any(url, allowed[:ADDRESSES_MAX], delivery, delivery.payload)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    async def _post_to_any(
        self, url: httpx.URL, addresses: list[str], delivery: Delivery, payload: str
    ) -> Outcome:
        body = event_json(delivery, payload)
        outcome: Outcome = TryAgain("connect_failed")
        for address in addresses:
            try:
                return await self._post(url, address, delivery, body)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue  # nothing was sent, so the next address is no repeat
            except httpx.TimeoutException:
                return TryAgain("timed_out")
            except httpx.TransportError as wrong:
                return TryAgain(f"network:{type(wrong).__name__}")
        return outcome

    async def _post(self, url: httpx.URL, address: str, delivery: Delivery, body: bytes) -> Outcome:
        request = self._http.build_request(
            "POST",
            url.copy_with(host=address),
            content=body,
            headers=self._headers(url, delivery, body),
            extensions={"sni_hostname": url.raw_host.decode("ascii")},
        )
        response = await self._http.send(request, stream=True)
        await response.aclose()  # the status is the answer: a body, however long, is not read
        return judge_status(response.status_code, response.headers.get("retry-after"), self._clock.now())

    def _headers(self, url: httpx.URL, delivery: Delivery, body: bytes) -> dict[str, str]:
        now_s = int(self._clock.now().timestamp())
        headers = {
            "Host": url.netloc.decode("ascii"),
            "Content-Type": CONTENT_TYPE,
            "User-Agent": "parley-notify",
            "Parley-Signature": sign(self._key, body, now_s),
            "Parley-Delivery": delivery.delivery_id,
            "Parley-Attempt": str(delivery.attempts),
        }
        traceparent = current_traceparent() or delivery.traceparent
        if traceparent:
            headers["traceparent"] = traceparent
            if delivery.tracestate:
                headers["tracestate"] = delivery.tracestate
        return headers


def event_json(delivery: Delivery, payload: str) -> bytes:
    """Return the CloudEvents JSON of a delivery's fact: the same bytes at every attempt."""
    event = {
        "specversion": "1.0",
        "id": delivery.fact_id,
        "source": delivery.fact_source,
        "type": delivery.fact_type,
        "subject": delivery.subject_id,
        "time": delivery.fact_time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "data": json.loads(payload),
    }
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()


def judge_status(status: int, retry_after: str | None, now: datetime) -> Outcome:
    """Return what a status means: 2xx took it; 408, 425, 429 and 5xx may yet; everything else never will."""
    if 200 <= status < 300:
        return Delivered()
    if status in TRANSIENT_STATUSES or status >= 500:
        return TryAgain(f"http_{status}", retry_after_s(retry_after, now))
    return Refused(f"http_{status}")


def retry_after_s(value: str | None, now: datetime) -> float | None:
    """Return the seconds that a Retry-After header asks for, as a number or a date; null when it says nothing."""
    if not value:
        return None
    if value.strip().isascii() and value.strip().isdigit():
        return min(float(value[:20]), RETRY_AFTER_MAX_S)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return min(max(0.0, (at - now).total_seconds()), RETRY_AFTER_MAX_S)
