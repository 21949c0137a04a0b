"""Which network addresses a webhook may go to, and finding them for a host.

Law: what is connected to is the address that was judged, never a name that could resolve differently a moment later.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""Source: RFC 6052: the last 32 bits are the IPv4 address that is meant."""


async def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of ``host`` as the system knows them. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_public(text: str) -> bool:
    """Tell whether an address is one of the open internet, whatever other notation it hides in."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return all(part.is_global and not part.is_multicast for part in _meant(address))


def _meant(address: Address) -> list[Address]:
    """Return the address and those that it carries inside: a tunnel to a private one is private."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    if address.ipv4_mapped:
        return [address.ipv4_mapped]
    if address in _NAT64:
        return [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)]
    return [address, *filter(None, (address.sixtofour, *(address.teredo or ())))]
