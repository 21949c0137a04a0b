"""What the stand-ins for CRMs share: a server that keeps what it was asked, and misbehaves once when told to.

What a CRM answers, and how it refuses, is its own file's.
"""

from __future__ import annotations

import json
import threading
from abc import ABC, abstractmethod
from collections import deque
from types import TracebackType
from typing import Any, Self

from harness.http_server import Answer, HttpServer, Reply, Request, Reset


class FakeCrm(ABC):
    """``with FakeHubSpot() as crm: crm.url``; one request is served at a time."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._next: deque[Answer | None] = deque()
        self._lost: str | None = None
        self._lock = threading.Lock()
        self._http = HttpServer(self._answer)

    @property
    def url(self) -> str:
        return self._http.url

    def then(self, *answers: Answer | None) -> None:
        """Answer the next requests so, one each, doing nothing; null: as it should."""
        self._next.extend(answers)

    def lose_answer_to(self, call: str) -> None:
        """Do what the next ``POST /path`` (its beginning) asks, and reset the socket instead of answering."""
        self._lost = call

    @abstractmethod
    def _refused(self, request: Request) -> Reply | None:
        """Return the answer to a request that is not served: not logged in, or the login itself."""

    @abstractmethod
    def _path(self, request: Request) -> str:
        """Return a request's path as tests name it."""

    @abstractmethod
    def _serve(self, request: Request) -> Reply:
        """Do what a request asks."""

    def _answer(self, request: Request) -> Answer:
        with self._lock:
            self.requests.append(request)
            told = self._next.popleft() if self._next else None
            if told is not None:
                return told
            if (refusal := self._refused(request)) is not None:
                return refusal
            answer = self._serve(request)
            if self._lost and f"{request.method} {self._path(request)}".startswith(self._lost):
                self._lost = None
                return Reset()
            return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()


def json_reply(status: int, body: Any) -> Reply:
    """Return an answer in JSON."""
    return Reply(status, json.dumps(body).encode(), {"Content-Type": "application/json;charset=utf-8"})
