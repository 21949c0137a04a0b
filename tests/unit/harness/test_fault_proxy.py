"""Each fault of the proxy does to a socket what its name says, and healing takes it away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from harness.fault_proxy import FaultProxy
from harness.waiting import until


class Echo:
    """A TCP server that says back what it hears, and counts the ends of its sockets."""

    def __init__(self) -> None:
        self.ended_count = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(65536):
                writer.write(chunk)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            self.ended_count += 1
            writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    server_side = Echo()
    server = await asyncio.start_server(server_side.serve, "127.0.0.1", 0)
    server_side.port = server.sockets[0].getsockname()[1]
    yield server_side
    server.close()


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(echo.port) as proxy:
        yield proxy


class Client:
    """One socket through the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def dial(cls, proxy: FaultProxy) -> Client:
        return cls(*await asyncio.open_connection("127.0.0.1", proxy.port))

    async def say(self, text: bytes, deadline_s: float = 5.0) -> tuple[bytes, float]:
        """Send, and return what came back and after how many milliseconds."""
        began_s = asyncio.get_running_loop().time()
        self.writer.write(text)
        async with asyncio.timeout(deadline_s):
            back = await self.reader.readexactly(len(text))
        return back, (asyncio.get_running_loop().time() - began_s) * 1000

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


@pytest.fixture
async def client(proxy: FaultProxy) -> AsyncIterator[Client]:
    client = await Client.dial(proxy)
    assert (await client.say(b"hello"))[0] == b"hello"
    yield client
    await client.close()


async def test_without_a_fault_everything_passes_in_order(client: Client) -> None:
    everything = bytes(range(256)) * 4000
    assert (await client.say(everything))[0] == everything


async def test_an_end_passes_through_and_the_answer_to_it_comes_back(
    proxy: FaultProxy, client: Client
) -> None:
    client.writer.write(b"last words")
    client.writer.write_eof()
    async with asyncio.timeout(5):
        assert await client.reader.read() == b"last words"
    await until(lambda: proxy.open_count == 0, 5, "the proxied socket to be forgotten")


async def test_delay_is_felt_on_both_ways_without_narrowing_the_flow(
    proxy: FaultProxy, client: Client
) -> None:
    proxy.delay_ms = 40
    assert (await client.say(b"x"))[1] >= 80
    # A hundred chunks in flight together: were each delayed after the one before, this would take 8 s.
    back, took_ms = await client.say(b"y" * 1_600_000)
    assert len(back) == 1_600_000
    assert took_ms < 4000


async def test_jitter_never_reorders(proxy: FaultProxy, client: Client) -> None:
    proxy.jitter_ms = 5
    numbers = b"".join(n.to_bytes(4, "big") for n in range(60_000))
    assert (await client.say(numbers))[0] == numbers


async def test_a_width_holds_the_rate_down(proxy: FaultProxy, client: Client) -> None:
    proxy.bytes_per_s = 100_000
    assert (await client.say(b"z" * 20_000))[1] >= 150


async def test_a_stalled_proxy_passes_nothing_and_loses_nothing(proxy: FaultProxy, client: Client) -> None:
    proxy.stall()
    with pytest.raises(TimeoutError):
        await client.say(b"held", deadline_s=0.1)
    await proxy.heal()
    async with asyncio.timeout(5):
        assert await client.reader.readexactly(4) == b"held"


async def test_a_cut_resets_the_socket_while_new_ones_are_accepted(
    proxy: FaultProxy, client: Client, echo: Echo
) -> None:
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        await client.say(b"x")
    await until(lambda: echo.ended_count == 1, 5, "the far end to be reset too")
    again = await Client.dial(proxy)
    assert (await again.say(b"again"))[0] == b"again"
    await again.close()


async def test_a_stalled_socket_can_still_be_cut(proxy: FaultProxy, client: Client) -> None:
    proxy.stall()
    client.writer.write(b"never arrives")
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        await client.reader.readexactly(1)
    await until(lambda: proxy.open_count == 0, 5, "the cut socket to be forgotten")


async def test_a_half_open_socket_hides_even_the_end(proxy: FaultProxy, client: Client, echo: Echo) -> None:
    proxy.half_open()
    with pytest.raises(TimeoutError):
        await client.say(b"lost", deadline_s=0.1)
    await client.close()
    assert echo.ended_count == 0
    assert proxy.open_count == 1
    proxy.cut()
    await until(lambda: echo.ended_count == 1, 5, "the far end to learn of it")


async def test_a_refusing_proxy_is_as_if_nothing_listened_and_comes_back_on_its_port(
    proxy: FaultProxy, client: Client
) -> None:
    port = proxy.port
    await proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await Client.dial(proxy)
    await proxy.accept()
    assert proxy.port == port
    again = await Client.dial(proxy)
    assert (await again.say(b"back"))[0] == b"back"
    await again.close()


async def test_a_target_that_refuses_resets_the_client() -> None:
    async with FaultProxy(1) as proxy:
        client = await Client.dial(proxy)
        with pytest.raises(ConnectionResetError):
            await client.reader.readexactly(1)
        await client.close()


async def test_sockets_are_counted(proxy: FaultProxy, client: Client) -> None:
    second = await Client.dial(proxy)
    await second.say(b"x")
    assert (proxy.accepted_count, proxy.open_count) == (2, 2)
    await second.close()
    await until(lambda: proxy.open_count == 1, 5, "one socket to be left")
