"""The error tree: whose fault it is, and whether trying again helps.

Raise with fields, chain with ``from``. Errors are caught in three places only: the settle
middleware (kafka.py), the conductor's performer and the HTTP/WebSocket edge.

Law: every error has a stable ``code`` that clients, operators and dashboards may rely on.
"""

from __future__ import annotations

from typing import ClassVar


class ParleyError(Exception):
    """Anything Parley raises on purpose. ``code`` is stable; ``remedy`` tells what to do about it."""

    code: ClassVar[str] = "parley_error"

    def __init__(self, message: str, *, remedy: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.stable_code = code or type(self).code

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message


class Transient(ParleyError):
    """Trying again may help."""

    code = "transient"


class LinkClosed(Transient):
    """The peer of a socket went away."""

    code = "link_closed"


class LinkTimedOut(Transient):
    """The peer of a socket did not answer before its deadline."""

    code = "link_timed_out"


class DependencyUnavailable(Transient):
    """A broker, database, upstream or destination cannot be reached now; nothing is wrong with the input."""

    code = "dependency_unavailable"


class Overloaded(Transient):
    """A bound was reached; the caller should come back after ``retry_after_s``."""

    code = "overloaded"

    def __init__(self, message: str, *, retry_after_s: float | None = None, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class Permanent(ParleyError):
    """Trying the same again cannot help."""

    code = "permanent"


class InvalidRecord(Permanent):
    """A record that no retry can make readable: it goes to the topic's dead letters."""

    code = "invalid_record"


class PeerViolation(Permanent):
    """A peer broke the protocol; its socket is closed with ``close_code``."""

    code = "peer_violation"

    def __init__(self, message: str, *, close_code: int = 1008, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.close_code = close_code


class ToolRefused(Permanent):
    """A tool will not do what was asked; ``say`` is the sentence the agent may speak."""

    code = "tool_refused"

    def __init__(self, say: str, *, code: str = "refused") -> None:
        super().__init__(say, code=code)
        self.say = say


class LocalViolation(ParleyError):
    """We broke the protocol ourselves: a bug. The session fails, the process lives."""

    code = "local_violation"


class ConfigInvalid(ParleyError):
    """A setting or a business is wrong. Raised at start-up only; exit code 78, one line, names the place."""

    code = "config_invalid"
    exit_code: ClassVar[int] = 78
