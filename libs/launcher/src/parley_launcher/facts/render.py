"""One record of Kafka as one line for people: time, session, what happened, and the one or two things that matter.

Pure. It shows only fields listed here by name, so that a new field of a contract is not shown by accident.

Law: no personal data, no words of a conversation, no tool arguments or results: numbers, names of things, codes.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.text import Text

from parley_common.contracts.facts import BY_TYPE
from parley_common.contracts.record import header_dict
from parley_common.contracts.tool_calls import CALL_TYPE, RESULT_TYPE
from parley_common.kafka import Incoming
from parley_launcher.console import duration

SESSIONS_REMEMBERED_MAX = 10_000
NO_SESSION = "-"


@dataclass(frozen=True, slots=True)
class FactLine:
    """One record, read as far as a line needs it."""

    at: datetime
    session: str | None
    """Null when the record is about no session that is known here."""
    kind: str
    """The type without ``parley.`` and version, such as ``lead.captured``."""
    details: str
    style: str
    topic: str
    record: Mapping[str, Any]
    """The attributes, as --json prints them; no value."""

    def text(self) -> Text:
        """Return the coloured line."""
        clock = Text(self.at.astimezone().strftime("%H:%M:%S"), style="dim")
        session = Text(f" {short(self.session):<8} ", style="dim")
        return clock + session + Text(f"{self.kind:<20} ", style=self.style) + Text(self.details)

    def as_json(self) -> dict[str, Any]:
        """Return the line as JSON. It holds what the line holds, and where the record stands."""
        at = self.at.astimezone(UTC).isoformat(timespec="milliseconds")
        return {
            "at": at,
            "session_id": self.session,
            "type": self.kind,
            "details": self.details,
            "topic": self.topic,
            **self.record,
        }


class FactReader:
    """Reads records into lines; remembers which session a lead or case came from, as deliveries do not say."""

    def __init__(self) -> None:
        self._session_of: OrderedDict[str, str] = OrderedDict()

    def read(self, record: Incoming) -> FactLine:
        """Return the line of a record, whatever it holds."""
        headers = header_dict(record.headers)
        type_name = headers.get("ce_type", "")
        value = _object(record.value)
        style, details = _STYLES.get(_family(type_name), "white"), _details(type_name, value)
        if record.topic.endswith(".dead"):
            style, details = "bold red", "dead letter" + (f": {details}" if details else "")
        return FactLine(
            at=_time(headers.get("ce_time"), record.timestamp_ms),
            session=self._session(value, record.key),
            kind=_kind(type_name) if type_name else f"? {record.topic}",
            details=details,
            style="red" if _is_trouble(value) else style,
            topic=record.topic,
            record={
                "partition": record.partition,
                "offset": record.offset,
                "key": (record.key or b"").decode("utf-8", "replace"),
                "ce_id": headers.get("ce_id"),
                "ce_type": type_name or None,
                "traceparent": headers.get("traceparent"),
            },
        )

    def _session(self, value: Mapping[str, Any], key: bytes | None) -> str | None:
        subject = (key or b"").decode("utf-8", "replace")
        session = value.get("session_id")
        if not isinstance(session, str):
            return self._session_of.get(subject)
        if subject and subject != session:
            self._session_of[subject] = session
            self._session_of.move_to_end(subject)
            if len(self._session_of) > SESSIONS_REMEMBERED_MAX:
                self._session_of.popitem(last=False)
        return session


def short(session: object) -> str:
    """Return the end of a session's id: its beginning is a time and alike for sessions of one minute."""
    return session[-8:] if isinstance(session, str) and session else NO_SESSION


def is_of_session(line: FactLine, wanted: str) -> bool:
    """Say whether a line is about the session that ``wanted`` names: its id, or the end of it."""
    return bool(line.session) and str(line.session).endswith(wanted)


_STYLES = {
    "session": "blue",
    "turn": "cyan",
    "tool": "magenta",
    "lead": "green",
    "case": "green",
    "delivery": "yellow",
}


def _family(type_name: str) -> str:
    return _kind(type_name).split(".")[0]


def _kind(type_name: str) -> str:
    kind = type_name.removeprefix("parley.")
    stem, _, version = kind.rpartition(".")
    return stem if stem and version.startswith("v") and version[1:].isdigit() else kind


def _object(value: bytes | None) -> dict[str, Any]:
    try:
        read = json.loads(value or b"{}")
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}


def _time(stated: str | None, timestamp_ms: int) -> datetime:
    try:
        at = datetime.fromisoformat(stated or "")
        return at if at.tzinfo else at.replace(tzinfo=UTC)
    except ValueError:
        return datetime.fromtimestamp(timestamp_ms / 1000, UTC)


def _is_trouble(value: Mapping[str, Any]) -> bool:
    status, reason = str(value.get("status")), str(value.get("reason"))
    return status in {"failed", "unknown_outcome", "expired"} or reason in {"failed", "lost"}


def _details(type_name: str, value: Mapping[str, Any]) -> str:
    show = _DETAILS.get(type_name)
    if show is None:
        return "" if type_name in BY_TYPE else "unknown type"
    parts = (str(part) for part in show(value) if part not in (None, "", False))
    return _printable("  ".join(parts))


def _printable(text: str, chars_max: int = 160) -> str:
    """Keep foreign text from moving the cursor or filling the screen."""
    clean = "".join(char if char.isprintable() else "?" for char in text)
    return clean if len(clean) <= chars_max else clean[: chars_max - 1] + "…"


def _ms(value: object) -> str | None:
    return duration(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _count(value: object, noun: str) -> str | None:
    return f"{value} {noun}{'' if value == 1 else 's'}" if isinstance(value, int) and value else None


def _usd(value: object) -> str | None:
    return f"${value:.4f}" if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _code(value: Mapping[str, Any]) -> str | None:
    return f"code {value['code']}" if value.get("code") else None


Show = Callable[[Mapping[str, Any]], tuple[object, ...]]

_SESSION: dict[str, Show] = {
    "parley.session.started.v1": lambda v: (
        v.get("business"),
        v.get("channel"),
        v.get("mode"),
        v.get("model"),
    ),
    "parley.turn.completed.v1": lambda v: (
        f"turn {v.get('turn')}",
        (ms := _ms(v.get("voice_to_voice_ms"))) and f"voice to voice {ms}",
        v.get("barged_in") and f"barged in after {_ms(v.get('heard_ms'))} of {_ms(v.get('spoken_ms'))}",
    ),
    "parley.tool.used.v1": lambda v: (
        v.get("tool"),
        v.get("status"),
        _code(v),
        _ms(v.get("round_trip_ms")),
        f"{v['attempts']} attempts" if isinstance(v.get("attempts"), int) and v["attempts"] > 1 else None,
    ),
    "parley.session.feedback.v1": lambda v: (f"rating {v.get('rating')}",),
    "parley.session.ended.v1": lambda v: (
        v.get("reason"),
        _code(v),
        _ms(v.get("duration_ms")),
        _count(v.get("turns"), "turn"),
        _usd(v.get("cost_usd")),
    ),
}
_TOOL: dict[str, Show] = {
    CALL_TYPE: lambda v: (
        v.get("tool"),
        f"attempt {v['attempt']}" if isinstance(v.get("attempt"), int) and v["attempt"] > 1 else None,
    ),
    RESULT_TYPE: lambda v: (v.get("tool"), v.get("status"), _code(v), _ms(v.get("took_ms"))),
}
_SUBJECT: dict[str, Show] = {
    "parley.lead.captured.v1": lambda v: (v.get("business"), f"lead {short(v.get('lead_id'))}"),
    "parley.lead.updated.v1": lambda v: (
        f"lead {short(v.get('lead_id'))}",
        _count(len(v["changed"]), "change") if isinstance(v.get("changed"), list) else None,
    ),
    "parley.lead.qualified.v1": lambda v: (f"score {v.get('score')}", v.get("disposition")),
    "parley.lead.disqualified.v1": lambda v: (f"score {v.get('score')}", v.get("disposition")),
    "parley.lead.call_scheduled.v1": lambda v: (v.get("status"), v.get("starts_at"), v.get("time_zone")),
    "parley.lead.erased.v1": lambda v: (f"lead {short(v.get('lead_id'))}",),
    "parley.case.opened.v1": lambda v: (v.get("kind"), v.get("priority"), v.get("queue")),
    "parley.case.updated.v1": lambda v: (v.get("kind"), v.get("status")),
    "parley.case.closed.v1": lambda v: (v.get("kind"), f"case {short(v.get('case_id'))}"),
}


def _delivery(value: Mapping[str, Any]) -> tuple[object, ...]:
    told = _kind(str(value.get("fact_type_told") or ""))
    attempts = value.get("attempts")
    tries = _count(attempts, "attempt") if isinstance(attempts, int) and attempts > 1 else None
    return (value.get("channel"), value.get("route"), f"of {told}" if told else None, tries)


_DELIVERY: dict[str, Show] = {
    f"parley.delivery.{what}.v1": _delivery for what in ("delivered", "failed", "cancelled")
}
_DETAILS: dict[str, Show] = {**_SESSION, **_TOOL, **_SUBJECT, **_DELIVERY}
