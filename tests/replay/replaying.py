"""Plays a recorded Realtime session through the codec and the core, and writes down what the core asked for.

`python tests/replay/replaying.py` writes the golden files anew; a changed line is a reviewed difference.
The recordings carry no usable audio (see recordings/SOURCES.md): each audio delta counts as 100 ms.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from parley_session import realtime_codec
from parley_session.core import effects as ef
from parley_session.core import events as ev
from parley_session.core.config import Limits, SessionConfig, ToolTarget
from parley_session.core.state import initial
from parley_session.core.step import next_deadline_ms, step

HERE = Path(__file__).parent
RECORDINGS = HERE / "recordings"
GOLDEN = HERE / "golden"
EVENT_EVERY_MS = 20


def recordings() -> list[Path]:
    return sorted(RECORDINGS.glob("*.jsonl"))


def lines(path: Path) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Yield (ms, direction, event) of a recording; those without times get a steady beat."""
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines()):
        line = json.loads(text)
        at_ms = int(line["t"] * 1000) if "t" in line else number * EVENT_EVERY_MS
        yield at_ms, line["dir"], line["event"]


def received(event: dict[str, Any]) -> ev.Event:
    """Return what the codec makes of a recorded server event, its audio replaced by 100 ms of silence."""
    told = realtime_codec.decode(json.dumps(event))
    return replace(told, pcm=bytes(4_800)) if isinstance(told, ev.AudioArrived) else told


def sent(event: dict[str, Any]) -> list[ev.Event]:
    """Return what must have happened for the recorded client to send this."""
    item = event.get("item") or {}
    if event["type"] != "conversation.item.create":
        return []
    if item.get("type") == "function_call_output":
        return [ev.ToolAnswered(item["call_id"], "ok", item["output"])]
    texts = [part.get("text") or "" for part in item.get("content") or [] if part["type"] == "input_text"]
    return [ev.CallerTyped(text) for text in texts if item.get("role") == "user"]


def replay(path: Path) -> Iterator[str]:
    """Yield one line for each thing that happened: the event, and the effects the core wanted."""
    names = {
        event["item"]["name"]
        for _, direction, event in lines(path)
        if direction == "recv" and (event.get("item") or {}).get("type") == "function_call"
    }
    tools = tuple(ToolTarget(name, "tools", name, "read", 60_000) for name in sorted(names))
    config = SessionConfig("replayed", greet_first=False, tools=tools, limits=Limits(idle_hangup_ms=None))
    state = initial(config, 0)
    for at_ms, direction, event in lines(path):
        while (due_ms := next_deadline_ms(state)) is not None and due_ms <= at_ms:
            state, effects = step(state, ev.DeadlinePassed(), due_ms)
            yield f"{due_ms:>6} DeadlinePassed → {_told(effects)}"
        for happened in [received(event)] if direction == "recv" else sent(event):
            state, effects = step(state, happened, at_ms)
            if effects:
                yield f"{at_ms:>6} {type(happened).__name__} → {_told(effects)}"


def _told(effects: tuple[ef.Effect, ...]) -> str:
    return "; ".join(map(_one, effects))


def _one(value: Any) -> str:
    """Return a dataclass with those of its fields that say something."""
    shown = []
    for field in dataclasses.fields(value):
        part = getattr(value, field.name)
        if part is not None and part != field.default:
            shown.append(f"{field.name}={_part(part)}")
    return f"{type(value).__name__}({', '.join(shown)})"


def _part(part: object) -> str:
    if isinstance(part, bytes):
        return f"<{len(part)} bytes>"
    return _one(part) if dataclasses.is_dataclass(part) else repr(part)


def golden_of(path: Path) -> Path:
    return GOLDEN / f"{path.stem}.txt"


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for recording in recordings():
        golden_of(recording).write_text("\n".join(replay(recording)) + "\n", encoding="utf-8")
        print(golden_of(recording))
