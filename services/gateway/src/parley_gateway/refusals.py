"""How a refusal looks from outside: the error a client is sent, the close code after it, the HTTP answer.

It decides nothing about who is refused. Law: one table; the codes are stable, and clients may rely on them.
"""

from __future__ import annotations

from typing import Any

from parley_common.contracts.audio_link import Error
from parley_common.errors import Overloaded, ParleyError, PeerViolation, Permanent, Transient

CLOSE_OK = 1000
CLOSE_PROTOCOL = 1002
CLOSE_POLICY = 1008
CLOSE_INTERNAL = 1011
CLOSE_RESTART = 1012
CLOSE_TRY_LATER = 1013
CLOSE_OPEN_TIMEOUT = 4408
"""Ours: after HTTP's 408."""
CLOSE_REPLACED = 4409
"""Ours: after HTTP's 409."""

RETRY_AFTER_S = 2.0
"""When to come back after something that usually passes at once."""

_HTTP_STATUS = {
    "unknown_business": 404,
    "callback_not_offered": 404,
    "too_many_callbacks": 429,
    "callback_not_taken": 503,
    "too_many_opens": 429,
    "too_many_business_opens": 429,
    "too_many_sockets": 429,
    "business_full": 429,
    "invalid_request": 400,
    "body_too_large": 413,
    "unauthorized": 401,
    "api_key_invalid": 401,
    "token_invalid": 401,
    "token_expired": 401,
    "other_session": 403,
    "origin_not_allowed": 403,
    "too_many_watchers": 429,
}


class RefusedForNow(Permanent):
    """No replica takes this session now, whoever is asked; ``retry_after_s`` says when one may."""

    code = "refused_for_now"

    def __init__(self, message: str, *, code: str, retry_after_s: float | None) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


def client_error(wrong: ParleyError) -> Error:
    """Return the fatal error a client is sent before its socket is closed."""
    return Error(wrong.stable_code, wrong.message, retry_after_s=retry_after_s(wrong), fatal=True)


def close_code(wrong: ParleyError) -> int:
    """Return the close code that follows the error."""
    if isinstance(wrong, PeerViolation):
        return wrong.close_code
    return CLOSE_TRY_LATER if isinstance(wrong, (Transient, RefusedForNow)) else CLOSE_INTERNAL


def http_status(wrong: ParleyError) -> int:
    """Return the status of the HTTP answer."""
    return _HTTP_STATUS.get(wrong.stable_code, 503 if isinstance(wrong, Transient) else 400)


def retry_after_s(wrong: ParleyError) -> float | None:
    """Return when trying again may help; null when it cannot."""
    if isinstance(wrong, (Overloaded, RefusedForNow)) and wrong.retry_after_s is not None:
        return wrong.retry_after_s
    return RETRY_AFTER_S if isinstance(wrong, (Transient, RefusedForNow)) else None


def error_body(
    code: str, message: str, *, remedy: str | None = None, retry_after_s: float | None = None
) -> dict[str, Any]:
    """Return the JSON body that every HTTP error of this service has."""
    error = {"code": code, "message": message, "remedy": remedy, "retry_after_s": retry_after_s}
    return {"error": {key: value for key, value in error.items() if value is not None}}
