"""Many requests at a time, over real HTTP: limits, connections, and an end that leaves nothing behind."""

from __future__ import annotations

import json
import socket
import threading
from typing import Any

import pytest
from aiohttp.abc import ResolveResult

from react_ray.errors import ReactRayError, ResourceError
from react_ray.web.addresses import Resolver
from react_ray.web.fetch import FetchConfig, Fetcher
from tests.support.web import HOSTS, Web

PATIENT: dict[str, Any] = {"allow_private_addresses": True, "retries": 0}


def test_a_host_is_asked_no_more_at_once_than_it_should_be_by_all_callers_together(web: Web) -> None:
    with Fetcher(FetchConfig(**PATIENT, per_host_concurrency=3)) as fetcher:
        callers = [
            threading.Thread(target=fetcher.fetch, args=([f"{web.host(3)}/slow?{caller}.{n}" for n in range(20)],))
            for caller in range(3)
        ]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    assert web.most_at_once(HOSTS[3]) <= 3
    assert web.num_requests("/slow") == 60


def test_connections_are_used_again_also_by_the_next_call(web: Web) -> None:
    urls: list[str | None] = [f"{web.http}/image/1.jpg?{n}" for n in range(50)]
    with Fetcher(FetchConfig(**PATIENT, per_host_concurrency=2)) as fetcher:
        fetcher.fetch(urls)
        before = web.num_connections()
        fetcher.fetch(urls)
        assert web.num_connections() == before + 1  # that of the question itself


def test_idle_connections_do_not_pile_up(web: Web) -> None:
    with Fetcher(FetchConfig(**PATIENT, max_in_flight=1)) as fetcher:
        heads = [json.loads(fetcher.fetch([f"{web.http}/echo/{n}"])[0].data or b"")["headers"] for n in range(3)]
    assert [head.get("connection") for head in heads] == [None, None, "close"]


def test_a_fetcher_that_is_closed_lets_nobody_wait(web: Web) -> None:
    before = set(threading.enumerate())
    fetcher = Fetcher(FetchConfig(**PATIENT))
    arrived = threading.Event()
    errors: list[Exception] = []

    def wait_for_ever() -> None:
        try:
            fetcher.fetch([web.http + "/image/1.jpg", web.http + "/stall"], on_done=lambda row, fetched: arrived.set())
        except ReactRayError as error:
            errors.append(error)

    caller = threading.Thread(target=wait_for_ever)
    caller.start()
    arrived.wait()
    fetcher.close()
    caller.join()
    assert "make a new one" in str(errors[0])
    with pytest.raises(ReactRayError, match="make a new one"):
        fetcher.fetch([web.http + "/image/1.jpg"])
    fetcher.close()  # a second time does nothing
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name == "fetch"]


def test_more_connections_than_the_system_has_files_are_refused_at_once() -> None:
    with pytest.raises(ResourceError, match=r"download\.max_in_flight"):
        Fetcher(FetchConfig(max_in_flight=10**9))


async def odd(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    raise ZeroDivisionError("while it\nlooked up a name")


def test_an_exception_that_nobody_foresaw_is_the_result_of_its_url(web: Web) -> None:
    urls: list[str | None] = [f"{web.http}/image/1.jpg?{n}" for n in range(30)]
    urls[7] = urls[21] = "http://odd.example/"
    with Fetcher(FetchConfig(**PATIENT), resolver=lambda: Resolver(True, odd)) as fetcher:
        found = fetcher.fetch(urls)
    assert [row for row, fetched in enumerate(found) if fetched.status != "ok"] == [7, 21]
    assert found[7] is found[21] and found[7].status == "internal_error"
    assert found[7].error == "ZeroDivisionError: while it looked up a name"
