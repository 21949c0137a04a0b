"""The embedded broker of ``parley up`` as a broker for tests: the weakest kind, and always at hand.

Where it differs from Apache Kafka is listed in parley_launcher.embedded_kafka; a test of such a thing (records
over a kill -9, a topic that must not make itself) takes ``fresh_broker`` and a kind that keeps to it.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from harness.broker import CannotStart
from harness.local_broker import LocalBroker
from harness.processes import Proc
from parley_common.errors import ConfigInvalid
from parley_launcher.embedded_kafka import EmbeddedKafka


class EmbeddedBroker(LocalBroker):
    """One embedded broker on a port and folder of its own."""

    kind = "embedded"

    def __init__(self, port: int, folder: Path) -> None:
        super().__init__(port, folder)
        self._embedded = EmbeddedKafka(port, folder / "data")

    @property
    def label(self) -> str:
        return f"embedded, noida-db {version('noida-db')}"

    def _launch(self) -> Proc:
        try:
            argv = self._embedded.argv()
        except ConfigInvalid as missing:
            raise CannotStart(missing.message) from missing
        return Proc(
            argv, name="embedded-kafka", log_path=self.folder / "broker.log", env=self._embedded.env()
        )
