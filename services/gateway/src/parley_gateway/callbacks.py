"""Hands a caller's wish to be called back to a session replica, which has a tool open the case.

It works when every line is busy: no session is opened. Law: what the caller left is in no log and kept nowhere here.
"""

from __future__ import annotations

import math

import httpx

from parley_common.errors import DependencyUnavailable, Overloaded, PeerViolation
from parley_common.ids import new_id
from parley_gateway.gateway import Gateway
from parley_gateway.placement import placement

PATH = "/v1/callbacks"
WITHIN_S = 12.0
"""A replica asks its tool three times, three seconds each."""


def check_callback(gateway: Gateway, address: str, business: str) -> None:
    """Raise PeerViolation (callback_not_offered), or Overloaded when one address asks too often."""
    if business not in gateway.callbacks:
        raise PeerViolation("this business calls nobody back", code="callback_not_offered")
    wait_s = gateway.admission.callback_wait_s(address, gateway.clock.now_ms())
    if wait_s:
        raise Overloaded(
            "too many call-backs were asked for from here",
            code="too_many_callbacks",
            retry_after_s=float(math.ceil(wait_s)),
        )


async def request_callback(gateway: Gateway, fields: dict[str, str]) -> dict[str, str]:
    """Return the tool's ``say`` and ``reference``.

    Raises PeerViolation with the tool's own code, or DependencyUnavailable when no replica could have it done.
    """
    request_id = new_id()
    headers = {"Authorization": f"Bearer {gateway.internal_token}"}
    async with httpx.AsyncClient(headers=headers, timeout=WITHIN_S, trust_env=False) as http:
        for url in placement(request_id, gateway.replicas.views()):
            try:
                answer = await http.post(_http(url) + PATH, json={"request_id": request_id, **fields})
                answer.raise_for_status()
            except httpx.HTTPError:
                gateway.replicas.failed(url)
                continue
            return _said(answer.json())
    raise DependencyUnavailable("the call-back could not be noted now", code="callback_not_taken")


def _said(body: dict[str, str | None]) -> dict[str, str]:
    say, code = body.get("say") or "", body.get("code")
    if code == "callback_not_taken":
        raise DependencyUnavailable("the call-back could not be noted now", code=code)
    if code is not None:
        raise PeerViolation(say, code=code)
    return {"say": say, "reference": body.get("reference") or ""}


def _http(url: str) -> str:
    """Return the base URL of a replica's HTTP: that of its links with another scheme."""
    return "http" + url.removeprefix("ws")
