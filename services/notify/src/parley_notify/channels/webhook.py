"""Webhooks: a fact as one signed POST of CloudEvents JSON. When to try again is not decided here.

What it promises: exactly once in effect, for a receiver that remembers Parley-Delivery (the idempotency key).

Source: CloudEvents 1.0.2, HTTP protocol binding, section 3.2 (structured content mode).
"""

from __future__ import annotations

import json
from datetime import UTC
from typing import Any

from parley_common.clock import Clock
from parley_common.telemetry import current_traceparent
from parley_notify.channels.addresses import Resolve, resolve
from parley_notify.channels.guarded_http import GuardedHttp, WebhookRules
from parley_notify.channels.outcome import Outcome, Refused
from parley_notify.channels.signature import SigningKey, sign
from parley_notify.delivery import Delivery

CONTENT_TYPE = "application/cloudevents+json"


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
        self._clock = clock
        self._http = GuardedHttp(rules, clock=clock, deadline_s=deadline_s, resolve=resolve, verify=verify)

    async def send(self, delivery: Delivery) -> Outcome:
        """Make one attempt."""
        if delivery.payload is None:
            return Refused("payload_erased")
        body = event_json(delivery, delivery.payload)
        return await self._http.post(delivery.destination, body, self._headers(delivery, body))

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    def _headers(self, delivery: Delivery, body: bytes) -> dict[str, str]:
        now_s = int(self._clock.now().timestamp())
        headers = {
            "Content-Type": CONTENT_TYPE,
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
