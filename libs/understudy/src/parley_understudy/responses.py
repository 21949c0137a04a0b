"""The responses of a session: which may begin, which is active, when each is due.

Law: at most one response is active in the default conversation, and "active" lasts until its ``response.done``;
outside ones run beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

from parley_understudy import usage
from parley_understudy.performance import Performance, Stage, Terms
from parley_understudy.response_config import ResponseConfig
from parley_understudy.usage import Tokens
from parley_understudy.view import view_of
from parley_understudy.wire import Refused, Think

_OUTSIDE_LIMIT = 32
_RATE_LIMIT_TOKENS = 15_000_000
_RATE_LIMIT_DELAY_MS = 30
"""``rate_limits.updated`` follows ``response.done`` after 30 to 45 ms."""


class Responses:
    """All responses that are not over."""

    def __init__(self, terms: Terms, wall_of: Callable[[float], datetime]) -> None:
        self._terms = terms
        self._wall_of = wall_of
        self._active: Performance | None = None
        self._outside: dict[str, Performance] = {}
        self._seen_before = Tokens()
        self._rate_limits: list[tuple[float, int]] = []
        self.spoken_until_ms: float | None = None
        """When the last completed response's audio will have been played; None while nothing was said since."""

    @property
    def active(self) -> Performance | None:
        """Return the default conversation's response, while it is not over."""
        return self._active

    def create(self, config: ResponseConfig) -> None:
        """Begin a response, or raise ``Refused``."""
        if config.outside:
            if len(self._outside) >= _OUTSIDE_LIMIT:
                raise Refused("Too many out-of-band responses are in progress.", "rate_limit_exceeded")
            performance = Performance(config, self._terms)
            self._outside[performance.id] = performance
        else:
            if self._active is not None:
                raise Refused(
                    f"Conversation already has an active response in progress: {self._active.id}. Wait until the "
                    "response is finished before creating a new one.",
                    "conversation_already_has_active_response",
                )
            performance = self._active = Performance(config, self._terms)
            self.spoken_until_ms = None

    def think_when_heard(self, now_ms: float) -> None:
        """Start every response whose context has been recognised by now, unless a script has ended it."""
        for performance in self._all():
            performance.obey()
            if performance.stage is Stage.LISTENING and not any(
                item.awaits_ears() for item in performance.config.context
            ):
                self._think(performance, now_ms)

    def find(self, response_id: str) -> Performance | None:
        """Return a response that is not over."""
        return next((each for each in self._all() if each.id == response_id), None)

    def cancel(self, response_id: str | None, now_ms: float) -> None:
        """Cancel on the client's behalf, or raise ``Refused`` when there is nothing to cancel."""
        performance = self._active if response_id is None else self.find(response_id)
        if performance is None:
            raise Refused("Cancellation failed: no active response found", "response_cancel_not_active")
        performance.cancel("client_cancelled", now_ms)

    def interrupt(self, now_ms: float) -> None:
        """Cancel the default conversation's response because the caller speaks."""
        if self._active is not None:
            self._active.cancel("turn_detected", now_ms)

    def advance(self, now_ms: float) -> None:
        """Send all that is due."""
        for performance in self._all():
            performance.advance(now_ms)
        due = [entry for entry in self._rate_limits if entry[0] <= now_ms]
        self._rate_limits = [entry for entry in self._rate_limits if entry[0] > now_ms]
        for _, used in due:
            self._send_rate_limits(used)

    def settle(self, now_ms: float) -> None:
        """Let go of the responses that are over. To be called after each step of the session."""
        for performance in self._all():
            if performance.over:
                self._settle(performance, now_ms)

    def due_ms(self) -> float | None:
        """Return when something is to be sent next; None when nothing is."""
        times = [each.due_ms for each in self._all() if each.due_ms is not None]
        times += [at for at, _ in self._rate_limits]
        return min(times, default=None)

    def _all(self) -> Iterator[Performance]:
        yield from ([self._active] if self._active is not None else []) + list(self._outside.values())

    def _think(self, performance: Performance, now_ms: float) -> None:
        config = performance.config
        read = usage.of_context(config.instructions, config.tools, config.context)
        performance.reading(read, self._seen_before)
        wall = self._wall_of(now_ms)
        view = view_of(config.context, config.instructions, config.tools, config.tool_choice, wall)
        self._terms.outgoing.do(Think(performance.id, view))

    def _settle(self, performance: Performance, now_ms: float) -> None:
        if performance is self._active:
            self._active = None
            self._seen_before = performance.read
            if performance.status == "completed":
                self.spoken_until_ms = now_ms + performance.audio_ms
        else:
            self._outside.pop(performance.id, None)
        self._terms.directions.forget(performance.id)
        # None follows a cancelled response, and Azure sends none at all (recorded).
        if performance.status in ("completed", "incomplete") and not self._terms.flavour.azure:
            used = performance.usage["total_tokens"] if performance.usage else 0
            self._rate_limits.append((now_ms + _RATE_LIMIT_DELAY_MS, used))

    def _send_rate_limits(self, used: int) -> None:
        tokens = {
            "name": "tokens",
            "limit": _RATE_LIMIT_TOKENS,
            "remaining": _RATE_LIMIT_TOKENS - used,
            "reset_seconds": round(60 * used / _RATE_LIMIT_TOKENS, 3),
        }
        self._terms.outgoing.send("rate_limits.updated", rate_limits=[tokens])
