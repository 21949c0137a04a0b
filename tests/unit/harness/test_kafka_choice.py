"""Which Kafka a run uses follows from what is there and what was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import kafka, kafka_apache
from harness.broker import CannotStart
from harness.kafka import ExternalBroker, kinds_to_try, start_broker


class FakeBroker:
    """A broker that starts or does not, and remembers whether it was closed."""

    kind = "fake"
    label = "a fake broker"
    bootstrap_servers = "127.0.0.1:1"

    def __init__(self, problem: Exception | None = None) -> None:
        self.problem = problem
        self.is_closed = False

    def start(self) -> None:
        if self.problem:
            raise self.problem

    def close(self) -> None:
        self.is_closed = True

    stop = kill9 = freeze = thaw = start


def test_the_strongest_kind_is_tried_first() -> None:
    assert kinds_to_try({}) == ("docker", "apache", "embedded")


def test_a_forced_kind_is_tried_alone() -> None:
    assert kinds_to_try({"PARLEY_TEST_KAFKA": "embedded"}) == ("embedded",)


def test_an_unknown_forced_kind_names_the_choices() -> None:
    with pytest.raises(AssertionError, match="'redis': use one of docker, apache, embedded"):
        kinds_to_try({"PARLEY_TEST_KAFKA": "redis"})


def test_a_kind_that_cannot_start_gives_way_and_the_reason_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    weak, strong = FakeBroker(), FakeBroker(CannotStart("image not found"))
    monkeypatch.setattr(kafka, "_MAKERS", {"docker": lambda _: strong, "embedded": lambda _: weak})
    assert start_broker(["docker", "embedded"]) == (weak, ["docker: image not found"])
    assert strong.is_closed
    assert not weak.is_closed


def test_a_forced_kind_that_cannot_start_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "_MAKERS", {"apache": lambda _: FakeBroker(CannotStart("needs Java 17"))})
    with pytest.raises(AssertionError, match="no Kafka can be started here: apache: needs Java 17"):
        start_broker(["apache"])


def test_an_unexpected_failure_is_not_hidden_by_a_weaker_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = FakeBroker(ValueError("a defect"))
    monkeypatch.setattr(kafka, "_MAKERS", {"apache": lambda _: broken, "embedded": lambda _: FakeBroker()})
    with pytest.raises(ValueError, match="a defect"):
        start_broker(["apache", "embedded"])
    assert broken.is_closed


def test_an_external_broker_is_never_stopped_by_a_test() -> None:
    with pytest.raises(AssertionError, match="fresh_broker"):
        ExternalBroker("kafka.example.com:9092").stop()


def test_an_old_java_is_refused_with_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_apache, "java_version", lambda: 11)
    with pytest.raises(CannotStart, match="needs Java 17 or newer, found 11"):
        kafka_apache.artifacts()


def test_a_missing_maven_matters_only_until_the_artifacts_are_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(kafka_apache, "java_version", lambda: 17)
    monkeypatch.setattr(kafka_apache, "CACHE", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotStart, match="needs Maven"):
        kafka_apache.artifacts()


def test_a_half_finished_copy_of_the_artifacts_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(kafka_apache, "java_version", lambda: 17)
    monkeypatch.setattr(kafka_apache, "CACHE", tmp_path / "cache")
    broken = tmp_path / "bin" / "mvn"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho cannot reach the repository\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken.parent}:/usr/bin:/bin")
    with pytest.raises(CannotStart, match="mvn failed: cannot reach the repository"):
        kafka_apache.artifacts()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".lock"]
