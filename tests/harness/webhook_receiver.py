"""Receives webhooks (or any HTTP request) and remembers them, answering as the test tells it to.

Answers are taken in order from those given; when none is left the standing answer is used. It does not
check signatures: the tests do, with the bytes that it kept.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from types import TracebackType
from typing import Any, Self

from harness.http_server import Answer, HttpServer, Reply, Request, Reset, Silence

__all__ = ["Answer", "Reply", "Request", "Reset", "Silence", "WebhookReceiver"]


class WebhookReceiver:
    """Listens on 127.0.0.1; ``with WebhookReceiver() as hooks: hooks.url``."""

    def __init__(self, *, always: Answer | None = None) -> None:
        self.always: Answer = always or Reply(200)
        """The standing answer; may be replaced at any time."""
        self._next: deque[Answer] = deque()
        self._requests: list[Request] = []
        self._lock = threading.Lock()
        self._http = HttpServer(self._answer)

    @property
    def url(self) -> str:
        return f"{self._http.url}/hook"

    @property
    def port(self) -> int:
        return self._http.port

    @property
    def requests(self) -> list[Request]:
        """Return every request received so far, refused ones too, oldest first."""
        with self._lock:
            return list(self._requests)

    def bodies(self) -> list[Any]:
        """Return the JSON bodies received so far."""
        return [json.loads(request.body) for request in self.requests]

    def then(self, *answers: Answer | int) -> None:
        """Answer the next requests so, one each; a number is a status."""
        with self._lock:
            self._next.extend(Reply(answer) if isinstance(answer, int) else answer for answer in answers)

    def close(self) -> None:
        """Stop listening."""
        self._http.close()

    def _answer(self, request: Request) -> Answer:
        with self._lock:
            self._requests.append(request)
            return self._next.popleft() if self._next else self.always

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
