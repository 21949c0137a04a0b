"""What came of a call, as it is stored and answered: pure builders of ok, refused, failed and unknown.

Every output is an object with ``say``, the sentences the agent may speak. A fault of ours or of a dependency
never carries more than a code: messages of exceptions can hold personal data.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from pydantic import JsonValue

from parley_common.contracts.record import Envelope, Record, to_json
from parley_common.contracts.tool_calls import REPLY_TO_HEADER, RESULT_TYPE, ToolResult, ToolStatus
from parley_common.contracts.topics import TOOL_RESULTS
from parley_common.errors import DependencyUnavailable, LocalViolation
from parley_common.ids import derived_id
from parley_tools.calls import Address
from parley_tools.schema import Fault, spoken

OUTPUT_BYTES_MAX = 64_000
"""What a model can be expected to read; also far below a broker's record limit of 1 MB."""

SAY_FAILED = "Something went wrong on my side, so I could not do that."
SAY_AWAY = "I cannot reach one of my systems right now. Let's try that again in a moment."
SAY_LATE = "That is taking longer than it should, so I stopped it. We can try again."
SAY_BUSY = "We are very busy right now. Let's try that again in a moment."
SAY_CUT = "That is done, but the answer is too long to read out."
SAY_UNKNOWN = (
    "I asked for that, but I could not confirm that it went through. Please check before we try again."
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a call."""

    status: ToolStatus
    output: dict[str, JsonValue]
    code: str | None = None
    grants: tuple[str, ...] = ()

    def stored(self, took_ms: int) -> dict[str, Any]:
        """Return what the table keeps."""
        return {
            "status": self.status,
            "output": self.output,
            "code": self.code,
            "grants": list(self.grants),
            "took_ms": took_ms,
        }

    @classmethod
    def ok(cls, output: dict[str, JsonValue], grants: Sequence[str] = ()) -> Self:
        """The tool did it. Raises LocalViolation when the output is not an object that can be spoken and sent."""
        if not isinstance(output, dict) or not isinstance(output.get("say"), str):
            raise LocalViolation("a tool's output must be an object with `say`")
        if len(json.dumps(output, allow_nan=False)) > OUTPUT_BYTES_MAX:
            raise LocalViolation(f"a tool's output must be at most {OUTPUT_BYTES_MAX} bytes")
        return cls("ok", output, grants=tuple(grants))

    @classmethod
    def refused(cls, code: str, say: str, message: str | None = None, **more: JsonValue) -> Self:
        """The tool will not do it, and asking the same again cannot help."""
        return cls("refused", _error(code, say, message or say, more), code)

    @classmethod
    def failed(cls, code: str, say: str, *, retryable: bool) -> Self:
        """It could not be done; whether asking again may help is said."""
        return cls("failed", _error(code, say, say, {"retryable": retryable}), code)

    @classmethod
    def unknown(cls) -> Self:
        """An effect elsewhere may or may not have happened."""
        return cls(
            "unknown_outcome",
            _error("unknown_outcome", SAY_UNKNOWN, SAY_UNKNOWN, {"retryable": False}),
            "unknown_outcome",
        )


def _error(code: str, say: str, message: str, more: dict[str, JsonValue]) -> dict[str, JsonValue]:
    return {"error": {"code": code, "message": message, "say": say, **more}, "say": say}


def bounded(output: dict[str, JsonValue], *, is_read: bool) -> dict[str, JsonValue]:
    """Return an output from outside that a model can read; of an effect that is too long to tell, that it happened.

    Raises:
        DependencyUnavailable: something that was only read is too large.
    """
    if len(json.dumps(output)) <= OUTPUT_BYTES_MAX:
        return output
    if is_read:
        raise DependencyUnavailable("the answer is too large", code="provider_talks_too_much")
    return {"is_cut": True, "say": SAY_CUT}


def invalid_arguments(found: tuple[Fault, ...]) -> Outcome:
    """Return the refusal of arguments that do not hold to the schema, worded so that a model can ask again."""
    fields: list[JsonValue] = [{"field": fault.field, "problem": fault.problem} for fault in found]
    named = "; ".join(f"{fault.field} {fault.problem}" for fault in found)
    message = f"The arguments are not valid: {named}. Ask the caller and call the tool again."
    return Outcome.refused("invalid_arguments", spoken(found), message, fields=fields)


def missing_grant(grant: str, established_by: str | None = None) -> Outcome:
    """Return the refusal of a call whose tool needs something established first, and what establishes it."""
    kind, _, _ = grant.partition(":")
    say = {
        "consent": "Before I do that I need your permission.",
        "verified": "Before I do that I need to check who you are.",
    }.get(kind, "Something else has to be done before I can do that.")
    message = f"This tool needs {grant!r}, which no earlier tool of this session established."
    if established_by is None:
        return Outcome.refused(f"needs_{grant}", say, message)
    message += (
        f" Ask the caller for what {established_by} needs, call {established_by}, then call this again."
    )
    return Outcome.refused(f"needs_{grant}", say, message, next={"tool": established_by})


def result_record(
    key: tuple[str, str],
    tool: str,
    stored: dict[str, Any],
    address: Address,
    *,
    source: str,
    now: datetime,
    traceparent: str | None,
) -> Record:
    """Return the record that answers one attempt: its replica's partition, its replica's name in a header."""
    session_id, call_id = key
    result = ToolResult.model_validate(
        {**stored, "call_id": call_id, "session_id": session_id, "tool": tool, "attempt": address.attempt}
    )
    envelope = Envelope(
        id=derived_id(session_id, f"result:{call_id}:{address.attempt}"),
        type=RESULT_TYPE,
        source=f"/parley/{source}",
        time=now,
        subject=session_id,
        traceparent=traceparent,
    )
    headers = (*envelope.headers(), (REPLY_TO_HEADER, address.reply_to.encode()))
    return Record(TOOL_RESULTS.name, session_id.encode(), to_json(result), headers, address.partition)
