"""What the API says when something is wrong that a script asked for: types, messages and close codes by error code.

It knows no session; the ids and names that a message shows are given to it.

Law: a code that is known here is worded as the API words it; anything else is said as the script says it.
Source: error payloads captured from the Realtime API, 2024 to 2026.
"""

from __future__ import annotations

from dataclasses import dataclass

from parley_understudy.fault_plan import Failure, Trouble
from parley_understudy.wire import Event

_REQUEST = "invalid_request_error"
_RETRY = (
    "The server had an error while processing your request. Sorry about that! You can retry your request, or contact "
    "us through our help center if the error persists. (include session ID in your message: {session}). We recommend "
    "you retry your request."
)
_RATE = (
    "Rate limit reached for {model} in organization org-understudy on tokens per min (TPM): Limit 40000, Used 40000, "
    "Requested 1208. Please try again in {wait}. Visit https://platform.openai.com/account/rate-limits to learn more."
)
_RETRY_AFTER_S = 1.812


@dataclass(frozen=True)
class _Known:
    kind: str
    message: str
    close: int = 4000


_KNOWN = {
    "invalid_api_key": _Known(
        _REQUEST,
        "Incorrect API key provided: ***. You can find your API key at "
        "https://platform.openai.com/account/api-keys.",
        3000,
    ),
    "missing_authentication": _Known(_REQUEST, "Missing bearer or basic authentication in header", 3000),
    "invalid_model": _Known(_REQUEST, 'Model "{model}" is not supported in realtime mode.'),
    "missing_model": _Known(
        _REQUEST,
        "You must provide a model parameter, for example wss://api.openai.com/v1/realtime?model=gpt-realtime-1.5",
    ),
    "beta_api_shape_disabled": _Known(_REQUEST, "The Realtime Beta API shape is disabled; use the GA API."),
    "insufficient_quota": _Known(
        "insufficient_quota",
        "You exceeded your current quota, please check your plan and billing details. For more information on this "
        "error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors.",
    ),
    "credit_balance_exhausted": _Known(_REQUEST, "You have no credits remaining. Add credits to continue."),
    "billing_hard_limit_reached": _Known(_REQUEST, "Billing hard limit has been reached."),
    "account_deactivated": _Known(
        _REQUEST, "The OpenAI account associated with this key has been deactivated."
    ),
    "rate_limit_exceeded": _Known("rate_limit_exceeded", _RATE),
    "server_error": _Known("server_error", _RETRY),
    "input_image_safety_violation": _Known(
        _REQUEST, "Your input image may contain content that is not allowed by our safety system."
    ),
}
_WITHOUT_CODE = frozenset({"server_error", "missing_authentication"})
"""These are sent with a null code."""


@dataclass(frozen=True)
class Scene:
    """What messages name."""

    model: str
    session_id: str


def error_of(trouble: Trouble, scene: Scene, client_event_id: str | None = None) -> Event:
    """Return the ``error`` object of an error event."""
    code = trouble.code or "server_error"
    known = _KNOWN.get(code)
    return {
        "type": trouble.type or (known.kind if known else _REQUEST),
        "code": None if code in _WITHOUT_CODE else code,
        "message": trouble.message or _worded(known, scene, _RETRY_AFTER_S) or "Something is wrong.",
        "param": trouble.param,
        "event_id": client_event_id,
    }


def refusal_of(trouble: Trouble, scene: Scene) -> tuple[Event, int, str]:
    """Return the ``error`` object, the close code and the reason of a session that is refused."""
    error = error_of(trouble, scene)
    known = _KNOWN.get(trouble.code or "")
    code = error["code"]
    reason = f"{error['type']}.{code}" if code else str(error["type"])
    return error, trouble.close or (known.close if known else 4000), reason[:120]


def failure_of(failure: Failure, scene: Scene) -> tuple[str, str | None, str]:
    """Return the type, code and message of a failed response."""
    code = failure.code or "server_error"
    known = _KNOWN.get(code)
    wait_s = _RETRY_AFTER_S if failure.retry_after_s is None else failure.retry_after_s
    message = (
        failure.message or _worded(known, scene, wait_s) or _worded(_KNOWN["server_error"], scene, wait_s)
    )
    kind = failure.type or (known.kind if known else "server_error")
    return kind, None if code in _WITHOUT_CODE else code, message


def duration_said(duration_s: float) -> str:
    """Return a wait as the API writes it: ``864ms``, ``1.812s``, ``1m26.4s``, ``2h3m0s``."""
    if 0 < duration_s < 1:
        return f"{round(duration_s * 1000)}ms"
    minutes, seconds = divmod(duration_s, 60)
    hours, minutes = divmod(int(minutes), 60)
    shown = f"{seconds:.3f}".rstrip("0").rstrip(".")
    return f"{hours}h{minutes}m{shown}s" if hours else f"{minutes}m{shown}s" if minutes else f"{shown}s"


def _worded(known: _Known | None, scene: Scene, wait_s: float) -> str:
    if known is None:
        return ""
    return known.message.format(model=scene.model, session=scene.session_id, wait=duration_said(wait_s))
