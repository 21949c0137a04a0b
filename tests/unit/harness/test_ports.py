"""Ports are given once, stay free until used, and come back when released."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from harness import ports


def test_no_port_is_given_twice_while_it_is_reserved() -> None:
    taken = [ports.free_port() for _ in range(30)]
    try:
        assert len(set(taken)) == 30
        assert set(taken) <= ports.reserved()
    finally:
        for port in taken:
            ports.release(port)
    assert not set(taken) & ports.reserved()


def test_another_process_is_not_given_a_reserved_port() -> None:
    port = ports.free_port()
    try:
        program = f"from harness import ports; print(ports._lock({port}))"
        answer = subprocess.run(
            [sys.executable, "-c", program],
            cwd=Path(ports.__file__).parents[1],
            capture_output=True,
            text=True,
            check=True,
        )
        assert answer.stdout.strip() == "False"
    finally:
        ports.release(port)


def test_a_port_in_use_is_not_offered() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not ports._can_bind(port)
        assert ports.is_listening(port)
    assert not ports.is_listening(port)


def test_a_given_port_can_be_bound_at_once() -> None:
    port = ports.free_port()
    try:
        with socket.create_server(("127.0.0.1", port)):
            assert ports.is_listening(port)
    finally:
        ports.release(port)


def test_releasing_a_port_that_is_not_reserved_does_nothing() -> None:
    ports.release(1)
