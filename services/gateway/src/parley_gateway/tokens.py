"""Signs and reads the tokens that open and resume sessions: JWT, HS256, named keys that rotate.

It does not remember tokens: that one opens at most one session per replica is the session service's to
refuse, by token id. Law: time is an argument; what a token says is believed only after its signature.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeVar

import jwt
import msgspec

from parley_common.contracts.audio_link import Mode
from parley_common.errors import PeerViolation
from parley_common.ids import new_id

ALGORITHM = "HS256"
Channel = Literal["browser", "cli", "phone", "realtime"]


@dataclass(frozen=True, slots=True)
class TokenKey:
    """One signing key; ``name`` travels in the token as ``kid``."""

    name: str
    secret: str = field(repr=False)


class Grant(msgspec.Struct, frozen=True, rename={"session_id": "sid", "token_id": "jti"}):
    """What an open token allows: one session with one business."""

    business: str
    session_id: str
    token_id: str
    channel: Channel
    mode: Mode
    """``text``: the session stays without a voice, whatever the client asks for."""
    exp: int
    origin: str | None = None
    """The site whose page asked for it, and may use it; null: it was asked for by a program."""
    use: Literal["open"] = "open"


class ResumeGrant(msgspec.Struct, frozen=True, rename={"session_id": "sid"}):
    """What a resume token says: where a running session was last attached."""

    business: str
    session_id: str
    replica: str
    fence: int
    exp: int
    gateway: str = ""
    """The gateway process that holds the session, or held it."""
    mode: Mode = "voice"
    """As in the token that opened it."""
    use: Literal["resume"] = "resume"


class FactsGrant(msgspec.Struct, frozen=True, rename={"session_id": "sid"}):
    """What a facts token allows: to watch the facts of one session, in development."""

    session_id: str
    exp: int
    use: Literal["facts"] = "facts"


FACTS_TTL_S = 1_800
"""As long as a session may last by default; a page that lost its stream opens it again with the same token."""

G = TypeVar("G", Grant, ResumeGrant, FactsGrant)


class Tokens:
    """Issues with the first key, accepts all of them."""

    def __init__(self, keys: tuple[TokenKey, ...], ttl_s: int) -> None:
        self._keys = {key.name: key for key in keys}
        self._newest = keys[0]
        self.ttl_s = ttl_s

    def issue(
        self,
        business: str,
        now: datetime,
        *,
        channel: Channel = "browser",
        mode: Mode = "voice",
        origin: str | None = None,
    ) -> tuple[str, Grant]:
        """Return a token for one new session, and what it grants. The session id is made here."""
        grant = Grant(
            business=business,
            session_id=new_id(),
            token_id=new_id(),
            channel=channel,
            mode=mode,
            exp=int(now.timestamp()) + self.ttl_s,
            origin=origin,
        )
        return self._sign(grant), grant

    def issue_resume(self, grant: ResumeGrant) -> str:
        """Return the token with which a running session is found again."""
        return self._sign(grant)

    def issue_facts(self, session_id: str, now: datetime) -> str:
        """Return the token with which one session's facts may be watched."""
        return self._sign(FactsGrant(session_id=session_id, exp=int(now.timestamp()) + FACTS_TTL_S))

    def verify(self, token: str, now: datetime) -> Grant:
        """Return what ``token`` grants. Raises PeerViolation: token_expired or token_invalid."""
        return self._read(token, Grant, now)

    def verify_resume(self, token: str, now: datetime) -> ResumeGrant:
        """Return what a resume token says. Raises PeerViolation: token_expired or token_invalid."""
        return self._read(token, ResumeGrant, now)

    def verify_facts(self, token: str, now: datetime) -> FactsGrant:
        """Return what a facts token allows. Raises PeerViolation: token_expired or token_invalid."""
        return self._read(token, FactsGrant, now)

    def _sign(self, grant: Grant | ResumeGrant | FactsGrant) -> str:
        claims = msgspec.to_builtins(grant)
        return jwt.encode(claims, self._newest.secret, ALGORITHM, headers={"kid": self._newest.name})

    def _read(self, token: str, kind: type[G], now: datetime) -> G:
        try:
            grant = msgspec.convert(self._claims(token), kind)
        except (jwt.PyJWTError, msgspec.ValidationError) as wrong:
            raise PeerViolation(
                "this token was not issued here, or not for this", code="token_invalid"
            ) from wrong
        if grant.exp <= now.timestamp():
            raise PeerViolation("the token expired; get a new one", code="token_expired")
        return grant

    def _claims(self, token: str) -> dict[str, Any]:
        key = self._keys.get(jwt.get_unverified_header(token).get("kid", ""))
        if key is None:
            raise jwt.InvalidKeyError
        # Expiry is judged by our caller, whose clock a test may hold.
        return jwt.decode(token, key.secret, [ALGORITHM], options={"verify_exp": False, "verify_aud": False})
