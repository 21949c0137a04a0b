"""Apache Kafka in a container, where a Docker engine answers.

The host's port is fixed at the first start, because the broker tells clients to come back on it: that is why
stop and start act on the container and never make a new one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.broker import CannotStart, wait_answers
from harness.containers import docker_engine_version, on_loopback
from harness.kafka_apache import kafka_version
from harness.ports import release

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

# The project publishes an image with each release; one version for both ways of running it.
IMAGE = f"apache/kafka:{kafka_version()}"
START_DEADLINE_S = 60.0
STOP_DEADLINE_S = 20


class KafkaInContainer:
    """One Apache Kafka container with its broker on a port of 127.0.0.1."""

    kind = "docker"

    def __init__(self, port: int) -> None:
        self.port = port
        self._container: DockerContainer | None = None

    @property
    def label(self) -> str:
        return f"Apache Kafka {IMAGE.partition(':')[2]} (container, Docker {docker_engine_version()})"

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Run the container, or start the stopped one again; returns once metadata requests are answered."""
        try:
            if self._container is None:
                self._container = self._described().start()
            else:
                self._wrapped().start()
            wait_answers(self.bootstrap_servers, START_DEADLINE_S)
        except Exception as failure:
            # The engine's errors are of many kinds (image, network, port); each means that the next broker is due.
            raise CannotStart(f"{IMAGE}: {failure}") from failure

    def stop(self) -> None:
        """Stop cleanly; the container is kept."""
        self._wrapped().stop(timeout=STOP_DEADLINE_S)

    def kill9(self) -> None:
        """End without warning; the container is kept."""
        self._wrapped().kill()

    def freeze(self) -> None:
        """Freeze every process in it."""
        self._wrapped().pause()

    def thaw(self) -> None:
        """Go on after ``freeze``."""
        self._wrapped().unpause()

    def close(self) -> None:
        """Remove the container; idempotent."""
        container, self._container = self._container, None
        if container is not None:
            container.stop()
        release(self.port)

    def _wrapped(self) -> Any:
        assert self._container is not None, "the broker was never started"
        return self._container.get_wrapped_container()

    def _described(self) -> DockerContainer:
        return on_loopback(
            IMAGE,
            9092,
            self.port,
            KAFKA_PROCESS_ROLES="broker,controller",
            KAFKA_NODE_ID="1",
            KAFKA_CONTROLLER_QUORUM_VOTERS="1@localhost:9093",
            KAFKA_LISTENERS="PLAINTEXT://:9092,CONTROLLER://:9093",
            KAFKA_ADVERTISED_LISTENERS=f"PLAINTEXT://{self.bootstrap_servers}",
            KAFKA_CONTROLLER_LISTENER_NAMES="CONTROLLER",
            KAFKA_LISTENER_SECURITY_PROTOCOL_MAP="PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            KAFKA_AUTO_CREATE_TOPICS_ENABLE="false",
            KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR="1",
            KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR="1",
            KAFKA_TRANSACTION_STATE_LOG_MIN_ISR="1",
            KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS="0",
            KAFKA_HEAP_OPTS="-Xms128m -Xmx512m",
        )
