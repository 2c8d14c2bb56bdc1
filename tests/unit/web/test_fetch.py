"""Promises of the fetcher, over real HTTP: every URL has a result, whatever the web does."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp.abc import ResolveResult

from react_ray import __version__, schema
from react_ray.pairs.image import inspect
from react_ray.web import status
from react_ray.web.addresses import Resolver
from react_ray.web.fetch import FetchConfig, Fetcher, FetchResult
from tests.support.web import Web
from tests.support.web_images import image

PATIENT: dict[str, Any] = {"allow_private_addresses": True, "retries": 0, "max_bytes": 1_000_000}
EAGER = PATIENT | {"retries": 2, "backoff_s": 0.01, "max_backoff_s": 0.1}


def fetch(urls: list[str | None], **config: Any) -> list[FetchResult]:
    with Fetcher(FetchConfig(**(PATIENT | config))) as fetcher:
        return fetcher.fetch(urls)


def statuses(urls: list[str | None], **config: Any) -> list[str]:
    return [fetched.status for fetched in fetch(urls, **config)]


def echo(url: str, **config: Any) -> dict[str, Any]:
    data = fetch([url], **config)[0].data
    assert data is not None
    return json.loads(data)


@pytest.fixture(scope="module")
def fetcher() -> Iterator[Fetcher]:
    with Fetcher(FetchConfig(**PATIENT)) as shared:
        yield shared


ANSWERS = {
    "/image/1.jpg": status.OK,
    "/chunked": status.OK,
    "/status/404": "http_404",
    "/status/410": "http_410",
    "/status/403": "http_403",
    "/status/429": "http_429",
    "/status/500": "http_500",
    "/status/503": "http_503",
    "/status/204": "http_204",
    "/zero": status.EMPTY,
    "/endless": status.TOO_MANY_BYTES,
    "/big": status.TOO_MANY_BYTES,
    "/short": status.TRUNCATED,
    "/gzip/good": status.OK,
    "/gzip/broken": status.OK,  # an image that is not compressed
    "/gzip/cut": status.BAD_ENCODING,
    "/gzip/bomb": status.TOO_MANY_BYTES,
    "/encoded/br": status.OK,
    "/brotli": status.BAD_ENCODING,
    "/loop/a": status.REDIRECT_LOOP,
    "/hops/5": status.OK,
    "/hops/6": status.REDIRECT_LOOP,
    "/to?url=ftp://example.org/": status.SCHEME_REFUSED,
    "/to?url=http://a%20b/": status.BAD_URL,
    "/tagged?value=noai": status.OPTED_OUT,
    "/disconnect": status.DISCONNECTED,
    "/garbage": status.BAD_RESPONSE,
}


@pytest.mark.parametrize("path", list(ANSWERS))
def test_every_answer_of_a_server_has_its_status(web: Web, fetcher: Fetcher, path: str) -> None:
    fetched = fetcher.fetch([web.http + path])[0]
    assert fetched.status == ANSWERS[path]
    assert (fetched.data is None) == (fetched.error is not None) == (fetched.status != status.OK)
    assert fetched.tries == 1


@pytest.mark.parametrize(
    ("path", "limits", "expected"),
    [
        ("/stall", {"first_byte_timeout_s": 0.3}, status.TIMEOUT_FIRST_BYTE),
        ("/stall_body", {"first_byte_timeout_s": 3.0}, status.TIMEOUT_BODY),  # in which a busy server has begun
        ("/drip?every_s=0.1", {"total_timeout_s": 1.0}, status.TIMEOUT_TOTAL),
    ],
)
def test_a_slow_server_is_given_up(web: Web, path: str, limits: dict[str, float], expected: str) -> None:
    assert statuses([web.http + path], **limits) == [expected]


def test_a_closed_port_is_refused(web: Web) -> None:
    assert statuses([f"http://127.0.0.1:{web.closed_port}/"]) == [status.REFUSED]


def test_urls_that_cannot_be_asked_have_a_status_too(fetcher: Fetcher) -> None:
    urls = [
        None,
        "",
        "  ",
        "no url",
        "http://",
        "http://a b/",
        "ftp://a.b/c",
        "data:image/png;base64,AAAA",
        "file:///etc/passwd",
    ]
    expected = [status.NO_URL] * 3 + [status.BAD_URL] * 3 + [status.SCHEME_REFUSED] * 3
    results = fetcher.fetch(urls)
    assert [fetched.status for fetched in results] == expected
    assert {fetched.tries for fetched in results} == {0}


def test_no_urls_give_no_results(fetcher: Fetcher) -> None:
    assert fetcher.fetch([]) == []


@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
def test_an_image_arrives_byte_for_byte(web: Web, fetcher: Fetcher, kind: str) -> None:
    assert fetcher.fetch([f"{web.http}/image/3.{kind}"])[0].data == image(3, kind)


def test_a_compressed_answer_is_unpacked(web: Web, fetcher: Fetcher) -> None:
    assert fetcher.fetch([web.http + "/gzip/good"])[0].data == image(1)


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/cut", schema.UNDECODABLE), ("/html", schema.UNDECODABLE), ("/huge", schema.TOO_LARGE)],
)
def test_what_is_no_good_image_is_left_to_the_decoder(web: Web, fetcher: Fetcher, path: str, expected: str) -> None:
    fetched = fetcher.fetch([web.http + path])[0]
    assert fetched.status == status.OK
    assert inspect(fetched.data).status == expected


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_failure_that_passes_is_asked_again(web: Web, code: int) -> None:
    fetched = fetch([f"{web.http}/flaky/passes{code}?code={code}&retry_after=0"], **EAGER)[0]
    assert (fetched.status, fetched.tries, fetched.http_status) == (status.OK, 2, 200)


def test_retries_come_to_an_end(web: Web) -> None:
    fetched = fetch([web.http + "/flaky/never?times=99"], **EAGER)[0]
    assert (fetched.status, fetched.tries) == ("http_503", 3)
    assert web.num_requests("/flaky/never") == 3


def test_a_failure_that_stays_is_asked_once(web: Web) -> None:
    assert statuses([web.http + "/flaky/gone?code=410&times=99"], **EAGER) == ["http_410"]
    assert web.num_requests("/flaky/gone") == 1


def test_a_server_that_wants_a_long_pause_is_left_alone(web: Web) -> None:
    assert statuses([web.http + "/flaky/busy?code=429&times=99&retry_after=3600"], **EAGER) == ["http_429"]
    assert web.num_requests("/flaky/busy") == 1


def test_equal_urls_are_asked_once(web: Web, fetcher: Fetcher) -> None:
    url = web.http + "/flaky/twice?times=0"
    results = fetcher.fetch([url, web.http + "/image/2.jpg", url, url + "#elsewhere"])
    assert web.num_requests("/flaky/twice") == 1
    assert [fetched.data for fetched in results] == [image(1), image(2), image(1), image(1)]


def test_each_row_is_announced_once_as_it_arrives(web: Web, fetcher: Fetcher) -> None:
    urls = [web.http + "/image/1.jpg", None, web.http + "/status/404", web.http + "/image/1.jpg"]
    announced: list[tuple[int, FetchResult]] = []
    results = fetcher.fetch(urls, on_done=lambda row, fetched: announced.append((row, fetched)))
    assert sorted(row for row, _ in announced) == [0, 1, 2, 3]
    assert all(results[row] is fetched for row, fetched in announced)


def test_an_error_of_the_caller_reaches_the_caller_and_the_fetcher_goes_on(web: Web, fetcher: Fetcher) -> None:
    def fail(row: int, fetched: FetchResult) -> None:
        raise ZeroDivisionError("of the caller")

    with pytest.raises(ZeroDivisionError, match="of the caller"):
        fetcher.fetch([f"{web.http}/image/{seed}.jpg" for seed in range(20)], on_done=fail)
    assert fetcher.fetch([web.http + "/image/1.jpg"])[0].status == status.OK


def mixture(web: Web) -> list[str | None]:
    paths = [path for path in ANSWERS if path not in ("/endless", "/gzip/bomb")]
    return [*(web.http + path for path in paths), f"http://127.0.0.1:{web.closed_port}/", None, "http://a b/"]


def test_results_do_not_depend_on_how_many_are_in_flight(web: Web) -> None:
    one, many = (
        [(fetched.status, fetched.error, fetched.data) for fetched in fetch(mixture(web), **limits)]
        for limits in ({"max_in_flight": 1}, {"max_in_flight": 64, "per_host_concurrency": 64, "adaptive": False})
    )
    assert one == many


def test_an_error_is_one_short_line_that_names_no_address(web: Web) -> None:
    port = web.http.rpartition(":")[2]
    for fetched in fetch(mixture(web)):
        assert fetched.error is None or (len(fetched.error.splitlines()) == 1 and len(fetched.error) < 120)
        assert not any(text in (fetched.error or "") for text in ("127.0.0.1", port, "0x", "object at"))


def test_credentials_are_sent_and_never_stored(web: Web) -> None:
    with_password = web.http.replace("http://", "http://user:secret@")
    assert echo(with_password + "/echo/")["headers"]["authorization"].startswith("basic ")
    urls = [
        with_password + "/status/404",
        f"http://user:secret@127.0.0.1:{web.closed_port}/",
        "http://user:secret@a b/",
    ]
    assert not any("secret" in repr(fetched) for fetched in fetch([*urls]))


def test_the_server_sees_the_url_as_it_was_written(web: Web) -> None:
    assert echo(web.http + "/echo/a%2Fb?u=http%3A%2F%2Fc&d=%7e+x")["target"] == "/echo/a%2Fb?u=http%3A%2F%2Fc&d=%7e+x"
    assert echo(web.http + "/echo/two words/\u00fc?q=\u00e9#part")["target"] == "/echo/two%20words/%C3%BC?q=%C3%A9"


def test_servers_are_told_who_asks(web: Web) -> None:
    headers = echo(web.http + "/echo/")["headers"]
    assert headers["user-agent"] == f"react_ray/{__version__}"
    assert headers["accept-encoding"] == "identity"
    assert echo(web.http + "/echo/", user_agent="me (me@example.org)")["headers"]["user-agent"] == "me (me@example.org)"


def test_no_text_whatever_makes_it_raise() -> None:
    rng = random.Random(0)
    pieces = [
        "http",
        "https",
        "://",
        ":",
        "//",
        "/",
        "@",
        "#",
        "?",
        "%",
        "%zz",
        "[",
        "]",
        "::1",
        "\\",
        ".",
        "xn--",
        " ",
    ]
    pieces += [
        "\x00",
        "\r\n",
        "\ud800",
        "\u202e",
        "\u00fc",
        "\u3002",
        "\uff11",
        "a" * 70,
        "0x7f",
        "99999",
        "127.1",
        "-",
    ]
    urls = ["http://" + "".join(rng.choices(pieces, k=rng.randint(1, 6))) for _ in range(500)]
    urls += ["".join(rng.choices(pieces, k=rng.randint(1, 8))) for _ in range(500)]
    with Fetcher(FetchConfig(retries=0), lambda: Resolver(False, nowhere)) as fetcher:
        assert len(fetcher.fetch(urls)) == 1000


async def nowhere(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    raise socket.gaierror(socket.EAI_NONAME, "not known")
