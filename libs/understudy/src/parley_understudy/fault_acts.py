"""What single faults do: to an event as it leaves, and to the response that one belongs to.

When they are done is decided in faults.py, in which order in line.py.

Law: a table per kind; what is not in either table is about the whole stream and lives in line.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from parley_understudy.brain.types import Call, Decision
from parley_understudy.directions import Direction, cancelled, failed, incomplete
from parley_understudy.items import audio_bytes, base64_of
from parley_understudy.troubles import Scene, failure_of
from parley_understudy.wire import Out, Raw, Send


def _duplicated(frames: list[Out], copies: int) -> list[Out]:
    return [each for each in frames for _ in range(copies + 1)]


def _lost(_frames: list[Out], _value: Any) -> list[Out]:
    return []


def _malformed(frames: list[Out], _value: Any) -> list[Out]:
    """Put a copy that breaks off in the middle before each frame: the session itself goes on."""
    texts = [msgspec.json.encode(each.event).decode() for each in frames if isinstance(each, Send)]
    return [*(Raw(text[: len(text) // 2]) for text in texts), *frames]


def _odd_audio(frames: list[Out], _value: Any) -> list[Out]:
    """Cut one byte off audio: half a sample is left at its end."""
    return [_with_odd_audio(each) if isinstance(each, Send) else each for each in frames]


def _with_odd_audio(sent: Send) -> Out:
    if "audio.delta" not in sent.event["type"] or len(sent.event["delta"]) < 4:
        return sent
    return Send({**sent.event, "delta": base64_of(audio_bytes(sent.event["delta"], "delta")[:-1])})


CHANGING: dict[str, Callable[[list[Out], Any], list[Out]]] = {
    "duplicate": _duplicated,
    "lose": _lost,
    "malformed": _malformed,
    "odd_audio": _odd_audio,
}
"""What is done to an event as it leaves."""


def _fail(direction: Direction, value: Any, scene: Scene) -> None:
    direction.ending = failed(*failure_of(value, scene))


def _leave_incomplete(direction: Direction, value: Any, _scene: Scene) -> None:
    direction.ending = incomplete(value)


def _cancel(direction: Direction, value: Any, _scene: Scene) -> None:
    direction.ending = cancelled(value)


def _say(direction: Direction, value: Any, _scene: Scene) -> None:
    calls = direction.decision.calls if direction.decision else ()
    direction.decision = Decision(value, calls)


def _call(direction: Direction, value: Any, _scene: Scene) -> None:
    said = direction.decision.say if direction.decision else ""
    direction.decision = Decision(said, tuple(Call(each.name, each.arguments) for each in value))


def _messages(direction: Direction, value: Any, _scene: Scene) -> None:
    direction.messages_count = value


def _late_deltas(direction: Direction, value: Any, _scene: Scene) -> None:
    direction.late_deltas_count = value


DIRECTING: dict[str, Callable[[Direction, Any, Scene], None]] = {
    "fail": _fail,
    "incomplete": _leave_incomplete,
    "cancel": _cancel,
    "say": _say,
    "call": _call,
    "messages": _messages,
    "late_deltas": _late_deltas,
}
"""What is asked of a response."""
