"""How commands ask the notify service: its HTTP door, the internal token, and what its answers mean."""

from __future__ import annotations

from typing import Annotated, Any

import httpx
import typer

from parley_common.errors import DependencyUnavailable, Permanent
from parley_launcher.settings import load_internal_token, load_ports

DEADLINE_S = 60.0
"""Dead letters are read from Kafka while one waits."""

Url = Annotated[
    str | None, typer.Option("--url", help="The notify service; default http://127.0.0.1:NOTIFY_PORT.")
]


def ask(method: str, url: str | None, path: str, **options: Any) -> Any:
    """Return the JSON that notify answers.

    Raises:
        DependencyUnavailable: nobody answers, or notify waits for something itself.
        Permanent: it will not, and says why.
    """
    base = (url or f"http://127.0.0.1:{load_ports().notify_port}").rstrip("/")
    headers = {"Authorization": f"Bearer {load_internal_token()}"}
    try:
        with httpx.Client(trust_env=False, timeout=DEADLINE_S) as client:
            answer = client.request(method, base + path, headers=headers, **options)
    except httpx.TransportError as wrong:
        raise DependencyUnavailable(
            f"notify does not answer at {base}: {type(wrong).__name__}",
            remedy="is it running? `parley up` starts it; --url names another",
        ) from wrong
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        raise Permanent(f"{base} does not take our token", remedy="set PARLEY_INTERNAL_TOKEN as it has it")
    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        raise DependencyUnavailable(f"notify cannot do it now: {_detail(answer)}")
    if answer.is_error:
        raise Permanent(_detail(answer))
    return answer.json()


def _detail(answer: httpx.Response) -> str:
    try:
        detail = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return f"notify answered {answer.status_code}"
    return detail if isinstance(detail, str) else f"notify answered {answer.status_code}: {detail}"
