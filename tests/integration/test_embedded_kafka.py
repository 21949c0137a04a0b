"""The embedded broker starts from its own program, says when it answers, and ends when it is told to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from harness.ports import is_listening
from harness.processes import Processes
from harness.topics import Topics
from parley_common.errors import ConfigInvalid, DependencyUnavailable
from parley_launcher import embedded_kafka
from parley_launcher.embedded_kafka import EmbeddedKafka, broker_program, is_noise

Port = Callable[[], int]

WARNING = (
    "/opt/app/noida_db/noida-db: /lib/x86_64-linux-gnu/libc.so.6: weak version `GLIBC_2.39' not found "
    "(required by /opt/app/noida_db/noida-db)"
)


async def test_it_answers_on_loopback_with_only_its_kafka_and_ends_cleanly(
    processes: Processes, port: Port, tmp_path: Path
) -> None:
    kafka = EmbeddedKafka(port(), tmp_path / "kafka")
    assert not await kafka.answers()
    proc = processes.start(kafka.argv(), name="kafka", env=kafka.env())
    await kafka.wait_ready()
    listening = [
        c.laddr for c in psutil.Process(proc.pid).net_connections() if c.status == psutil.CONN_LISTEN
    ]
    assert {address.ip for address in listening} == {"127.0.0.1"}
    assert kafka.port in {address.port for address in listening}
    # Kafka's own and the program's control port: none of the other databases it could be.
    assert len(listening) == 2
    assert await proc.terminate(deadline_s=5) == 0
    assert not is_listening(kafka.port)


async def test_it_keeps_its_records_and_groups_over_a_clean_restart(
    processes: Processes, port: Port, tmp_path: Path
) -> None:
    kafka = EmbeddedKafka(port(), tmp_path / "kafka")
    topics = Topics(kafka.bootstrap_servers)
    proc = processes.start(kafka.argv(), name="kafka")
    await kafka.wait_ready()
    await topics.create("kept", 3)
    await topics.produce("kept", b"1")
    await proc.terminate()
    processes.start(kafka.argv(), name="kafka")
    await kafka.wait_ready()
    assert [record.value for record in await topics.read_all("kept")] == [b"1"]


async def test_its_output_is_quiet_but_for_the_loaders_warning(
    processes: Processes, port: Port, tmp_path: Path
) -> None:
    kafka = EmbeddedKafka(port(), tmp_path / "kafka")
    proc = processes.start(kafka.argv(), name="kafka")
    await kafka.wait_ready()
    heard = [line for line in proc.log().splitlines() if line.strip() and not is_noise(line)]
    assert not [line for line in heard if "GLIBC" in line]
    assert len(heard) <= 5


def test_only_the_loaders_warning_is_noise() -> None:
    assert is_noise(WARNING)
    assert not is_noise("error: kafka: port 9092 is already in use")


async def test_a_broker_that_never_answers_is_an_error_with_a_remedy(port: Port, tmp_path: Path) -> None:
    with pytest.raises(DependencyUnavailable, match="KAFKA_BOOTSTRAP_SERVERS") as silent:
        await EmbeddedKafka(port(), tmp_path).wait_ready(deadline_s=0.2)
    assert silent.value.stable_code == "embedded_kafka_silent"


async def test_a_taken_port_ends_the_broker_with_a_clear_line(
    processes: Processes, port: Port, tmp_path: Path
) -> None:
    first = EmbeddedKafka(port(), tmp_path / "first")
    processes.start(first.argv(), name="first")
    await first.wait_ready()
    second = processes.start(EmbeddedKafka(first.port, tmp_path / "second").argv(), name="second")
    assert await second.wait_exit() == 1
    assert f"port {first.port} is already in use" in second.log()


def test_a_platform_without_the_package_is_told_what_to_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(embedded_kafka, "PACKAGE", "package_that_is_not_here")
    with pytest.raises(ConfigInvalid, match="KAFKA_BOOTSTRAP_SERVERS") as missing:
        EmbeddedKafka(9092, tmp_path).argv()
    assert missing.value.stable_code == "embedded_kafka_missing"


def test_a_program_unpacked_without_its_mode_is_made_executable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "made_up_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "noida-db").write_bytes(b"#!/bin/sh\n")
    (package / "noida-db").chmod(0o644)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(embedded_kafka, "PACKAGE", "made_up_package")
    assert broker_program().stat().st_mode & 0o100
