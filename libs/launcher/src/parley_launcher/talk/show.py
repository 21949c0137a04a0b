"""How a talk looks in a terminal: one line per happening, and a summary at the end. Rendering only.

Law: what was cut off by a barge-in is struck through, never shown as if it had been heard.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from parley_common.contracts.audio_link import SAMPLES_PER_MS
from parley_launcher.console import duration
from parley_launcher.talk.report import Happening, TalkReport

_QUIET_KINDS = frozenset({"item", "state", "oddity", "pause", "resume"})


def happening_line(happening: Happening) -> Text | None:
    """Return the line for a happening; null for those a person need not see."""
    if happening.kind in _QUIET_KINDS:
        return None
    body = _body(happening.kind, happening.data)
    if body is None:
        return None
    return Text(f"{happening.at_ms / 1000:7.2f}  ", style="dim") + body


def spoken_text(text: str, heard: str | None) -> Text:
    """Return an agent's words; after a barge-in the heard part, and the rest struck through."""
    if heard is None:
        return Text(text)
    rest = text[len(heard) :] if text.startswith(heard) else f" {text}"
    return Text(heard) + Text(rest, style="strike dim") + Text("  (barged in)", style="yellow")


def _body(kind: str, data: Mapping[str, Any]) -> Text | None:
    match kind:
        case "ready":
            return Text(f"session {data['session']}", style="dim")
        case "says":
            return Text(f"caller says {data['name']}", style="cyan")
        case "types":
            return None
        case "transcript":
            return _transcript(data)
        case "tool":
            return _tool(data)
        case "flush":
            return Text(f"flushed after {duration(data['played_ms'])} of item {data['item']}", style="yellow")
        case "notice":
            return Text(f"notice {data['code']} {data['message']}".rstrip(), style="yellow")
        case "error":
            return None if data["fatal"] else Text(f"{data['code']}: {data['message']}", style="red")
        case "ended":
            return Text(f"ended: {data['reason']}", style="dim")
        case _:
            return None


def _transcript(data: Mapping[str, Any]) -> Text | None:
    if not data["final"] and data["heard"] is None:
        return None
    who = Text("agent   ", "bold green") if data["role"] == "assistant" else Text("caller  ", "bold cyan")
    return who + spoken_text(data["text"], data["heard"])


def _tool(data: Mapping[str, Any]) -> Text:
    name = Text("tool    ", "bold magenta") + Text(data["name"])
    if data["phase"] == "begins":
        return name + Text(" …", style="dim")
    took = f" {duration(data['took_ms'])}" if data["took_ms"] is not None else ""
    return name + Text(f" {data['outcome'] or 'done'}{took}", style="magenta")


def summary(report: TalkReport) -> Table:
    """Return the timings of a talk as a table."""
    table = Table(title="timings", title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in ("turn", "voice to voice", "first words", "barge-in to flush"):
        table.add_column(column, justify="left" if column == "turn" else "right", no_wrap=True)
    for turn in report.turns:
        times = (turn.voice_to_voice_ms, turn.first_words_ms, turn.barge_in_to_flush_ms)
        table.add_row(_short(turn.name), *("" if ms is None else duration(ms) for ms in times))
    return table


def summary_lines(report: TalkReport) -> list[Text]:
    """Return what the table of turns does not say."""
    heard = sum(item.played for item in report.items) // SAMPLES_PER_MS
    lines = [Text(f"ready in {duration(report.connect_ms)}, {duration(heard)} of agent audio played", "dim")]
    lines += [
        Text(f"tool {tool.name}: {tool.outcome or 'did not end'}, {duration(tool.took_ms or 0)}", "dim")
        for tool in report.tools
    ]
    if report.oddities:
        odd = ", ".join(f"{reason} × {count}" for reason, count in sorted(report.oddities.items()))
        lines.append(Text(f"breaches of the protocol: {odd}", "red"))
    return lines


def _short(name: str, chars_max: int = 32) -> str:
    return name if len(name) <= chars_max else name[: chars_max - 1] + "…"
