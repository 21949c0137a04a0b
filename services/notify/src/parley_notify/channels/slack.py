"""Slack, and whatever takes the same incoming webhooks (Mattermost): a fact's letter as one posting.

A hook's URL is a secret, so routes name it and settings hold it; it is looked up at each attempt, and a new URL
serves what is still waiting.

What it promises: at least once. Slack knows no idempotency key, so an attempt that ended without an answer may be
seen twice.

Source: Slack, "Sending messages using incoming webhooks" and Block Kit reference (header and section blocks), read
2026-11-26.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from jinja2 import TemplateError
from pydantic import SecretStr

from parley_common.clock import Clock
from parley_notify.channels.addresses import Resolve, resolve
from parley_notify.channels.guarded_http import GuardedHttp, WebhookRules
from parley_notify.channels.outcome import Outcome, Refused, TryAgain
from parley_notify.delivery import Delivery
from parley_notify.letters import Letter, Letters

HEADER_CHARS_MAX = 150
SECTION_CHARS_MAX = 3_000
SECTIONS_MAX = 5
"""Ours: a posting is read at a glance; what is longer is cut, and the reference at its end leads to the rest."""


_HALF_ESCAPED = re.compile(r"&[a-z]{0,3}$")


class SlackChannel:
    """Posts to incoming webhooks. One per process; close it at the end."""

    def __init__(
        self,
        letters: Letters,
        hooks: Mapping[str, SecretStr],
        rules: WebhookRules,
        *,
        clock: Clock,
        deadline_s: float,
        resolve: Resolve = resolve,
    ) -> None:
        self._letters = letters
        self._hooks = hooks
        self._http = GuardedHttp(rules, clock=clock, deadline_s=deadline_s, resolve=resolve)

    async def send(self, delivery: Delivery) -> Outcome:
        """Make one attempt."""
        if delivery.payload is None:
            return Refused("payload_erased")
        url = self._url(delivery.destination)
        if url is None:
            return TryAgain("slack_hook_not_set")
        try:
            letter = self._letters.write(delivery, delivery.payload)
        except TemplateError as wrong:  # a release with a better template may come while it is tried
            return TryAgain(f"template:{type(wrong).__name__}")
        body = json.dumps(posting(letter), ensure_ascii=False).encode()
        return await self._http.post(url, body, {"Content-Type": "application/json; charset=utf-8"})

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    def _url(self, destination: str) -> str | None:
        if "://" in destination:
            return destination
        hook = self._hooks.get(destination)
        return hook.get_secret_value() if hook else None


def posting(letter: Letter) -> dict[str, Any]:
    """Return the JSON of a letter: its subject as header and notification, its text below."""
    _, _, text = letter.text.partition("\n")
    sections = [
        {"type": "section", "text": {"type": "mrkdwn", "text": part}}
        for part in _parts(escaped(text.strip()))
    ]
    header = {"type": "plain_text", "text": letter.subject[:HEADER_CHARS_MAX], "emoji": False}
    return {"text": escaped(letter.subject), "blocks": [{"type": "header", "text": header}, *sections]}


def escaped(text: str) -> str:
    """Return text in which nothing is a link, a mention or an entity: the three signs that Slack escapes."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _parts(text: str) -> list[str]:
    """Cut between lines, and a line longer than a section where no escaped sign is split."""
    parts = [""]
    for line in text.split("\n"):
        kept = line
        if len(line) >= SECTION_CHARS_MAX:
            kept = _HALF_ESCAPED.sub("", line[: SECTION_CHARS_MAX - 2]) + "…"
        if len(parts[-1]) + len(kept) + 1 > SECTION_CHARS_MAX:
            parts.append("")
        parts[-1] += kept + "\n"
    return [part.strip() for part in parts if part.strip()][:SECTIONS_MAX]
