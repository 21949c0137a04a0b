"""What every service process does alike: ports, readiness, metrics, signals, exit codes."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from harness.processes import Processes
from harness.waiting import until
from parley_common.errors import ConfigInvalid
from parley_common.service import Readiness, http_app, serve_http

PROGRAM = """
import asyncio, sys
from parley_common.errors import ConfigInvalid, DependencyUnavailable
from parley_common.service import exit_on_config, run_service
from parley_common.settings import ServiceSettings, load_settings

class ShopSettings(ServiceSettings):
    model_config = {"env_prefix": "SHOP_"}

async def main(stop):
    how = sys.argv[1]
    if how == "config":
        raise ConfigInvalid("SHOP_PORT: port 1 is taken", remedy="set SHOP_PORT")
    if how == "nested":
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.Event().wait())
            raise ConfigInvalid("SHOP_PORT: nested")
    if how == "away":
        raise DependencyUnavailable("the database is away")
    print("running", flush=True)
    await stop.wait()
    print("stopped gracefully", flush=True)

run_service("shop", exit_on_config("shop", lambda: load_settings(ShopSettings)), "shop-0", main)
"""


@asynccontextmanager
async def serving(readiness: Readiness, port: int) -> AsyncIterator[httpx.AsyncClient]:
    stop = asyncio.Event()
    async with (
        asyncio.TaskGroup() as group,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        group.create_task(
            serve_http(http_app("shop", readiness), "127.0.0.1", port, stop, setting="SHOP_PORT")
        )

        async def up() -> bool:
            try:
                return (await client.get("/healthz")).status_code == 200
            except httpx.TransportError:
                return False

        await until(up, 10, "the server to answer")
        yield client
        stop.set()


async def test_a_service_is_ready_once_nothing_is_waited_for_and_says_what_it_waits_for(
    port: Callable[[], int],
) -> None:
    readiness = Readiness("kafka", "database")
    async with serving(readiness, port()) as client:
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json() == {
            "service": "shop",
            "ready": False,
            "waiting_for": {"kafka": "starting", "database": "starting"},
        }
        readiness.set("database", True)
        readiness.set("kafka", False, "no broker answers")
        assert (await client.get("/readyz")).json()["waiting_for"] == {"kafka": "no broker answers"}
        readiness.set("kafka", True)
        assert (await client.get("/readyz")).status_code == 200
        readiness.set("kafka", False)
        assert (await client.get("/readyz")).json()["waiting_for"] == {"kafka": "not ready"}
        assert (await client.get("/healthz")).json() == {"service": "shop", "status": "ok"}


async def test_metrics_are_served_and_documentation_is_not(port: Callable[[], int]) -> None:
    async with serving(Readiness(), port()) as client:
        metrics = await client.get("/metrics")
        assert "parley_facts_settled" in metrics.text or "python_info" in metrics.text
        assert (await client.get("/docs")).status_code == 404
        assert (await client.get("/openapi.json")).status_code == 404


async def test_a_port_that_is_taken_is_an_error_that_names_its_setting() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        with pytest.raises(ConfigInvalid) as refused:
            await serve_http(
                http_app("shop", Readiness()), "127.0.0.1", number, asyncio.Event(), setting="SHOP_PORT"
            )
    assert str(refused.value).startswith(f"SHOP_PORT: port {number} on 127.0.0.1 is taken")


async def test_an_address_that_is_not_ours_is_not_called_a_taken_port(port: Callable[[], int]) -> None:
    # TEST-NET-1 (RFC 5737): no machine has it.
    with pytest.raises(ConfigInvalid) as refused:
        await serve_http(
            http_app("shop", Readiness()), "192.0.2.1", port(), asyncio.Event(), setting="SHOP_PORT"
        )
    assert "SHOP_PORT" in str(refused.value)
    assert "taken" not in str(refused.value)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_a_service_gracefully(processes: Processes, number: signal.Signals) -> None:
    proc = processes.start([sys.executable, "-c", PROGRAM, "run"], name="shop")
    await proc.wait_log("running")
    assert await asyncio.to_thread(proc.stop, 10, by=number) == 0
    assert "stopped gracefully" in proc.log()


@pytest.mark.parametrize(
    ("how", "code", "line"),
    [
        ("config", 78, "shop: SHOP_PORT: port 1 is taken (set SHOP_PORT)"),
        ("nested", 78, "shop: SHOP_PORT: nested"),
    ],
)
async def test_a_wrong_setting_ends_the_process_with_78_and_one_line(
    processes: Processes, how: str, code: int, line: str
) -> None:
    proc = processes.start([sys.executable, "-c", PROGRAM, how], name="shop")
    assert await proc.wait_exit(20) == code
    assert proc.log().splitlines() == [line]


async def test_a_variable_that_nobody_knows_ends_the_process_with_78_and_one_line(
    processes: Processes,
) -> None:
    proc = processes.start([sys.executable, "-c", PROGRAM, "run"], name="shop", env={"PARLEY_COLOUR": "red"})
    assert await proc.wait_exit(20) == 78
    (line,) = proc.log().splitlines()
    assert line.startswith("shop: PARLEY_COLOUR is not a setting")


async def test_any_other_error_of_ours_ends_the_process_with_1_and_its_code(processes: Processes) -> None:
    proc = processes.start([sys.executable, "-c", PROGRAM, "away"], name="shop")
    assert await proc.wait_exit(20) == 1
    assert "dependency_unavailable" in proc.log()
    assert "Traceback" not in proc.log()
