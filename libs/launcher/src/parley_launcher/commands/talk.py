"""`parley talk`: hold a session with a business's agent from a terminal, by voice files or by typing."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from parley_common import audio
from parley_common.errors import ConfigInvalid
from parley_launcher.console import print_error, stderr, stdout
from parley_launcher.settings import load_ports
from parley_launcher.talk import show, turns
from parley_launcher.talk.prompt import HELP, PromptCaller, kept_terminal
from parley_launcher.talk.report import Failure, Happening, TalkReport
from parley_launcher.talk.run import TalkOptions, run_talk
from parley_launcher.talk.turns import CallerTurn

STDIN_TURNS_MAX = 1_000


def talk(
    business: Annotated[
        str, typer.Option(help="The business to talk to: a folder's name under businesses/.")
    ],
    wav: Annotated[
        list[Path] | None, typer.Option(help="Say this WAV file; repeat it for more, said in turn.")
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="Type this; repeat it for more. Typed after all WAVs are said.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write what the caller would have heard to this WAV.")
    ] = None,
    mix: Annotated[
        Path | None, typer.Option(help="Write both sides to this stereo WAV: caller left, agent right.")
    ] = None,
    barge_in_ms: Annotated[
        int | None,
        typer.Option(min=0, help="Say each WAV this far into the agent's audio instead of after it."),
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="The gateway, or its audio socket (ws://host:port/v1/audio).")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per happening, then a summary.")
    ] = False,
    max_s: Annotated[float, typer.Option(min=1, help="Give up after this many seconds.")] = 600.0,
) -> None:
    """Talk to a business's agent from this terminal.

    With --wav the files are streamed in real time as the caller's microphone,
    each when the agent has finished. With --text you type. With neither you
    get a prompt.

    \b
    Examples:
      parley talk --business cap
      parley talk --business cap --text "What is a DSCR loan?"
      parley talk --business cap --wav ask.wav --out agent.wav
      parley talk --business cap --wav ask.wav --barge-in-ms 1200 --mix both.wav
    """
    script = _script(wav or [], text or [], barge_in_ms)
    prompt = PromptCaller(stdout) if not script and sys.stdin.isatty() else None
    if not script and prompt is None:
        script = tuple(turns.typed(line.strip()) for line in stdin_lines())
        if not script:
            raise ConfigInvalid(
                "there is nothing to say", remedy="give --wav or --text, or start it on a terminal"
            )
    address = url or f"http://127.0.0.1:{load_ports().gateway_port}"
    options = TalkOptions(business, script, address, out=out, mix=mix, max_s=max_s)
    if prompt and not as_json:
        stdout.print(HELP, style="dim")
    with kept_terminal():
        report = asyncio.run(run_talk(options, observer=_printer(as_json), caller=prompt))
    _print_end(report, as_json)
    if not report.ok:
        raise typer.Exit(1)


def _script(wavs: Sequence[Path], texts: Sequence[str], barge_in_ms: int | None) -> tuple[CallerTurn, ...]:
    said = [turns.spoken(path.name, audio.read_wav(path), barge_in_ms) for path in wavs]
    return (*said, *(turns.typed(line) for line in texts))


def stdin_lines() -> list[str]:
    """Return what stands on standard input, a turn a line."""
    lines = []
    for line in sys.stdin:
        if line.strip():
            lines.append(line)
        if len(lines) == STDIN_TURNS_MAX:
            break
    return lines


def _printer(as_json: bool) -> Callable[[Happening], None]:
    def print_json(happening: Happening) -> None:
        print(json.dumps(happening.as_json(), ensure_ascii=False), flush=True)

    def print_line(happening: Happening) -> None:
        if (line := show.happening_line(happening)) is not None:
            stdout.print(line)

    return print_json if as_json else print_line


def _print_end(report: TalkReport, as_json: bool) -> None:
    if as_json:
        print(json.dumps(report.as_json(), ensure_ascii=False), flush=True)
        return
    if report.turns:
        stdout.print(show.summary(report))
    if report.session_id:
        for line in show.summary_lines(report):
            stdout.print(line)
    if report.failure:
        print_error(as_error(report.failure), stderr)


def as_error(failure: Failure) -> ConfigInvalid:
    """Return why a session failed as an error to print."""
    return ConfigInvalid(f"{failure.code}: {failure.message}", remedy=failure.remedy)
