"""Resolves host names and refuses addresses that are not public (protection against SSRF).

The URLs of a pool are written by strangers, and one of them may name the cloud's metadata service or a printer. The
check is made on the very address that is connected to, so a name that resolves differently at check and at use (DNS
rebinding) gains nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable
from functools import lru_cache
from time import monotonic

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import AddrInfoType
from aiohttp.resolver import ThreadedResolver

Lookup = Callable[[str, int, socket.AddressFamily], Awaitable[list[ResolveResult]]]

FAILURE_TTL_S = 60.0  # one pool may have hundreds of URLs of a dead domain
MAX_FAILURES = 100_000
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")  # all that is allocated for the internet of today
ISATAP = (0x00005EFE, 0x02005EFE)  # bits 64 to 95 of an address that tunnels within one site
# What `ipaddress` of Python 3.10 to 3.13 takes for global, but IANA's registries of special-purpose addresses do not,
# and the hosts that a cloud gives its machines at addresses of its own.
# https://www.iana.org/assignments/iana-ipv4-special-registry and .../iana-ipv6-special-registry
SPECIAL_V4 = [
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "100.64.0.0/10",  # shared, behind carriers' NAT
        "168.63.129.16/32",  # Azure's wire server
        "192.0.0.0/24",  # protocol assignments; Oracle Cloud's metadata is at 192.0.0.192
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
    )
]
SPECIAL_V6 = [
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments
        "2001:db8::/32",  # documentation
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
]


class BlockedAddress(OSError):
    """The host is, or resolves to, an address that is not public."""


@lru_cache(maxsize=65536)
def is_public(address: str) -> bool:
    """Returns False for loopback, private, link-local, shared, multicast, reserved and special-purpose addresses, also
    inside IPv6 forms.
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        if inner := _inner(found):
            return all(is_public(str(address)) for address in inner)
        if found not in GLOBAL_UNICAST or int(found) >> 32 & 0xFFFFFFFF in ISATAP:
            return False
    special = SPECIAL_V4 if isinstance(found, ipaddress.IPv4Address) else SPECIAL_V6
    return found.is_global and not found.is_multicast and not any(found in network for network in special)


def _inner(address: ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """Returns the IPv4 addresses that a mapped, 6to4, Teredo or NAT64 address leads to, [] for any other."""
    if address in NAT64:
        return [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)]
    return [inner for inner in (address.ipv4_mapped, address.sixtofour, *(address.teredo or ())) if inner is not None]


def is_address(host: str) -> bool:
    """Returns whether the host of a WebUrl is an address and not a name."""
    return ":" in host or host.replace(".", "").isdigit()


class Resolver(AbstractResolver):
    """Resolves names in threads, caches failures, and refuses a name if any of its addresses is not public."""

    def __init__(self, allow_private: bool, lookup: Lookup | None = None) -> None:
        self._allow_private = allow_private
        self._lookup = lookup or ThreadedResolver().resolve
        self._failures: dict[str, tuple[float, OSError]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        until, known = self._failures.get(host, (0.0, None))
        if known is not None and monotonic() < until:
            raise type(known)(*known.args)
        try:
            found = await self._lookup(host, port, family)
        except UnicodeError as error:  # IDNA refuses a label of the name
            raise socket.gaierror(socket.EAI_NONAME, "not a name") from error
        except OSError as error:
            self._remember(host, error)
            raise
        if not self._allow_private and not all(is_public(result["host"]) for result in found):
            blocked = BlockedAddress("resolves to an address that is not public")
            self._remember(host, blocked)
            raise blocked
        return found

    async def close(self) -> None:
        self._failures.clear()

    def _remember(self, host: str, error: OSError) -> None:
        if isinstance(error, socket.gaierror) and error.errno != socket.EAI_NONAME:
            return  # the name server did not answer; it may answer the next request
        while len(self._failures) >= MAX_FAILURES:
            self._failures.pop(next(iter(self._failures)))
        self._failures[host] = (monotonic() + FAILURE_TTL_S, error)


def public_socket(info: AddrInfoType) -> socket.socket:
    """Opens the socket of every connection, so no cached name and no numeric host bypasses the check."""
    family, kind, protocol, _, address = info
    if not is_public(str(address[0])):
        raise BlockedAddress("an address that is not public")
    return socket.socket(family, kind, protocol)
