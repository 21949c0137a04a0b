"""Slack's incoming webhooks: takes postings as documented, refuses what Slack refuses, limits when told to.

It checks the parts of Block Kit that are used here. It cannot imitate how a posting looks.

Source: Slack, "Sending messages using incoming webhooks" (errors), Block Kit reference, "Rate limits".
"""

from __future__ import annotations

import json
import threading
from collections import deque
from types import TracebackType
from typing import Any, Self

from harness.http_server import Answer, HttpServer, Reply, Request

BLOCKS_MAX = 50
LIMITS = {"header": ("plain_text", 150), "section": ("mrkdwn", 3_000)}


class FakeSlack:
    """``with FakeSlack() as slack: slack.url``; what it took is in ``taken``."""

    PATH = "/services/T00000000/B00000000/secret-of-this-hook"

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self._next: deque[Answer] = deque()
        self._lock = threading.Lock()
        self._http = HttpServer(self._answer)

    @property
    def url(self) -> str:
        return self._http.url + self.PATH

    def then(self, *answers: Answer) -> None:
        """Answer the next requests so, one each."""
        self._next.extend(answers)

    def limit_next(self, retry_after_s: int) -> None:
        """Refuse the next request as one too many."""
        self.then(Reply(429, b"rate_limited", {"Retry-After": str(retry_after_s)}))

    def _answer(self, request: Request) -> Answer:
        with self._lock:
            if self._next:
                return self._next.popleft()
            if request.method != "POST" or request.path != self.PATH:
                return Reply(404, b"no_service")
            try:
                body = json.loads(request.body)
            except ValueError:
                return Reply(400, b"invalid_payload")
            if not body.get("text"):
                return Reply(400, b"no_text")
            if not self._are_blocks(body.get("blocks", [])):
                return Reply(400, b"invalid_blocks")
            self.taken.append(body)
            return Reply(200, b"ok")

    @staticmethod
    def _are_blocks(blocks: list[dict[str, Any]]) -> bool:
        for block in blocks:
            kind, chars_max = LIMITS[block["type"]]
            text = block["text"]
            if text["type"] != kind or not 0 < len(text["text"]) <= chars_max:
                return False
        return len(blocks) <= BLOCKS_MAX

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()
