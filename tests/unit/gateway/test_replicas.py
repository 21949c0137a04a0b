"""What is known of the replicas: by list, by name, and of those that left while they held a session of ours."""

from __future__ import annotations

import asyncio

import pytest

from harness.http_server import HttpServer, Reply, Request
from harness.waiting import until
from parley_common.clock import ManualClock
from parley_common.contracts.audio_link import Load
from parley_gateway.placement import placement
from parley_gateway.replicas import Replicas, addresses_of

ONE, TWO = "ws://10.0.0.1:8081", "ws://10.0.0.2:8081"
NAME = "dns+ws://session:8081"


class Dns:
    """What a name stands for; null: it does not resolve."""

    def __init__(self, *urls: str) -> None:
        self.urls: set[str] | None = set(urls)

    async def __call__(self, name: str) -> set[str]:
        assert name == NAME
        if self.urls is None:
            raise OSError("no such name")
        return set(self.urls)


def named(dns: Dns, *listed: str) -> Replicas:
    return Replicas((*listed, NAME), lambda ready, why: None, dns)


def placeable(replicas: Replicas) -> set[str]:
    return set(placement("a session", replicas.views()))


async def test_a_name_stands_for_every_address_that_it_has_now() -> None:
    dns = Dns(ONE)
    replicas = named(dns)
    assert placeable(replicas) == set()
    await replicas.look_up()
    assert placeable(replicas) == {ONE}
    dns.urls = {TWO}
    await replicas.look_up()
    assert placeable(replicas) == {TWO}


async def test_a_name_that_does_not_resolve_changes_nothing() -> None:
    dns = Dns(ONE)
    replicas = named(dns)
    await replicas.look_up()
    dns.urls = None
    await replicas.look_up()
    assert placeable(replicas) == {ONE}


async def test_a_replica_that_left_its_name_keeps_its_sessions_and_gets_no_new_one() -> None:
    dns = Dns(ONE, TWO)
    replicas = named(dns)
    await replicas.look_up()
    replicas.began(ONE)
    dns.urls = {TWO}
    await replicas.look_up()
    replicas.told(ONE, Load(1, 10))
    assert placeable(replicas) == {TWO}
    assert [view.url for view in replicas.views() if view.sessions_count] == [ONE]
    replicas.ended(ONE)
    assert [view.url for view in replicas.views()] == [TWO]


async def test_what_is_listed_stays_whatever_names_say() -> None:
    dns = Dns(TWO)
    replicas = named(dns, ONE)
    await replicas.look_up()
    dns.urls = set()
    await replicas.look_up()
    assert placeable(replicas) == {ONE}


def test_a_session_taken_over_from_a_replica_that_is_not_listed_here_is_counted_and_draws_no_other() -> None:
    replicas = Replicas((ONE,), lambda ready, why: None)
    replicas.began(TWO)
    assert placeable(replicas) == {ONE}
    replicas.ended(TWO)
    assert [view.url for view in replicas.views()] == [ONE]


async def test_a_real_name_is_looked_up_and_keeps_port_and_path() -> None:
    found = await addresses_of("dns+ws://localhost:8081/inner/")
    assert "ws://127.0.0.1:8081/inner" in found
    assert found <= {"ws://127.0.0.1:8081/inner", "ws://[::1]:8081/inner"}


async def test_a_name_that_nobody_has_is_an_os_error() -> None:
    with pytest.raises(OSError, match=r".+"):
        await addresses_of("dns+ws://nobody.invalid:8081")


@pytest.mark.parametrize(
    ("body", "view"),
    [
        ('{"ready": true, "load": {"sessions": 9, "capacity": 10, "draining": false}}', (True, 9, 10, False)),
        ('{"ready": true, "load": {"sessions": 9, "capacity": 10, "draining": true}}', (True, 9, 10, True)),
        ('{"ready": true}', (True, 0, None, False)),
        ('{"load": "full"}', (True, 0, None, False)),
        ("ready", (True, 0, None, False)),
    ],
)
async def test_a_probe_tells_how_full_a_replica_is(
    body: str, view: tuple[bool, int, int | None, bool]
) -> None:
    def answer(request: Request) -> Reply:
        return Reply(200, body.encode(), {"Content-Type": "application/json"})

    clock = ManualClock()
    with HttpServer(answer) as server:
        url = server.url.rstrip("/").replace("http", "ws")
        replicas = Replicas((url,), lambda ready, why: None)
        watching = asyncio.create_task(replicas.watch(clock))
        await until(lambda: replicas.ready_count, why="the probe")
        watching.cancel()
    (seen,) = replicas.views()
    assert (seen.is_ready, seen.sessions_count, seen.capacity, seen.is_draining) == view


async def test_a_replica_that_is_heard_on_links_is_probed_one_time_in_four(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    probed: list[str] = []

    async def answers(url: str) -> tuple[bool, Load | None]:
        probed.append(url)
        return True, None

    monkeypatch.setattr("parley_gateway.replicas.probe", answers)
    clock = ManualClock()
    replicas = Replicas((ONE, TWO), lambda ready, why: None)
    watching = asyncio.create_task(replicas.watch(clock))
    await clock.advance(0)
    for _ in range(8):
        replicas.told(ONE, Load(1, 10))
        await clock.advance(500)
    assert (probed.count(ONE), probed.count(TWO)) == (3, 9)
    replicas.failed(ONE)
    replicas.told(ONE, Load(1, 10))
    await clock.advance(500)
    assert (probed.count(ONE), probed.count(TWO)) == (4, 10), "what failed is asked at once"
    watching.cancel()
