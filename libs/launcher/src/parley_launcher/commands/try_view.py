"""What `parley try` shows of a session beside its words: each tool call, what came of it, and its facts.

Reads the session's own records from Kafka, so that arguments and refusals are seen as the services see them. It is
for whoever writes a business, and shows what `parley events` never does: arguments and results. Nothing is kept.

Law: records of other sessions are never shown.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from rich.text import Text

from parley_common.contracts.record import header_dict
from parley_common.contracts.tool_calls import CALL_TYPE, RESULT_TYPE
from parley_common.errors import ParleyError
from parley_common.kafka import Incoming
from parley_common.settings import KafkaSettings
from parley_launcher.console import duration
from parley_launcher.facts.follow import follow
from parley_launcher.facts.render import FactReader

VALUE_CHARS_MAX = 80
_INDENT = " " * 9
_STYLES = {"ok": "magenta", "refused": "yellow"}
_FACTS = ("parley.lead.", "parley.case.")


class Watcher:
    """Turns records into lines, once it is told which session is watched."""

    def __init__(self, show: Callable[[Text], None]) -> None:
        self.session: str | None = None
        self.is_watching = False
        self._show = show
        self._reader = FactReader()

    async def run(self, kafka: KafkaSettings) -> None:
        """Show the session's records until cancelled; a Kafka that cannot be read is said once, and does no harm."""
        try:
            async with follow(kafka) as records:
                self.is_watching = True
                async for record in records:
                    if (line := self.line(record)) is not None:
                        self._show(line)
        except ParleyError as wrong:
            self._show(Text(f"{_INDENT}tool calls are shown without details: {wrong.message}", "dim"))
        finally:
            self.is_watching = False

    def line(self, record: Incoming) -> Text | None:
        """Return the line of a record; null for what is not this session's, or says nothing new."""
        kind = header_dict(record.headers).get("ce_type", "")
        value = _value(record)
        if self.session is None or value.get("session_id") != self.session:
            return None
        if kind == CALL_TYPE:
            return call_line(value)
        if kind == RESULT_TYPE:
            return result_line(value)
        if kind.startswith(_FACTS):
            read = self._reader.read(record)
            return Text(f"{_INDENT}fact    ", "bold blue") + Text(f"{read.kind} {read.details}".rstrip())
        return None


def call_line(call: Mapping[str, Any]) -> Text:
    """Return the line of a tool call: its name and arguments, and which attempt it is when it is not the first."""
    said = ", ".join(f"{name}={_short(value)}" for name, value in dict(call.get("arguments") or {}).items())
    again = f" (attempt {call['attempt']})" if int(call.get("attempt") or 1) > 1 else ""
    return Text(f"{_INDENT}tool    ", "bold magenta") + Text(f"{call.get('tool')}({said}){again}")


def result_line(result: Mapping[str, Any]) -> Text:
    """Return the line of what came of a call: of a refusal its code, what to do first, and what may be spoken."""
    status, took_ms = str(result.get("status")), int(result.get("took_ms") or 0)
    line = Text(f"{_INDENT}   {result.get('tool')} → {status}", _STYLES.get(status, "red"))
    output = result.get("output")
    error = output.get("error") if isinstance(output, Mapping) else None
    if status == "ok" or not isinstance(error, Mapping):
        return line + Text(f", {duration(took_ms)}", "dim")
    first = error.get("next")
    needs = f"; first: {first['tool']}" if isinstance(first, Mapping) and first.get("tool") else ""
    return (
        line + Text(f" {result.get('code') or ''}{needs}: ") + Text(f"“{error.get('say') or ''}”", "italic")
    )


def _value(record: Incoming) -> Mapping[str, Any]:
    try:
        value = json.loads(record.value or b"")
    except ValueError:
        return {}
    return value if isinstance(value, Mapping) else {}


def _short(value: Any) -> str:
    said = json.dumps(value, ensure_ascii=False)
    return said if len(said) <= VALUE_CHARS_MAX else said[: VALUE_CHARS_MAX - 1] + "…"
