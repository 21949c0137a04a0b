"""Apache Kafka as a plain Java process, from the Maven artifacts that infra/kafka/pom.xml names.

One node is broker and controller (KRaft). The artifacts are copied once into .cache/kafka, in a folder named
by the pom's content, so that another version is another folder. Small heap, quick start, quiet log: these
settings serve tests and nothing else.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from harness.broker import CannotStart
from harness.local_broker import LocalBroker
from harness.ports import free_port, release
from harness.processes import Proc, machine_environment

ROOT = Path(__file__).resolve().parents[2]
POM = ROOT / "infra" / "kafka" / "pom.xml"
CACHE = ROOT / ".cache" / "kafka"
JAVA_VERSION_MIN = 17
DOWNLOAD_DEADLINE_S = 300.0
COMMAND_DEADLINE_S = 30.0
# Any 16 bytes in URL-safe base64; one node needs no better one.
CLUSTER_ID = "cGFybGV5LXRlc3RzLWthZg"

JVM = (
    "-Xms128m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Djava.net.preferIPv4Stack=true",
)

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=5
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=5
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.segment.delete.delay.ms=0
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
"""


class ApacheKafka(LocalBroker):
    """One Apache Kafka on a port and folder of its own."""

    kind = "apache"

    def __init__(self, port: int, folder: Path) -> None:
        super().__init__(port, folder)
        self._controller_port = free_port()
        self._properties = folder / "server.properties"

    @property
    def label(self) -> str:
        return f"Apache Kafka {kafka_version()} (Maven artifacts, Java {java_version()})"

    def _launch(self) -> Proc:
        classpath = artifacts()
        if not self._properties.exists():
            self._format(classpath)
        argv = [*_java(classpath), "kafka.Kafka", str(self._properties)]
        return Proc(argv, name="apache-kafka", log_path=self.folder / "broker.log", cwd=self.folder)

    def _format(self, classpath: Path) -> None:
        text = PROPERTIES.format(
            port=self.port, controller_port=self._controller_port, data=self.folder / "data"
        )
        self._properties.write_text(text)
        tool = [*_java(classpath), "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID]
        _run([*tool, "-c", str(self._properties)], COMMAND_DEADLINE_S)

    def close(self) -> None:
        """End the process and remove its data; idempotent."""
        super().close()
        release(self._controller_port)


@cache
def java_version() -> int | None:
    """Return the major version of ``java`` on the PATH; null when there is none."""
    if shutil.which("java") is None:
        return None
    answer = subprocess.run(
        ["java", "-version"], capture_output=True, text=True, timeout=COMMAND_DEADLINE_S, check=False
    )
    found = re.search(r'version "(\d+)', answer.stderr)
    return int(found.group(1)) if found else None


@cache
def kafka_version() -> str:
    """Return the version that the pom asks for."""
    found = re.search(r"<kafka.version>([^<]+)<", POM.read_text())
    assert found is not None, f"{POM} names no kafka.version"
    return found.group(1)


def artifacts() -> Path:
    """Return the folder of Kafka's jars, copying them there the first time.

    Raises:
        CannotStart: Java 17 or Maven is missing, or the artifacts cannot be downloaded.
    """
    java = java_version()
    if java is None or java < JAVA_VERSION_MIN:
        raise CannotStart(f"needs Java {JAVA_VERSION_MIN} or newer, found {java or 'none'}")
    folder = CACHE / hashlib.sha256(POM.read_bytes()).hexdigest()[:12]
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / ".lock").open("w") as lock:
        # Two test workers must not copy at once; the second finds the folder ready.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _copy_artifacts(folder)
    return folder


def _copy_artifacts(folder: Path) -> None:
    if shutil.which("mvn") is None:
        raise CannotStart("needs Maven (mvn) to get its artifacts")
    half = folder.with_suffix(".half")
    shutil.rmtree(half, ignore_errors=True)
    command = ["mvn", "-B", "-q", "-f", str(POM), "dependency:copy-dependencies", f"-DoutputDirectory={half}"]
    _run(command, DOWNLOAD_DEADLINE_S)
    half.rename(folder)


def _java(classpath: Path) -> list[str]:
    return ["java", *JVM, "-cp", f"{classpath}/*"]


def _run(command: list[str], deadline_s: float) -> None:
    try:
        subprocess.run(
            command,
            check=True,
            timeout=deadline_s,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=machine_environment(),
        )
    except subprocess.CalledProcessError as failed:
        raise CannotStart(f"{command[0]} failed: {str(failed.stdout).strip()[-600:]}") from failed
    except subprocess.TimeoutExpired as late:
        raise CannotStart(f"{command[0]} took longer than {deadline_s:g} s") from late
