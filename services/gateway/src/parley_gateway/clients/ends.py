"""How sessions end: what the client and the session service are told in each case.

Law: every end is one value; a session has exactly one.
"""

from __future__ import annotations

from dataclasses import dataclass

from parley_common.contracts.audio_link import (
    LINK_CALLER_HUNG_UP,
    LINK_CLIENT_LOST,
    LINK_GATEWAY_DRAINING,
    Error,
    Notice,
)
from parley_gateway.refusals import (
    CLOSE_INTERNAL,
    CLOSE_OK,
    CLOSE_POLICY,
    CLOSE_REPLACED,
    CLOSE_RESTART,
    CLOSE_TRY_LATER,
    RETRY_AFTER_S,
)


@dataclass(frozen=True, slots=True)
class End:
    """One end. ``error`` is null when nothing went wrong, or when the client was told already."""

    reason: str
    client_code: int = CLOSE_OK
    link_code: int = CLOSE_OK
    link_reason: str = ""
    error: Error | None = None
    notice: Notice | None = None
    """Last words that are no error."""


HUNG_UP = End("caller_hung_up", link_code=LINK_CALLER_HUNG_UP, link_reason="caller_hung_up")
CLIENT_LOST = End(
    "client_lost",
    CLOSE_POLICY,
    LINK_CLIENT_LOST,
    "client_lost",
    Error("client_lost", "nothing was heard of this client for too long", fatal=True),
)
REPLACED = End(
    "replaced",
    CLOSE_REPLACED,
    notice=Notice("replaced", "this session goes on at another socket"),
)
"""Of a socket, or of this gateway's part in a session; the session goes on."""
BROKEN = End(
    "failed",
    CLOSE_INTERNAL,
    error=Error("local_violation", "something broke here; open a new session", fatal=True),
)
SLOW_CLIENT = End(
    "slow_client",
    CLOSE_TRY_LATER,
    LINK_CLIENT_LOST,
    "client_lost",
    Error("slow_client", "this client reads more slowly than the agent speaks", RETRY_AFTER_S, fatal=True),
)
SESSION_LOST = End(
    "session_lost",
    CLOSE_INTERNAL,
    error=Error("session_lost", "the session was lost; open a new one", RETRY_AFTER_S, fatal=True),
)
DRAINED = End(
    "gateway_draining",
    CLOSE_RESTART,
    LINK_GATEWAY_DRAINING,
    "gateway_draining",
    notice=Notice("move", "this gateway is gone; resume at another"),
)
"""The session service keeps the session for its grace, so that its client can go on at another gateway."""


def ended_by_session(reason: str) -> End:
    """The session service said ``ended``: the client was told."""
    return End(reason)


def failed_by_session(code: str) -> End:
    """The session service sent a fatal error: the client was told."""
    return End(code, CLOSE_INTERNAL)


def client_broke_protocol(code: str, message: str, close_code: int) -> End:
    """The client sent what cannot be answered with a mere error any more."""
    return End(code, close_code, LINK_CLIENT_LOST, "client_lost", Error(code, message, fatal=True))
