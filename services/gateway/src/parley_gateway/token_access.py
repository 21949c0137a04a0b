"""Who may ask for a token: a site's backend by its API key, a page by its site, and in development anyone near.

A browser names the site of a page in ``Origin`` and no page can forge it; other programs can, so that an origin protects
callers' browsers and the business's name, not its purse: that is what keys, limits and budgets are for. Keys are random
and long, so that one plain hash keeps them.

Law: a page of a foreign site gets no token, whatever it sends; a wrong key is never made good by an origin.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from parley_common.business_config import is_origin
from parley_common.errors import PeerViolation

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
API_KEY_MAX_CHARS = 200


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key of one business; ``sha256`` is the lower-case hex of the hash of its UTF-8 bytes."""

    business: str
    name: str
    sha256: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class TokenAccess:
    """The rules of this deployment."""

    allowed_origins: tuple[str, ...] = ()
    """Sites that may open sessions with any business."""
    business_origins: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    api_keys: tuple[ApiKey, ...] = ()
    is_open: bool = True
    """A program without key or origin gets a token: everywhere but in production."""
    trusts_loopback: bool = False
    """A page of this machine may open sessions, whatever its port: in development."""

    def check(self, headers: Mapping[str, str], business: str) -> str | None:
        """Return the origin that the token is for, null for a program's. Raises PeerViolation.

        Its codes: api_key_invalid, origin_not_allowed, unauthorized.
        """
        shown, origin = headers.get("authorization"), headers.get("origin")
        if shown is not None:
            self._check_key(shown, business)
            return None
        if origin is not None:
            self._check_origin(origin, headers.get("host"), business)
            return origin
        if not self.is_open:
            raise PeerViolation(
                "ask on your server with an API key (Authorization: Bearer), or from an allowed site",
                code="unauthorized",
            )
        return None

    def _check_key(self, shown: str, business: str) -> None:
        kind, _, key = shown.partition(" ")
        if kind.lower() == "bearer" and 0 < len(key) <= API_KEY_MAX_CHARS:
            hashed = hashlib.sha256(key.strip().encode()).hexdigest()
            # Each is compared, found or not, so that time tells nothing.
            if sum(
                hmac.compare_digest(hashed, known.sha256) and known.business == business
                for known in self.api_keys
            ):
                return
        raise PeerViolation("this API key is not one of this business", code="api_key_invalid")

    def _check_origin(self, origin: str, host: str | None, business: str) -> None:
        if origin in self.allowed_origins or origin in self.business_origins.get(business, ()):
            return
        if is_origin(origin):
            site = urlsplit(origin)
            # A proxy may speak TLS for us, so that only the host can be compared.
            if site.netloc == host or (self.trusts_loopback and site.hostname in LOOPBACK):
                return
        raise PeerViolation(
            "pages of this site may not open sessions here: see `origins` in business.yaml"
            " and GATEWAY_ALLOWED_ORIGINS",
            code="origin_not_allowed",
        )
