"""The CloudEvents 1.0 envelope in Kafka's binary content mode, and the base of every fact.

Attributes travel in ``ce_*`` headers, the fact as the JSON value, W3C trace context in ``traceparent`` and
``tracestate``. Reading is tolerant (unknown fields are kept out, not refused); writing is strict.

Source: CloudEvents 1.0.2 and its Kafka protocol binding, section 3.2 (binary content mode).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from parley_common.contracts.topics import Topic
from parley_common.errors import InvalidRecord
from parley_common.ids import new_id

CONTENT_TYPE = "application/json"
SOURCE_PREFIX = "/parley/"

Headers = tuple[tuple[str, bytes], ...]
C = TypeVar("C", bound="Contract")


class Contract(BaseModel):
    """A frozen model that crosses a border: unknown fields are ignored, so that old readers read new records."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class Fact(Contract):
    """A past-tense record. Each concrete type names its CloudEvents type, its topic and its key field."""

    fact_type: ClassVar[str] = ""
    topic: ClassVar[Topic]
    key_field: ClassVar[str] = ""

    @property
    def key(self) -> str:
        """Return what orders this fact among others: the id of the session, lead or case it is about."""
        return str(getattr(self, self.key_field))


@dataclass(frozen=True, slots=True)
class Envelope:
    """The CloudEvents attributes of one record."""

    id: str
    type: str
    source: str
    time: datetime
    subject: str
    traceparent: str | None = None
    tracestate: str | None = None

    def headers(self) -> Headers:
        """Return the Kafka headers, in a fixed order."""
        pairs = [
            ("ce_specversion", "1.0"),
            ("ce_id", self.id),
            ("ce_type", self.type),
            ("ce_source", self.source),
            ("ce_time", self.time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")),
            ("ce_subject", self.subject),
            ("content-type", CONTENT_TYPE),
        ]
        pairs += [("traceparent", self.traceparent)] if self.traceparent else []
        pairs += [("tracestate", self.tracestate)] if self.tracestate else []
        return tuple((name, value.encode()) for name, value in pairs)

    @classmethod
    def of_headers(cls, headers: Iterable[tuple[str, bytes]] | Mapping[str, str | bytes]) -> Self:
        """Read the envelope. Raises InvalidRecord when a required attribute is missing or unreadable."""
        got = header_dict(headers)
        try:
            return cls(
                id=got["ce_id"],
                type=got["ce_type"],
                source=got["ce_source"],
                time=datetime.fromisoformat(got["ce_time"]),
                subject=got.get("ce_subject", ""),
                traceparent=got.get("traceparent"),
                tracestate=got.get("tracestate"),
            )
        except (KeyError, ValueError) as wrong:
            raise InvalidRecord(f"not a CloudEvents envelope: {wrong}", code="invalid_envelope") from wrong


@dataclass(frozen=True, slots=True)
class Record:
    """A record ready for Kafka. ``partition`` is null where the key chooses it; ``value`` null is a tombstone."""

    topic: str
    key: bytes
    value: bytes | None
    headers: Headers
    partition: int | None = None


def header_dict(headers: Iterable[tuple[str, bytes]] | Mapping[str, str | bytes]) -> dict[str, str]:
    """Return headers as text; of repeated names the last counts; undecodable bytes are replaced.

    Kafka allows a header without a value, whatever its type says: such a header counts as missing.
    """
    pairs: Iterable[tuple[str, str | bytes | None]] = (
        headers.items() if isinstance(headers, Mapping) else headers
    )
    return {
        name: value if isinstance(value, str) else value.decode("utf-8", "replace")
        for name, value in pairs
        if value is not None
    }


def fact_record(
    fact: Fact,
    *,
    source: str,
    time: datetime,
    fact_id: str | None = None,
    traceparent: str | None = None,
    tracestate: str | None = None,
) -> Record:
    """Return the record of ``fact``: a new ``ce_id`` unless given, the fact's own topic and key."""
    envelope = Envelope(
        id=fact_id or new_id(),
        type=fact.fact_type,
        source=SOURCE_PREFIX + source,
        time=time,
        subject=fact.key,
        traceparent=traceparent,
        tracestate=tracestate,
    )
    return Record(fact.topic.name, fact.key.encode(), to_json(fact), envelope.headers())


def to_json(contract: Contract) -> bytes:
    """Return the JSON value of a contract; null fields are left out, as consumers treat both alike."""
    return contract.model_dump_json(by_alias=True, exclude_none=True).encode()


def read_contract(model: type[C], value: bytes | None) -> C:
    """Read a JSON value. Raises InvalidRecord that names the fields at fault, never their contents."""
    if value is None:
        raise InvalidRecord(f"a tombstone where a {model.__name__} is due", code="unexpected_tombstone")
    try:
        return model.model_validate_json(value)
    except ValidationError as wrong:
        raise InvalidRecord(f"not a {model.__name__}: {_faults(wrong)}", code="invalid_value") from wrong


def _faults(wrong: ValidationError) -> str:
    faults: list[Any] = wrong.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, f['loc'])) or 'value'}: {f['type']}" for f in faults[:5])
