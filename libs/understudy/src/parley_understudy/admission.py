"""Who may open a session: the request line and headers of a WebSocket handshake, judged.

The API accepts the handshake whatever it holds, and only then says what is wrong: an ``error`` event and a close.

Law: pure; a path that is not a session's is None, everything else is ``Admitted`` or ``Refusal``.
Source: third-party probe of 2026-09-18; realtime close codes 3000 and 4000.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from parley_understudy.conditions import Conditions, ConditionsInvalid, read_conditions
from parley_understudy.flavours import Flavour, flavour_of
from parley_understudy.wire import Refused


@dataclass(frozen=True)
class _Place:
    azure: bool = False
    beta: bool = False


_PATHS = {
    "/v1/realtime": _Place(),
    "/openai/v1/realtime": _Place(azure=True),
    "/openai/realtime": _Place(azure=True, beta=True),
}
"""Where sessions open, and as what: the last two are an Azure host's, GA and preview."""
_KEY_PREFIX = "openai-insecure-api-key."
_BETA_SUBPROTOCOL = "openai-beta.realtime-v1"


@dataclass(frozen=True)
class Knock:
    """A handshake request. ``headers`` has lower-case names."""

    target: str
    headers: Mapping[str, str]
    subprotocols: Sequence[str] = ()


@dataclass(frozen=True)
class Admitted:
    """A session may open, on these conditions."""

    flavour: Flavour
    transcription_only: bool
    conditions: Conditions


@dataclass(frozen=True)
class Refusal:
    """What the client is told before the socket closes with ``close_code``."""

    error: Refused
    close_code: int

    @property
    def reason(self) -> str:
        """Return the close reason: the error's type and, if it has one, its code."""
        code = self.error.wire_code
        return f"{self.error.stable_code}.{code}" if code else self.error.stable_code


def is_session_path(target: str) -> bool:
    """Return whether a request target is where sessions open."""
    return urlsplit(target).path.rstrip("/") in _PATHS


def admit(knock: Knock) -> Admitted | Refusal:
    """Judge a handshake on a session path."""
    url = urlsplit(knock.target)
    query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
    key = _key(knock, query)
    if not key:
        return _refusal(3000, "Missing bearer or basic authentication in header", None)
    if key == "invalid":
        message = (
            f"Incorrect API key provided: {key}. You can find your API key at "
            "https://platform.openai.com/account/api-keys."
        )
        return _refusal(3000, message, "invalid_api_key")
    try:
        conditions = read_conditions(query)
    except ConditionsInvalid as wrong:
        return _refusal(4000, wrong.message, wrong.stable_code)
    place = _PATHS[url.path.rstrip("/")]
    azure, beta = place.azure or conditions.azure, place.beta or conditions.beta
    asks_for_beta = "openai-beta" in knock.headers or _BETA_SUBPROTOCOL in knock.subprotocols
    if asks_for_beta and not beta:
        return _refusal(
            4000, "The Realtime Beta API shape is disabled; use the GA API.", "beta_api_shape_disabled"
        )
    return _model(query, conditions, azure=azure, beta=beta)


def _model(
    query: Mapping[str, str], conditions: Conditions, *, azure: bool, beta: bool
) -> Admitted | Refusal:
    transcription_only = query.get("intent") == "transcription"
    model = query.get("model") or query.get("deployment") or ("gpt-realtime" if transcription_only else "")
    if not model:
        message = (
            "You must provide a model parameter, for example "
            "wss://api.openai.com/v1/realtime?model=gpt-realtime-1.5"
        )
        return _refusal(4000, message, "missing_model")
    flavour = flavour_of(model, azure=azure, beta=beta)
    if flavour is None:
        return _refusal(4000, f'Model "{model[:64]}" is not supported in realtime mode.', "invalid_model")
    return Admitted(flavour, transcription_only, conditions)


def _key(knock: Knock, query: Mapping[str, str]) -> str:
    scheme, _, bearer = knock.headers.get("authorization", "").partition(" ")
    if scheme.lower() in ("bearer", "basic") and bearer.strip():
        return bearer.strip()
    offered = (name[len(_KEY_PREFIX) :] for name in knock.subprotocols if name.startswith(_KEY_PREFIX))
    return knock.headers.get("api-key") or query.get("api-key") or next(offered, "")


def _refusal(close_code: int, message: str, wire_code: str | None) -> Refusal:
    return Refusal(Refused(message, wire_code), close_code)
