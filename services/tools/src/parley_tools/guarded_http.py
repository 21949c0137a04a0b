"""HTTP to addresses that a business names: resolved once, checked, pinned, never redirected, bounded in bytes and time.

A name is resolved, every address it has is judged, and the socket is opened to the very address that was judged; so
a name that resolves differently a moment later gains nothing. TLS still checks the name.

Law: no request leaves for a private, link-local, metadata or otherwise special address unless the deployment
allows it, which production cannot.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import httpx

from parley_tools.refusals import NothingDone

ANSWER_BYTES_MAX = 256_000
CONNECTIONS_MAX = 64
_TRANSLATED = ip_network("64:ff9b::/96")
"""NAT64: an IPv4 address in the last 32 bits. Source: RFC 6052, section 2.1."""
Resolve = Callable[[str, int], Awaitable[list[str]]]


async def resolve_name(host: str, port: int) -> list[str]:
    """Return the addresses of a name, in the order the system prefers them. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_public(address: str) -> bool:
    """Tell whether an address is one of the open internet, also when it is wrapped in an IPv6 one."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return all(_is_public(each) for each in (ip, *_wrapped(ip)))


def _wrapped(ip: IPv4Address | IPv6Address) -> list[IPv4Address]:
    if isinstance(ip, IPv4Address):
        return []
    inner = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
    if ip in _TRANSLATED:
        inner.append(IPv4Address(int(ip) & 0xFFFFFFFF))
    return [each for each in inner if each is not None]


def _is_public(ip: IPv4Address | IPv6Address) -> bool:
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        return True  # judged by what it wraps
    return ip.is_global and not ip.is_multicast


@dataclass(frozen=True, slots=True)
class AddressGuard:
    """Decides where requests may go."""

    allow_private: bool = False
    resolve: Resolve = resolve_name

    async def pin(self, host: str, port: int) -> str:
        """Return the address to open a socket to. Raises NothingDone when there is none that may be asked."""
        try:
            found = await self.resolve(host, port)
        except (OSError, UnicodeError) as wrong:
            raise NothingDone(f"{host} has no address", code="provider_unavailable") from wrong
        if not found:
            raise NothingDone(f"{host} has no address", code="provider_unavailable")
        if not self.allow_private and not all(map(is_public, found)):
            raise NothingDone(f"{host} is not on the open internet", code="address_refused")
        return found[0]


class PinnedTransport(httpx.AsyncBaseTransport):
    """Opens each request's socket to the address that was judged.

    No socket is kept: one made for a name must not serve another name at the same address.
    """

    def __init__(self, guard: AddressGuard) -> None:
        self._guard = guard
        limits = httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=0)
        self._inner = httpx.AsyncHTTPTransport(trust_env=False, limits=limits)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        address = await self._guard.pin(url.host, url.port or (443 if url.scheme == "https" else 80))
        request.extensions = {**request.extensions, "sni_hostname": url.host}
        request.url = url.copy_with(host=address)
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


def guarded_client(guard: AddressGuard) -> httpx.AsyncClient:
    """Return a client that goes only where ``guard`` lets it, follows no redirect and knows no proxy."""
    return httpx.AsyncClient(transport=PinnedTransport(guard), follow_redirects=False, trust_env=False)


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer, whole."""

    status: int
    body: bytes


async def fetch(http: httpx.AsyncClient, request: httpx.Request) -> Fetched:
    """Send a request and read at most ANSWER_BYTES_MAX of its answer. Raises httpx.HTTPError, NothingDone.

    The body is read as it came: with ``accept-encoding: identity`` sent, a compressed one is a wrong answer, and
    no small answer unfolds into a large one.
    """
    response = await http.send(request, stream=True)
    try:
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > ANSWER_BYTES_MAX:
                raise httpx.ReadError("the answer is too large", request=request)
        return Fetched(response.status_code, bytes(body))
    finally:
        await response.aclose()
