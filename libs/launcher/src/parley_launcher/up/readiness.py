"""Asks whether a service is ready, and what it still waits for.

Law: an answer is within two seconds, whatever the service does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import httpx

PROBE_DEADLINE_S = 2.0


@dataclass(frozen=True, slots=True)
class ReadyAnswer:
    """``why`` says what is missing while not ready."""

    ready: bool
    why: str = ""


Probe = Callable[[], Awaitable[ReadyAnswer]]


def http_probe(url: str) -> Probe:
    """Return a probe of a /readyz."""

    async def probe() -> ReadyAnswer:
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=PROBE_DEADLINE_S) as client:
                answer = await client.get(url)
        except httpx.TransportError as wrong:
            return ReadyAnswer(False, f"no answer yet ({type(wrong).__name__})")
        if answer.status_code == httpx.codes.OK:
            return ReadyAnswer(True)
        return ReadyAnswer(False, waiting_words(answer))

    return probe


def all_ready(probes: Sequence[Probe]) -> Probe:
    """Return a probe of several, which is ready when each is, and else says what the first waits for that is not."""

    async def probe() -> ReadyAnswer:
        for one in probes:
            if not (answer := await one()).ready:
                return answer
        return ReadyAnswer(True)

    return probe


def waiting_words(answer: httpx.Response) -> str:
    """Return what a service that is not ready waits for, in words."""
    try:
        waiting_for = answer.json().get("waiting_for")
    except (ValueError, AttributeError):
        return f"HTTP {answer.status_code}"
    if isinstance(waiting_for, dict):
        return ", ".join(f"{name} ({why})" if why else str(name) for name, why in waiting_for.items())
    if isinstance(waiting_for, list):
        return ", ".join(map(str, waiting_for))
    return f"HTTP {answer.status_code}"
