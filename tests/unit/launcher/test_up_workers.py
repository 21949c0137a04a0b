"""`parley up` with several workers of a service: what is started where, what the gateway is told, what is shown."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from parley_common.errors import ConfigInvalid
from parley_common.settings import KafkaSettings, ParleySettings
from parley_launcher.settings import ServicePorts, UpSettings
from parley_launcher.up.plan import Choices, Plan, ProcessSpec, make_plan
from parley_launcher.up.ports import check_ports
from parley_launcher.up.readiness import Probe, ReadyAnswer, all_ready
from parley_launcher.up.run import port_uses
from parley_launcher.up.table import what_runs


def plan(**ports: int) -> Plan:
    settings = UpSettings(
        kafka_port=9092,
        parley=ParleySettings(state_dir=Path("/state")),
        kafka=KafkaSettings(bootstrap_servers="127.0.0.1:9092"),
        ports=ServicePorts(**ports),
    )
    return make_plan(settings, {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9092"}, Choices())


def spec(of: Plan, name: str) -> ProcessSpec:
    return next(each for each in of.processes if each.name == name)


def shown(of: Plan) -> str:
    console = Console(width=80)
    with console.capture() as captured:
        console.print(what_runs(of, ()))
    return captured.get()


def test_the_gateway_is_told_of_every_session_worker_and_none_takes_another_services_port() -> None:
    several = plan(session_workers=3, gateway_workers=2)
    env = several.environment_of(spec(several, "gateway"))
    assert env["GATEWAY_SESSION_SERVICES"] == "ws://127.0.0.1:8110,ws://127.0.0.1:8111,ws://127.0.0.1:8112"
    assert (env["SESSION_PORT"], env["GATEWAY_PORT"], env["GATEWAY_WORKER_PORT"]) == ("8110", "8080", "8100")
    uses = [use.port for use in port_uses(several)]
    assert sorted(uses) == [8080, 8082, 8083, 8090, 8100, 8101, 8110, 8111, 8112]


def test_workers_begin_where_the_port_is_set() -> None:
    several = plan(session_workers=2, session_port=9081, gateway_workers=2, gateway_worker_port=9100)
    assert spec(several, "session").workers_at == (9081, 9082)
    assert spec(several, "gateway").workers_at == (9100, 9101)
    assert (
        spec(several, "gateway").env["GATEWAY_SESSION_SERVICES"] == "ws://127.0.0.1:9081,ws://127.0.0.1:9082"
    )


def test_it_is_ready_when_each_worker_is() -> None:
    several = plan(session_workers=2, gateway_workers=2)
    assert spec(several, "gateway").ready_urls == (
        "http://127.0.0.1:8100/readyz",
        "http://127.0.0.1:8101/readyz",
    )
    assert spec(several, "session").ready_urls == (
        "http://127.0.0.1:8110/readyz",
        "http://127.0.0.1:8111/readyz",
    )
    assert spec(several, "tools").ready_urls == ("http://127.0.0.1:8082/readyz",)


async def test_of_several_probes_the_first_that_is_not_ready_says_why() -> None:
    def answers(answer: ReadyAnswer) -> Probe:
        async def probe() -> ReadyAnswer:
            return answer

        return probe

    ready, waits = answers(ReadyAnswer(True)), answers(ReadyAnswer(False, "kafka"))
    assert await all_ready([ready, waits])() == ReadyAnswer(False, "kafka")
    assert await all_ready([ready, ready])() == ReadyAnswer(True)


def test_the_table_shows_each_workers_address_or_where_its_metrics_are() -> None:
    rows = shown(plan(session_workers=2, gateway_workers=2))
    lines = [line.split() for line in rows.splitlines()[-5:]]
    assert [" ".join(line) for line in lines] == [
        "session ws://127.0.0.1:8110 conversations with the model",
        "· worker 1 ws://127.0.0.1:8111",
        "gateway http://127.0.0.1:8080 where callers come in",
        "· worker 0 http://127.0.0.1:8100 its health and metrics",
        "· worker 1 http://127.0.0.1:8101 its health and metrics",
    ]
    assert "worker" not in shown(plan())


def test_a_workers_port_that_is_taken_is_said_with_the_setting_that_moves_it(port: Callable[[], int]) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port()))
        listener.listen()
        number = listener.getsockname()[1]
        own = {f"{name}_port": port() for name in ("gateway", "tools", "notify", "understudy")}
        several = plan(session_workers=2, session_port=number - 1, **own)
        with pytest.raises(
            ConfigInvalid, match=rf"{number} for session \(SESSION_PORT \+ 1\).*set SESSION_PORT"
        ):
            check_ports(use for use in port_uses(several) if use.port == number)


def test_a_worker_that_would_take_another_services_port_is_refused() -> None:
    with pytest.raises(ConfigInvalid, match=r"SESSION_PORT \+ 1 and TOOLS_PORT are both 20101"):
        check_ports(
            use
            for use in port_uses(plan(session_workers=2, session_port=20_100, tools_port=20_101))
            if use.port in {20_100, 20_101}
        )
