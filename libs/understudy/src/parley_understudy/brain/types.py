"""What the brain is shown and what it answers: plain frozen values, nothing else.

The server fills a ``View`` from one conversation and speaks or sends the ``Decision``. These types know
neither the wire nor the tools of any business.

Law: a ``View`` holds everything a decision may depend on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True)
class Tool:
    """A function the agent may call; ``parameters`` is a JSON Schema object."""

    name: str
    description: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Said:
    """One message item, as far as it was heard: an assistant's text may end in mid-sentence."""

    role: Literal["user", "assistant", "system"]
    text: str


@dataclass(frozen=True)
class Called:
    """A function_call item; ``arguments`` is JSON text."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Answered:
    """A function_call_output item; ``output`` is usually JSON text."""

    call_id: str
    output: str


Item = Said | Called | Answered


@dataclass(frozen=True)
class View:
    """All that one decision depends on.

    ``tool_choice`` is auto, none, required or the name of a tool. ``now`` anchors words such as
    "tomorrow"; its time zone is given to the instants that the brain writes.
    """

    instructions: str
    tools: tuple[Tool, ...]
    items: tuple[Item, ...]
    now: datetime
    tool_choice: str = "auto"


@dataclass(frozen=True)
class Call:
    """A tool to call now, with arguments that hold to its schema."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Decision:
    """What to say, and what to call after saying it; ``say`` may be empty when ``calls`` are there."""

    say: str
    calls: tuple[Call, ...]
