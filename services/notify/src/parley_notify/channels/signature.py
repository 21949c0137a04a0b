"""How webhooks are signed: HMAC-SHA256 over ``<t>.<body>``, with the time and the key's name beside it. PURE.

A receiver recomputes it with the key of that name, and refuses times too far from its own.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A named secret; the name travels, so that keys can be changed without a gap."""

    name: str
    secret: bytes = field(repr=False)


def sign(key: SigningKey, body: bytes, at_s: int) -> str:
    """Return the value of the Parley-Signature header; ``at_s`` is Unix time."""
    signed = hmac.new(key.secret, f"{at_s}.".encode() + body, hashlib.sha256)
    return f"t={at_s},k={key.name},v1={signed.hexdigest()}"
