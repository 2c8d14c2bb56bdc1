"""What may not be fetched is not fetched: certificates, opt-outs, robots.txt, block lists, private networks."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from aiohttp.abc import ResolveResult

from react_ray.web import status
from react_ray.web.addresses import Resolver
from react_ray.web.fetch import FetchConfig, Fetcher, FetchResult
from react_ray.web.fetch_loop import FetchLoop
from react_ray.web.url_policy import UrlPolicy
from tests.support.web import HOSTS, Web

OPEN: dict[str, Any] = {"allow_private_addresses": True, "retries": 0}
OPEN_CONFIG = FetchConfig(**OPEN)


def statuses(urls: list[str | None], **config: Any) -> list[str]:
    with Fetcher(FetchConfig(**(OPEN | config))) as fetcher:
        return [fetched.status for fetched in fetcher.fetch(urls)]


def test_a_certificate_must_be_signed_and_for_the_name(web: Web) -> None:
    urls: list[str | None] = [web.https + "/image/1.jpg", web.wrong_name + "/image/1.jpg"]
    assert statuses(urls, ca_file=web.ca_file) == [status.OK, status.TLS]
    assert statuses(urls) == [status.TLS, status.TLS]
    assert statuses(urls, verify_tls=False) == [status.OK, status.OK]


@pytest.mark.parametrize(
    ("value", "expected"),
    [("noai", status.OPTED_OUT), ("react_ray: noimageai", status.OPTED_OUT), ("otherbot: noai", status.OK)],
)
def test_an_owner_can_opt_out(web: Web, value: str, expected: str) -> None:
    url = f"{web.http}/tagged?value={value}"
    assert statuses([url]) == [expected]
    assert statuses([url], respect_opt_out=False) == [status.OK]


def test_robots_txt_is_obeyed_where_that_is_asked_for_and_read_once_per_host(web: Web) -> None:
    web.set_robots(HOSTS[1], "User-agent: react_ray\nDisallow: /flaky/private")
    urls: list[str | None] = [f"{web.host(1)}/flaky/{name}?times=0" for name in ("public1", "private", "public2")]
    before = web.num_requests("/robots.txt")
    assert statuses(urls, robots_txt=True) == [status.OK, status.ROBOTS, status.OK]
    assert web.num_requests("/robots.txt") == before + 1
    assert web.num_requests("/flaky/private") == 0
    assert statuses(urls) == [status.OK] * 3
    assert web.num_requests("/robots.txt") == before + 1


def test_a_robots_txt_that_cannot_be_read_forbids_all_and_a_missing_one_nothing(web: Web) -> None:
    web.set_robots(HOSTS[2], "", 503)
    urls: list[str | None] = [web.host(2) + "/image/1.jpg", web.host(4) + "/image/1.jpg"]
    assert statuses(urls, robots_txt=True) == [status.ROBOTS_UNREADABLE, status.OK]


def test_robots_txt_holds_for_the_host_that_a_redirect_leads_to(web: Web) -> None:
    web.set_robots(HOSTS[6], "User-agent: *\nDisallow: /flaky/hidden")
    assert statuses([f"{web.http}/to?url={web.host(6)}/flaky/hidden"], robots_txt=True) == [status.ROBOTS]
    assert web.num_requests("/flaky/hidden") == 0


def test_blocked_domains_and_prefixes_are_not_asked_also_after_a_redirect(web: Web) -> None:
    blocked = [HOSTS[5], web.http + "/flaky/art/"]
    urls: list[str | None] = [
        web.host(5) + "/flaky/blocked?times=0",
        web.http + "/flaky/art/1?times=0",
        f"{web.http}/to?url={web.host(5)}/flaky/blocked",
        web.http + "/image/1.jpg",
    ]
    assert statuses(urls, blocked=blocked) == [status.BLOCKED_DOMAIN] * 3 + [status.OK]
    assert web.num_requests("/flaky/blocked") == web.num_requests("/flaky/art/1") == 0


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "127.0.0.1.",
    ],
)
def test_this_machine_is_not_reached_however_it_is_written(web: Web, host: str) -> None:
    port = web.http.rpartition(":")[2]
    assert statuses([f"http://{host}:{port}/flaky/inside?times=0"], allow_private_addresses=False) in (
        [status.BLOCKED_ADDRESS],
        [status.UNREACHABLE],  # a machine without IPv6
    )
    assert web.num_requests("/flaky/inside") == 0


@pytest.mark.parametrize("target", ["http://169.254.169.254/latest/", "http://[fd00:ec2::254]/", "http://2852039166/"])
def test_a_redirect_does_not_lead_to_the_metadata_of_the_cloud(web: Web, target: str) -> None:
    async def run() -> list[FetchResult]:
        # The server is on loopback: the client is let there by a name, and the redirect is judged as on the web.
        policy = UrlPolicy(FetchConfig())
        loop = FetchLoop(OPEN_CONFIG, policy)
        url = policy.admit(f"{web.http.replace('127.0.0.1', 'localhost')}/to?url={target}")
        try:
            return await loop.fetch(1, [(url, [0])], [], None)
        finally:
            await loop.close()

    assert [(fetched.status, fetched.http_status) for fetched in asyncio.run(run())] == [(status.BLOCKED_ADDRESS, 302)]


async def loopback(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0)]


@pytest.mark.parametrize("got_round", [False, True], ids=["resolver", "last gate"])
def test_a_public_name_with_a_private_address_is_not_reached(web: Web, got_round: bool) -> None:
    url = f"http://rebound.example:{web.http.rpartition(':')[2]}/flaky/rebound?times=0"
    with Fetcher(FetchConfig(retries=0), lambda: Resolver(got_round, loopback)) as fetcher:
        assert fetcher.fetch([url])[0].status == status.BLOCKED_ADDRESS
    assert web.num_requests("/flaky/rebound") == 0


def test_a_dead_name_is_looked_up_once_and_a_silent_name_server_is_asked_again(web: Web) -> None:
    lookups: list[str] = []

    async def lookup(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
        lookups.append(host)
        if host == "dead.example":
            raise socket.gaierror(socket.EAI_NONAME, "not known")
        if lookups.count(host) == 1:
            raise socket.gaierror(socket.EAI_AGAIN, "try again")
        return await loopback(host, port, family)

    port = web.http.rpartition(":")[2]
    urls = [*(f"http://dead.example:{port}/{n}" for n in range(10)), f"http://shy.example:{port}/image/1.jpg"]
    with Fetcher(FetchConfig(**(OPEN | {"retries": 1, "backoff_s": 0})), lambda: Resolver(True, lookup)) as fetcher:
        results = fetcher.fetch(urls)
    assert [fetched.status for fetched in results] == [status.DNS_NOT_FOUND] * 10 + [status.OK]
    assert results[-1].tries == 2
    assert lookups.count("dead.example") == 1


def test_a_connection_that_takes_too_long_is_given_up() -> None:
    async def lookup(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
        return await asyncio.get_running_loop().create_future()

    config = FetchConfig(retries=0, connect_timeout_s=0.2)
    with Fetcher(config, lambda: Resolver(False, lookup)) as fetcher:
        assert fetcher.fetch(["http://slow.example/"])[0].status == status.TIMEOUT_CONNECT
