"""Which addresses are the web's and which are somebody's network."""

from __future__ import annotations

import asyncio
import socket

import pytest
from aiohttp.abc import ResolveResult

from react_ray.web.addresses import BlockedAddress, Resolver, is_public, public_socket


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "93.184.216.34",
        "168.63.129.17",
        "100.128.0.1",
        "192.0.1.1",
        "198.20.0.1",
        "2606:2800:220:1::1",
        "2a00:1450:4001:80b::200e",
        "2001:4860:4860::8888",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::1",
        "2001:0:808:808:0:ffff:f7f7:f7f7",  # Teredo: its server and its client are 8.8.8.8
    ],
)
def test_an_address_of_the_web_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "fec0::1",
        "ff02::1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "100.127.255.255",
        "168.63.129.16",
        "::ffff:168.63.129.16",
        "64:ff9b::a83f:8110",
        "2002:a83f:8110::1",
        "192.0.0.8",
        "192.0.0.9",
        "192.0.0.170",
        "192.0.0.192",
        "192.0.2.1",
        "192.31.196.1",
        "192.52.193.1",
        "192.88.99.1",
        "192.175.48.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "::8.8.8.8",
        "::ffff:0:8.8.8.8",
        "64:ff9b:1::808:808",
        "100::1",
        "100:0:0:1::1",
        "2001:0:808:808:0:ffff:f5ff:fffe",  # Teredo: its client is 10.0.0.1
        "2001:0:a00:1:0:ffff:f7f7:f7f7",  # Teredo: its server is 10.0.0.1
        "2001:1::1",
        "2001:2::1",
        "2001:3::1",
        "2001:4:112::1",
        "2001:10::1",
        "2001:20::1",
        "2001:30::1",
        "2001:db8::1",
        "2620:4f:8000::1",
        "3fff::1",
        "3fff:fff::1",
        "5f00::1",
        "4000::1",
        "fe80::5efe:10.0.0.1",
        "2606:2800:220:1:0:5efe:10.0.0.1",
        "2606:2800:220:1:200:5efe:169.254.169.254",
        "2606:2800:220:1:200:5efe:8.8.8.8",
        "not an address",
    ],
)
def test_an_address_inside_a_network_is_not(address: str) -> None:
    assert not is_public(address)


def results(*addresses: str) -> list[ResolveResult]:
    return [
        ResolveResult(hostname="x", host=address, port=80, family=socket.AF_INET, proto=0, flags=0)
        for address in addresses
    ]


@pytest.mark.parametrize("addresses", [("10.0.0.1",), ("8.8.8.8", "10.0.0.1")])
def test_a_name_with_one_private_address_is_refused_and_not_looked_up_again(addresses: tuple[str, ...]) -> None:
    lookups: list[str] = []

    async def lookup(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
        lookups.append(host)
        return results(*addresses)

    async def resolve_twice() -> None:
        resolver = Resolver(False, lookup)
        for _ in range(2):
            with pytest.raises(BlockedAddress):
                await resolver.resolve("mixed.example", 80)

    asyncio.run(resolve_twice())
    assert lookups == ["mixed.example"]


def test_private_addresses_pass_where_they_are_allowed() -> None:
    async def lookup(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
        return results("10.0.0.1")

    async def resolve() -> list[ResolveResult]:
        return await Resolver(True, lookup).resolve("intranet.example", 80)

    assert asyncio.run(resolve()) == results("10.0.0.1")


def test_no_socket_is_made_for_a_private_address() -> None:
    with pytest.raises(BlockedAddress):
        public_socket((socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("169.254.169.254", 80)))
    public_socket((socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("8.8.8.8", 80))).close()
