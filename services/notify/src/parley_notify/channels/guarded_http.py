"""One POST to an address that a business chose: judged before it is connected to, no redirect followed, no answer read.

Law: nothing is posted to a private address unless the deployment allows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from parley_common.clock import Clock
from parley_notify.channels.addresses import Resolve, is_public, resolve
from parley_notify.channels.http_status import judge_status
from parley_notify.channels.outcome import Outcome, Refused, TryAgain

ADDRESSES_MAX = 3
"""Of a host with many addresses, so many are tried before the attempt counts as failed."""
PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class WebhookRules:
    """What a deployment allows webhooks to do."""

    https_only: bool
    allow_private: bool


class GuardedHttp:
    """Posts to addresses from business folders. Close it at the end."""

    def __init__(
        self,
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
        self._rules = rules
        self._clock = clock
        self._resolve = resolve
        # A kept connection to an address would be shared by every host there, with the certificate of the first.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._http = httpx.AsyncClient(
            verify=verify, limits=limits, timeout=deadline_s, follow_redirects=False, trust_env=False
        )

    async def post(self, destination: str, body: bytes, headers: Mapping[str, str]) -> Outcome:
        """Make one attempt."""
        try:
            url = httpx.URL(destination)
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
        return await self._post_to_any(url, allowed[:ADDRESSES_MAX], body, headers)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    async def _post_to_any(
        self, url: httpx.URL, addresses: list[str], body: bytes, headers: Mapping[str, str]
    ) -> Outcome:
        for address in addresses:
            try:
                return await self._post(url, address, body, headers)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue  # nothing was sent, so the next address is no repeat
            except httpx.TimeoutException:
                return TryAgain("timed_out")
            except httpx.TransportError as wrong:
                return TryAgain(f"network:{type(wrong).__name__}")
        return TryAgain("connect_failed")

    async def _post(self, url: httpx.URL, address: str, body: bytes, headers: Mapping[str, str]) -> Outcome:
        request = self._http.build_request(
            "POST",
            url.copy_with(host=address),
            content=body,
            headers={"Host": url.netloc.decode("ascii"), "User-Agent": "parley-notify", **headers},
            extensions={"sni_hostname": url.raw_host.decode("ascii")},
        )
        response = await self._http.send(request, stream=True)
        await response.aclose()  # the status is the answer: a body, however long, is not read
        return judge_status(response.status_code, response.headers.get("retry-after"), self._clock.now())
