"""Finds or starts the strongest Kafka there is here, and says which.

In this order: KAFKA_BOOTSTRAP_SERVERS; Apache Kafka in a container, when a Docker engine answers; Apache
Kafka from its Maven artifacts, when Java 17 and Maven are there; the embedded broker. PARLEY_TEST_KAFKA
(docker, apache or embedded) forces one of the last three. A broker that was chosen by itself and cannot be
started gives way to the next one, and the reason is kept for the run's summary; a forced one fails the run.

As a script it runs a broker for a developer: ``PYTHONPATH=tests python -m harness.kafka --port 9092``.
"""

from __future__ import annotations

import argparse
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence

from harness.broker import Broker, CannotStart, new_folder, wait_answers
from harness.containers import docker_engine_version
from harness.kafka_apache import ApacheKafka
from harness.kafka_container import KafkaInContainer
from harness.kafka_embedded import EmbeddedBroker
from harness.ports import free_port

FORCED_BY = "PARLEY_TEST_KAFKA"
EXTERNAL_DEADLINE_S = 15.0


class ExternalBroker:
    """The Kafka that the developer named. It is used as it is: nobody here may stop it."""

    kind = "external"

    def __init__(self, bootstrap_servers: str) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.label = f"external, {bootstrap_servers} (KAFKA_BOOTSTRAP_SERVERS)"

    def start(self) -> None:
        wait_answers(self.bootstrap_servers, EXTERNAL_DEADLINE_S)

    def close(self) -> None:
        """Leave it as it is."""

    def _refuse(self) -> None:
        raise AssertionError(
            "a test that stops its broker must not use an external one: take the fresh_broker fixture"
        )

    stop = kill9 = freeze = thaw = _refuse


def kinds_to_try(environment: dict[str, str] | None = None) -> tuple[str, ...]:
    """Return the kinds of broker to try, strongest first; a forced one alone."""
    forced = (os.environ if environment is None else environment).get(FORCED_BY)
    if forced is None:
        return tuple(_MAKERS)
    if forced not in _MAKERS:
        raise AssertionError(f"{FORCED_BY} is {forced!r}: use one of {', '.join(_MAKERS)}")
    return (forced,)


def start_broker(kinds: Sequence[str] | None = None, *, port: int | None = None) -> tuple[Broker, list[str]]:
    """Start the first kind that works, empty.

    Returns:
        The broker, and why stronger kinds were passed over.
    """
    reasons: list[str] = []
    chosen_port = port or free_port()
    for kind in kinds_to_try() if kinds is None else kinds:
        try:
            return _started(_MAKERS[kind](chosen_port)), reasons
        except CannotStart as reason:
            reasons.append(f"{kind}: {reason}")
    raise AssertionError("no Kafka can be started here: " + "; ".join(reasons))


def session_broker() -> tuple[Broker, list[str]]:
    """Return the broker of a whole test run: the external one where it is named, else a new one."""
    external = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if external and FORCED_BY not in os.environ:
        return _started(ExternalBroker(external)), []
    return start_broker()


def _started(broker: Broker) -> Broker:
    try:
        broker.start()
    except BaseException:
        broker.close()
        raise
    return broker


def _docker(port: int) -> Broker:
    if docker_engine_version() is None:
        raise CannotStart("no Docker engine answers")
    return KafkaInContainer(port)


def _apache(port: int) -> Broker:
    return ApacheKafka(port, new_folder())


def _embedded(port: int) -> Broker:
    return EmbeddedBroker(port, new_folder())


_MAKERS: dict[str, Callable[[int], Broker]] = {"docker": _docker, "apache": _apache, "embedded": _embedded}


def main() -> None:
    """Run one broker until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(description="Run the strongest Kafka found here, empty, on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=9092)
    parser.add_argument("--kind", choices=sorted(_MAKERS), help=f"instead of the strongest (or {FORCED_BY})")
    options = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    began_s = time.monotonic()
    broker, reasons = start_broker([options.kind] if options.kind else None, port=options.port)
    for reason in reasons:
        print(f"passed over {reason}")
    print(
        f"{broker.label} on {broker.bootstrap_servers} after {time.monotonic() - began_s:.1f} s; Ctrl-C ends it"
    )
    try:
        stop.wait()
    finally:
        broker.close()


if __name__ == "__main__":
    main()
