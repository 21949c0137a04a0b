"""What the brokers that run as a process of this machine have in common: start, stop, kill, freeze."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from harness.broker import CannotStart, remove_folder, wait_answers
from harness.ports import release
from harness.processes import Proc

STOP_DEADLINE_S = 20.0
START_DEADLINE_S = 30.0


class LocalBroker(ABC):
    """A broker process on 127.0.0.1 with a folder of its own; a subclass knows the command."""

    def __init__(self, port: int, folder: Path) -> None:
        self.port = port
        self.folder = folder
        self._proc: Proc | None = None

    @property
    @abstractmethod
    def label(self) -> str:
        """What a person should read about it."""

    @abstractmethod
    def _launch(self) -> Proc:
        """Start the process on the data that the folder holds; CannotStart when it cannot be had here."""

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, or start again; returns once metadata requests are answered."""
        proc = self._proc = self._launch()
        try:
            wait_answers(self.bootstrap_servers, START_DEADLINE_S, alive=lambda: proc.is_running)
        except AssertionError as silent:
            tail = proc.log_tail(12)
            self._end_process()
            raise CannotStart(f"{silent}\n{tail}") from silent

    def stop(self) -> None:
        """Stop cleanly (SIGTERM)."""
        if self._proc is not None:
            self._proc.stop(STOP_DEADLINE_S)
            self._end_process()

    def kill9(self) -> None:
        """End without warning."""
        self._end_process()

    def freeze(self) -> None:
        """Stop answering, sockets open (SIGSTOP)."""
        self._running().sigstop()

    def thaw(self) -> None:
        """Go on after ``freeze``."""
        self._running().sigcont()

    def close(self) -> None:
        """End the process and remove its data; idempotent."""
        self._end_process()
        remove_folder(self.folder)
        release(self.port)

    def _running(self) -> Proc:
        assert self._proc is not None, "the broker is stopped"
        return self._proc

    def _end_process(self) -> None:
        proc, self._proc = self._proc, None
        if proc is not None:
            proc.close()
