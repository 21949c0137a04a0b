"""What the harness asks of a container engine, against an engine that only takes notes.

It proves the requests (image, port on loopback only, environment, order), not that a container would run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from harness import kafka_container, postgres
from harness.broker import CannotStart
from harness.http_server import Answer, HttpServer, Reply, Request
from harness.kafka_container import IMAGE, KafkaInContainer

INSPECTION = {
    "Id": "c1",
    "State": {"Status": "running"},
    "Config": {"Image": "x", "Labels": {}},
    "NetworkSettings": {"Ports": {}},
    "HostConfig": {},
}


class Engine:
    """Answers the few requests of the engine's API that a container's life takes, and remembers them."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.created: list[dict[str, Any]] = []
        self.refuses_to_create = False

    def answer(self, request: Request) -> Answer:
        path = request.path.partition("?")[0]
        path = path if path == "/version" else "/" + path.split("/", 2)[2]
        if request.method != "GET":
            self.calls.append(f"{request.method} {path}")
        if path == "/containers/create":
            if self.refuses_to_create:
                return _json({"message": "port is already allocated"}, 500)
            self.created.append(json.loads(request.body))
            return _json({"Id": "c1", "Warnings": []}, 201)
        if path == "/version":
            return _json({"ApiVersion": "1.45", "Version": "28.0.0"})
        if path.endswith("/json"):
            return _json(INSPECTION)
        return Reply(204)


def _json(value: object, status: int = 200) -> Reply:
    return Reply(status, json.dumps(value).encode(), {"content-type": "application/json"})


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    from testcontainers.core.config import testcontainers_config

    engine = Engine()
    with HttpServer(engine.answer) as server:
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{server.port}")
        monkeypatch.setattr(testcontainers_config, "ryuk_disabled", True)
        monkeypatch.setattr(kafka_container, "wait_answers", lambda *_: None)
        monkeypatch.setattr(postgres, "_wait_answers", lambda _: None)
        for module in (kafka_container, postgres):
            monkeypatch.setattr(module, "docker_engine_version", lambda: "28.0.0")
        yield engine


def test_a_broker_in_a_container_lives_stops_and_starts_on_one_port_of_loopback(engine: Engine) -> None:
    broker = KafkaInContainer(29_999)
    broker.start()
    broker.freeze()
    broker.thaw()
    broker.stop()
    broker.start()
    broker.kill9()
    broker.close()
    broker.close()
    (created,) = engine.created
    assert created["Image"] == IMAGE
    assert created["HostConfig"]["PortBindings"] == {
        "9092/tcp": [{"HostIp": "127.0.0.1", "HostPort": "29999"}]
    }
    assert "KAFKA_ADVERTISED_LISTENERS=PLAINTEXT://127.0.0.1:29999" in created["Env"]
    verbs = ["start", "pause", "unpause", "stop", "start", "kill"]
    expected = [f"POST /containers/c1/{verb}" for verb in verbs]
    assert engine.calls == ["POST /containers/create", *expected, "DELETE /containers/c1"]


def test_a_broker_that_the_engine_refuses_gives_way_to_the_next_kind(engine: Engine) -> None:
    engine.refuses_to_create = True
    broker = KafkaInContainer(29_999)
    with pytest.raises(CannotStart, match="port is already allocated"):
        broker.start()
    broker.close()


def test_a_database_server_in_a_container_listens_on_loopback_and_is_removed(engine: Engine) -> None:
    server = postgres.PostgresInContainer()
    (created,) = engine.created
    bound = [{"HostIp": "127.0.0.1", "HostPort": str(server.port)}]
    assert created["HostConfig"]["PortBindings"] == {"5432/tcp": bound}
    assert server.admin_url.port == server.port
    server.close()
    assert engine.calls[-1] == "DELETE /containers/c1"
