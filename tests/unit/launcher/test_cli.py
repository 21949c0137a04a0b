"""The command teaches, and ends as a shell expects: with a code, one line and a remedy, never a traceback."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from fakes.gateway import FakeGateway
from harness.ports import free_port
from harness.processes import Proc, machine_environment
from parley_common.business import load
from parley_common.contracts.tool_calls import Announcement, ToolSpec
from parley_common.contracts.topics import LEAD_EVENTS, TOOL_CATALOG, TOOL_RESULTS
from parley_launcher.catalog import tools_of, unknown_tools
from parley_launcher.cli import main
from parley_launcher.commands.topics import kept
from parley_launcher.console import duration
from parley_launcher.talk.report import Happening
from parley_launcher.talk.show import happening_line, spoken_text

BUSINESS = """\
name: {name}
title: A shop
agent: {{name: Sam}}
tools:
  - look_up
  - weather.forecast
"""


async def process(*args: str, stdin: str | None = None, **env: str) -> tuple[int, str, str]:
    """Run the command to its end in a process of its own; return its exit code, stdout and stderr."""
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "parley_launcher",
        *args,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**machine_environment(), "COLUMNS": "200", **env},
    )
    async with asyncio.timeout(60):
        out, err = await running.communicate((stdin or "").encode())
    assert running.returncode is not None
    return running.returncode, out.decode(), err.decode()


Parley = Callable[..., tuple[int, str, str]]


@pytest.fixture
def parley(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Parley:
    """Run the command in this process, with nothing on standard input."""

    def run(*args: str, **env: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["parley", *args])
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        for name, value in {"COLUMNS": "200", **env}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "business.yaml").write_text(BUSINESS.format(name="shop"))
    (folder / "prompt.md").write_text("You are Sam. Answer briefly.")
    return folder


def test_help_names_every_command_and_how_to_begin(parley: Parley) -> None:
    code, out, _ = parley("--help")

    assert code == 0
    for word in (
        "up",
        "talk",
        "events",
        "topics",
        "migrate",
        "check",
        "understudy",
        "new",
        "try",
        "erase",
        "parley talk --business cap",
    ):
        assert word in out


@pytest.mark.parametrize(
    "command", ["up", "talk", "events", "topics", "migrate", "new", "check", "try", "erase", "understudy"]
)
def test_each_command_explains_itself(parley: Parley, command: str) -> None:
    code, out, _ = parley(command, "--help")

    assert code == 0
    assert command in ("topics", "migrate") or "Examples" in out


def test_wrong_usage_exits_with_2(parley: Parley) -> None:
    code, _, err = parley("talk", "--wavv", "x")

    assert code == 2
    assert "Traceback" not in err


def test_a_business_without_mistakes_is_fine(parley: Parley, shop: Path) -> None:
    code, out, _ = parley("check", str(shop))

    assert (code, out.strip()) == (0, f"{shop} is fine")


def test_mistakes_are_said_with_file_and_line_and_exit_1(parley: Parley, shop: Path) -> None:
    (shop / "business.yaml").write_text(BUSINESS.format(name="other") + "hourz: {}\n")
    code, out, _ = parley("check", str(shop))

    assert code == 1
    assert f"{shop}/business.yaml:7: error:" in out


def test_warnings_alone_exit_0(parley: Parley, shop: Path) -> None:
    (shop / "prompt.md").write_text("word " * 600)
    code, out, _ = parley("check", str(shop))

    assert code == 0
    assert "warning: 600 words" in out


def test_a_folder_that_is_none_is_a_wrong_setting(parley: Parley, tmp_path: Path) -> None:
    code, _, err = parley("check", str(tmp_path / "nowhere"))

    assert code == 78
    assert "is not a folder" in err


def test_no_gateway_is_one_line_a_remedy_and_exit_1(parley: Parley) -> None:
    code, out, err = parley("talk", "--business", "cap", "--text", "hi", GATEWAY_PORT=str(free_port()))

    assert code == 1
    assert "gateway_unreachable" in err
    assert "parley up" in err
    assert "Traceback" not in out + err


def test_an_address_that_is_none_exits_with_78(parley: Parley) -> None:
    code, _, err = parley("talk", "--business", "cap", "--text", "hi", "--url", "gateway")

    assert code == 78
    assert "is not an address" in err


def test_a_wav_that_is_none_is_said(parley: Parley, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("not audio")
    code, _, err = parley("talk", "--business", "cap", "--wav", str(tmp_path / "a.wav"))

    assert code == 1
    assert "cannot be read as WAV" in err


def test_nothing_to_say_off_a_terminal_is_said(parley: Parley) -> None:
    code, _, err = parley("talk", "--business", "cap")

    assert code == 78
    assert "nothing to say" in err


async def test_lines_on_standard_input_are_typed() -> None:
    async with FakeGateway.running() as gateway:
        code, out, err = await process(
            "talk", "--business", "cap", "--url", gateway.url, "--json", stdin="one\n\ntwo\n"
        )

    assert (code, err) == (0, "")
    happenings = [json.loads(line) for line in out.splitlines()]
    assert [h["name"] for h in happenings if h["type"] == "types"] == ["one", "two"]
    assert happenings[-1]["type"] == "summary"
    assert happenings[-1]["ok"] is True


async def test_a_failed_session_exits_1_with_its_code_and_the_summary() -> None:
    async with FakeGateway.running(breaks_after_open=1011) as gateway:
        code, out, err = await process("talk", "--business", "cap", "--url", gateway.url, "--text", "hi")

    assert code == 1
    assert "internal_error" in err
    assert "timings" in out


async def test_ctrl_c_ends_a_talk_with_130_and_no_traceback(tmp_path: Path) -> None:
    async with FakeGateway.running(never_answers=True, greeting="Hello.") as gateway:
        argv = [sys.executable, "-m", "parley_launcher", "talk", "--business", "cap"]
        talk = Proc([*argv, "--url", gateway.url, "--text", "hi"], name="talk", log_path=tmp_path / "log")
        try:
            await talk.wait_log("Hello.")
            os.kill(talk.pid, signal.SIGINT)
            assert await talk.wait_exit() == 130
        finally:
            await asyncio.to_thread(talk.close)

    assert "Traceback" not in talk.log()


def test_an_unknown_topic_command_shows_help(parley: Parley) -> None:
    code, out, err = parley("topics")

    assert code in (0, 2)
    assert "apply" in out + err


def test_no_kafka_is_one_line_and_a_remedy(parley: Parley) -> None:
    servers = f"127.0.0.1:{free_port()}"
    code, _, err = parley("events", KAFKA_BOOTSTRAP_SERVERS=servers)

    assert code == 1
    assert servers in err
    assert "Traceback" not in err


# -- small things that commands show --------------------------------------------------------------


def test_only_tools_that_are_announced_now_count(shop: Path) -> None:
    now = datetime(2026, 1, 5, 17, 0, tzinfo=UTC)
    spec = ToolSpec.model_validate(
        {"name": "look_up", "description": "", "parameters": {}, "class": "read", "deadline_ms": 1}
    )
    fresh = Announcement(
        service="tools", instance="1", calls_topic="t", tools=(spec,), announced_at=now - timedelta(seconds=5)
    )
    stale = fresh.model_copy(update={"service": "weather", "announced_at": now - timedelta(seconds=16)})

    announced = tools_of((fresh, stale), now)
    (finding,) = unknown_tools(shop, load(shop), announced)

    assert announced == {"tools.look_up"}
    assert str(finding).startswith(
        f"{shop}/business.yaml:6: error: no tool service announces weather.forecast"
    )


@pytest.mark.parametrize(
    ("ms", "words"), [(0, "0 ms"), (999, "999 ms"), (1_250, "1.2 s"), (61_000, "1 min 1 s")]
)
def test_durations_are_said_as_people_read_them(ms: int, words: str) -> None:
    assert duration(ms) == words


def test_how_long_a_topic_keeps_its_records_is_said_in_words() -> None:
    assert [kept(topic) for topic in (TOOL_CATALOG, TOOL_RESULTS, LEAD_EVENTS)] == [
        "newest per key",
        "1 h",
        "30 d",
    ]


def test_what_was_not_heard_is_struck_through() -> None:
    text = spoken_text("one two three", "one two")

    assert text.plain == "one two three  (barged in)"
    assert [span.style for span in text.spans if text.plain[span.start : span.end] == " three"] == [
        "strike dim"
    ]


def test_a_heard_part_that_is_no_beginning_of_the_text_is_shown_beside_it() -> None:
    assert spoken_text("1,497 dollars", "one thousand").plain == "one thousand 1,497 dollars  (barged in)"


@pytest.mark.parametrize(
    ("kind", "data", "line"),
    [
        (
            "tool",
            {"name": "look_up", "phase": "ends", "outcome": "ok", "took_ms": 31},
            "tool    look_up ok 31 ms",
        ),
        ("flush", {"epoch": 2, "item": 3, "played_ms": 740}, "flushed after 740 ms of item 3"),
        ("notice", {"code": "wrap_up", "message": ""}, "notice wrap_up"),
        ("transcript", {"role": "user", "text": "hi", "final": True, "heard": None}, "caller  hi"),
        ("transcript", {"role": "user", "text": "h", "final": False, "heard": None}, None),
        ("state", {"state": "thinking"}, None),
        ("a kind of tomorrow", {}, None),
    ],
)
def test_a_happening_is_one_line_or_none(kind: str, data: dict[str, object], line: str | None) -> None:
    shown = happening_line(Happening(kind, 1_500, data))

    assert (shown and shown.plain.strip()) == (f"1.50  {line}" if line else None)


def test_markup_in_what_was_said_is_shown_as_it_is() -> None:
    shown = io.StringIO()
    said = {"role": "user", "text": "[red]hi[/]", "final": True, "heard": None}
    Console(file=shown, width=80).print(happening_line(Happening("transcript", 0, said)))

    assert "[red]hi[/]" in shown.getvalue()
