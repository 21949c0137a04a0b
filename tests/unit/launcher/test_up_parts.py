"""The parts of `parley up` that decide: the plan, ports, the lock, restarts, logs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.ports import free_port
from parley_common.errors import ConfigInvalid
from parley_common.settings import KafkaSettings, ParleySettings
from parley_launcher.settings import ServicePorts, UpSettings, load_up_settings
from parley_launcher.up.lock import instance_lock
from parley_launcher.up.logs import (
    ECHO_LINES_MAX,
    ECHO_MAX_CHARS,
    ECHO_WINDOW_S,
    LINE_MAX_BYTES,
    EchoBudget,
    LineSplitter,
    LogFile,
    Trouble,
    trouble_in,
)
from parley_launcher.up.plan import Choices, make_plan
from parley_launcher.up.ports import PortUse, check_ports
from parley_launcher.up.restarts import Restarts
from parley_launcher.up.run import port_uses
from parley_launcher.up.table import a_business, command_name, how_to_talk, what_runs

SETTINGS = UpSettings(
    kafka_port=9092,
    parley=ParleySettings(state_dir=Path("/state")),
    kafka=KafkaSettings(bootstrap_servers="127.0.0.1:9092"),
    ports=ServicePorts(),
)


# -- the plan -------------------------------------------------------------------------------------


def test_by_default_everything_runs_here_with_the_understudy_as_upstream() -> None:
    plan = make_plan(SETTINGS, {}, Choices())

    assert plan.broker is not None
    assert [spec.name for spec in plan.processes] == ["understudy", "tools", "notify", "session", "gateway"]
    assert [job.name for job in plan.jobs] == ["migrate tools", "migrate notify"]
    env = plan.services[0].env
    assert env["SESSION_UPSTREAM_URL"] == "ws://127.0.0.1:8090/v1/realtime"
    assert env["GATEWAY_SESSION_SERVICES"] == "ws://127.0.0.1:8081"
    assert env["KAFKA_BOOTSTRAP_SERVERS"] == "127.0.0.1:9092"
    assert env["NOTIFY_MAILDIR"] == "/state/mail"
    assert plan.services[-1].argv == (sys.executable, "-m", "parley_gateway.app")


def test_a_kafka_of_the_users_is_used_and_none_is_started() -> None:
    settings = SETTINGS.model_copy(
        update={"kafka": KafkaSettings(bootstrap_servers="kafka.example.com:9093")}
    )
    plan = make_plan(settings, {"KAFKA_BOOTSTRAP_SERVERS": "kafka.example.com:9093"}, Choices())

    assert plan.broker is None
    assert plan.kafka.bootstrap_servers == "kafka.example.com:9093"
    assert "PARLEY_UP_KAFKA_PORT" not in {use.setting for use in port_uses(plan)}


def test_with_an_openai_key_the_upstream_is_openai_and_no_understudy_runs() -> None:
    plan = make_plan(SETTINGS, {"OPENAI_API_KEY": "sk-test"}, Choices())

    assert plan.understudy is None
    env = plan.services[0].env
    assert env["SESSION_UPSTREAM_URL"] == "wss://api.openai.com/v1/realtime"
    assert env["SESSION_UPSTREAM_API_KEY"] == "sk-test"
    assert "sk-test" not in plan.upstream


def test_an_upstream_set_by_hand_stays() -> None:
    plan = make_plan(
        SETTINGS, {"SESSION_UPSTREAM_URL": "wss://example.com/v1", "OPENAI_API_KEY": "k"}, Choices()
    )

    assert plan.understudy is None
    assert "SESSION_UPSTREAM_URL" not in plan.services[0].env
    assert "SESSION_UPSTREAM_API_KEY" not in plan.services[0].env


def test_what_the_user_set_is_not_overwritten() -> None:
    inherited = {"NOTIFY_MAILDIR": "/mail", "GATEWAY_SESSION_SERVICES": "ws://a:1,ws://b:1"}
    env = make_plan(SETTINGS, inherited, Choices()).services[0].env

    assert inherited.keys().isdisjoint(env)


def test_ports_follow_each_services_own_variable() -> None:
    settings = SETTINGS.model_copy(update={"ports": ServicePorts(session_port=9081, understudy_port=9090)})
    plan = make_plan(settings, {}, Choices())

    assert plan.services[0].env["GATEWAY_SESSION_SERVICES"] == "ws://127.0.0.1:9081"
    assert plan.understudy is not None
    assert plan.understudy.env["UNDERSTUDY_PORT"] == "9090"
    assert plan.understudy.ready_urls == ("http://127.0.0.1:9090/readyz",)


def test_light_is_for_the_understudy_alone() -> None:
    plan = make_plan(SETTINGS, {}, Choices(light=True))

    assert plan.understudy is not None
    assert plan.understudy.env["UNDERSTUDY_LIGHT"] == "1"
    assert "UNDERSTUDY_LIGHT" not in plan.services[0].env


@pytest.mark.parametrize(
    ("only", "started"),
    [
        (("tools", "notify"), ["tools", "notify"]),
        (("session",), ["understudy", "session"]),
        (("gateway",), ["gateway"]),
        ((), []),
    ],
)
def test_only_names_what_is_started(only: tuple[str, ...], started: list[str]) -> None:
    plan = make_plan(SETTINGS, {}, Choices(only=only))

    assert [spec.name for spec in plan.processes] == started
    assert [job.name.split()[1] for job in plan.jobs] == [n for n in started if n in ("tools", "notify")]


def test_an_unknown_name_in_only_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigInvalid, match="understudy, tools, notify, session, gateway"):
        make_plan(SETTINGS, {}, Choices(only=("toolz",)))


def test_the_table_and_the_lines_name_everything_that_runs() -> None:
    plan = make_plan(SETTINGS, {}, Choices())

    assert what_runs(plan, ()).row_count == 6
    lines = [line.plain for line in how_to_talk(plan, "/nowhere/bin/parley")]
    assert lines[0].startswith("model the understudy")
    assert lines[1] == "read  http://127.0.0.1:8080/ in a browser"
    assert lines[2].endswith("talk --business cap")
    assert how_to_talk(make_plan(SETTINGS, {}, Choices(only=("tools",))), "parley") == []


def test_the_business_to_talk_to_is_the_example_or_the_first(tmp_path: Path) -> None:
    plan = make_plan(SETTINGS, {"PARLEY_BUSINESSES_DIR": str(tmp_path)}, Choices())
    assert a_business(plan) == "cap"
    for name in ("shop", "clinic"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "business.yaml").write_text("")
    assert a_business(plan) == "clinic"


def test_the_command_is_named_as_it_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "parley"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    assert command_name(str(program)) == "bin/parley"
    monkeypatch.setenv("PATH", str(program.parent))
    assert command_name(str(program)) == "parley"


# -- settings -------------------------------------------------------------------------------------


def test_an_unknown_setting_of_the_launcher_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_UP_KAFKA_PROT", "9093")

    with pytest.raises(ConfigInvalid, match="PARLEY_UP_KAFKA_PROT"):
        load_up_settings()


def test_a_port_that_is_none_is_refused_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_PORT", "80800")

    with pytest.raises(ConfigInvalid, match="GATEWAY_PORT"):
        load_up_settings()


# -- ports ----------------------------------------------------------------------------------------


def test_free_ports_are_fine() -> None:
    check_ports(
        [PortUse(free_port(), "GATEWAY_PORT", "gateway"), PortUse(free_port(), "TOOLS_PORT", "tools")]
    )


def test_a_taken_port_is_said_with_the_setting_that_moves_it() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(ConfigInvalid, match=f"port taken .*{port} for gateway.*set GATEWAY_PORT"):
            check_ports([PortUse(port, "GATEWAY_PORT", "gateway")])


def test_two_of_ours_on_one_port_are_refused() -> None:
    port = free_port()
    with pytest.raises(ConfigInvalid, match="TOOLS_PORT and GATEWAY_PORT are both"):
        check_ports([PortUse(port, "GATEWAY_PORT", "gateway"), PortUse(port, "TOOLS_PORT", "tools")])


# -- the lock -------------------------------------------------------------------------------------

HOLD = """
import sys
from pathlib import Path
from parley_launcher.up.lock import instance_lock
with instance_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_running_instance_is_not_joined_and_a_dead_ones_lock_is_taken_over(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ConfigInvalid, match=f"process {other.pid}"), instance_lock(tmp_path):
            pass
        other.kill()
    with instance_lock(tmp_path):
        assert (tmp_path / "up.lock").read_text() == f"{os.getpid()}\n"


def test_a_state_directory_that_cannot_be_made_is_said_by_its_variable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(ConfigInvalid, match="PARLEY_STATE_DIR"), instance_lock(tmp_path / "file" / "state"):
        pass


# -- restarts -------------------------------------------------------------------------------------


def test_restarts_wait_longer_each_time_up_to_15_seconds() -> None:
    restarts, waits = Restarts(), []
    for _ in range(7):
        restarts, wait_s = restarts.after(up_s=1.0)
        waits.append(wait_s)

    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0]


def test_a_minute_up_forgives_what_was_before() -> None:
    assert Restarts(in_a_row=9).after(up_s=60.0) == (Restarts(1), 0.5)


# -- logs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "trouble"),
    [
        (
            '{"event": "kafka.waiting", "level": "warning", "service": "tools", "backoff_ms": 250}',
            Trouble("warning", "kafka.waiting backoff_ms=250"),
        ),
        ('{"event": "service.stopped", "level": "error"}', Trouble("error", "service.stopped")),
        ('{"event": "turn.completed", "level": "info"}', None),
        ('{"level": "error"', None),
        ("Traceback (most recent call last):", Trouble("error", "Traceback (most recent call last):")),
        ("WARNING: low on memory", Trouble("warning", "WARNING: low on memory")),
        ("2026-01-05 ERROR broker: gone", Trouble("error", "2026-01-05 ERROR broker: gone")),
        ("listening on 8080", None),
        ("", None),
    ],
)
def test_trouble_is_found_in_a_line(line: str, trouble: Trouble | None) -> None:
    assert trouble_in(line) == trouble


@given(st.text(max_size=2_000))
def test_what_is_echoed_is_short_and_printable(text: str) -> None:
    trouble = trouble_in("ERROR " + text)

    assert trouble is not None
    assert len(trouble.text) <= ECHO_MAX_CHARS
    assert trouble.text.isprintable()


def test_a_flood_is_held_back_and_counted() -> None:
    budget = EchoBudget()
    admitted = [budget.admit(0.0)[0] for _ in range(ECHO_LINES_MAX + 5)]

    assert admitted.count(True) == ECHO_LINES_MAX
    assert budget.admit(ECHO_WINDOW_S) == (True, 5)


@given(st.binary(max_size=400), st.lists(st.integers(1, 40), max_size=40))
def test_lines_are_the_same_however_output_is_cut(output: bytes, cuts: list[int]) -> None:
    splitter, lines, rest = LineSplitter(), [], output
    for cut in cuts:
        if rest:
            lines += splitter.feed(rest[:cut])
            rest = rest[cut:]
    if rest:
        lines += splitter.feed(rest)
    lines += splitter.feed(b"")

    expected = output.split(b"\n")
    if not expected[-1]:
        expected.pop()
    assert lines == [line.decode("utf-8", "replace").rstrip("\r") for line in expected]


def test_a_line_without_end_is_cut_at_a_bound() -> None:
    lines = LineSplitter().feed(b"x" * (LINE_MAX_BYTES * 2 + 1))

    assert [len(line) for line in lines] == [LINE_MAX_BYTES, LINE_MAX_BYTES]


def test_a_log_is_turned_over_at_its_bound_and_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "tools.log"
    log = LogFile(path, max_bytes=10_000)
    for at in range(2_000):
        log.write(f"line {at}")
    log.close()
    older = path.with_name("tools.log.1")
    assert path.stat().st_size <= 10_000
    assert older.stat().st_size <= 10_000
    assert log.tail[-1] == "line 1999"

    LogFile(path, max_bytes=10_000).close()
    assert path.read_text() == ""
    assert older.read_text().endswith("line 1999\n")
