"""A run says which backends it stood on, once each, and why no stronger ones."""

from __future__ import annotations

import time

from harness.summary import Backends


def test_a_run_without_backends_says_so() -> None:
    assert Backends().text() == ["Kafka and PostgreSQL: not needed by these tests"]


def test_a_substitute_is_named_with_the_reason() -> None:
    backends = Backends()
    backends.started("Kafka", "embedded", time.monotonic(), ["docker: no Docker engine answers"])
    assert backends.text() == [
        "Kafka: embedded, ready in 0.0 s; passed over: docker: no Docker engine answers"
    ]


def test_each_backend_is_named_once_at_its_first_start() -> None:
    backends = Backends()
    backends.started("Kafka", "first", time.monotonic(), [])
    backends.started("PostgreSQL", "other", time.monotonic(), [])
    backends.started("Kafka", "second", time.monotonic(), [])
    assert [line.split(",")[0] for line in backends.text()] == ["Kafka: first", "PostgreSQL: other"]
