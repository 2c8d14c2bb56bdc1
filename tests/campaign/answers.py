"""Door: answers of web servers, over real HTTP, as `download` fetches them; also odd URLs and odd robots.txt.

What browsers accept has to give the very bytes. Anything else has to become a status of its row with a reason in one
line, and may harm no other row: a good URL is fetched in the same call, and another on the same connections after it.
"""

from __future__ import annotations

import hashlib
import random
import re
import socket
from dataclasses import dataclass
from functools import cache
from typing import Any

import pyarrow as pa
from aiohttp.abc import ResolveResult

from react_ray import schema
from react_ray.pairs.download import DownloadConfig, download
from react_ray.web import status
from react_ray.web.addresses import Resolver
from react_ray.web.fetch import Fetcher
from tests.campaign.answer_hostile import hostile
from tests.campaign.answer_seeds import harmless
from tests.campaign.answer_server import AnswerServer, Step
from tests.campaign.case import Case, check
from tests.campaign.damage import damaged
from tests.campaign.source_truth import small_image

MAX_BYTES = 1_000_000
LONGEST_ERROR = 3000  # characters; it may name the URL
PATIENT: dict[str, Any] = {
    "allow_private_addresses": True,
    "max_bytes": MAX_BYTES,
    "retries": 1,
    "backoff_s": 0.01,
    "max_backoff_s": 0.02,
    "first_byte_timeout_s": 10.0,
    "total_timeout_s": 25.0,
    "disable_all_reencoding": True,
}
HASTY = PATIENT | {"first_byte_timeout_s": 0.3, "total_timeout_s": 1.0, "retries": 0}
NAMED = {value for module in (status, schema) for value in vars(module).values() if isinstance(value, str)}
KNOWN = NAMED - {schema.INTERNAL_ERROR, schema.CRASHED}
TIMEOUTS = (status.TIMEOUT_FIRST_BYTE, status.TIMEOUT_BODY, status.TIMEOUT_TOTAL, status.TIMEOUT_CONNECT)
HTTP_STATUS = re.compile(r"http_\d{1,3}")
GOOD = small_image("jpg", 0)
PIECES = (
    "http://", "https://", "HTTP:", "//", "/", ":", "@", "[", "]", "::1", "%00", "%", "é", "鷺", "xn--", "..", "?", "#",
    " ", "\0", "\n", "0x7f.1", "127.0.0.1", "169.254.169.254", "a" * 300, "99999", "h.invalid", "\\", "user:pass@",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    status: str
    error: str | None
    sha256: str | None


def run(case: Case) -> str:
    rng = case.rng()
    kind = rng.choices((_harmless, _hostile, _robots, _urls), (4, 8, 1, 1))[0]
    return kind(case, rng)


def _harmless(case: Case, rng: random.Random) -> str:
    image = small_image(rng.choice(("jpg", "png", "webp", "gif")), rng.randrange(12))
    answers, how = harmless(image, rng)
    server = _server()
    url = server.say(f"/{case.number}.jpg", *answers)
    row, good = _ask([url, _good_url(server)], _fetcher("patient"), PATIENT)
    check(row.status == schema.OK, f"a good image is lost: {row.status} ({row.error})  [{how}]")
    check(row.sha256 == hashlib.sha256(image).hexdigest(), f"other bytes than the image's  [{how}]")
    _check_good(good, how)
    return how


def _hostile(case: Case, rng: random.Random) -> str:
    answers, how = hostile(small_image("jpg", rng.randrange(12)), rng)
    config = HASTY if how.startswith("silent") else PATIENT
    fetcher, server = _fetcher("hasty" if config is HASTY else "patient"), _server()
    url = server.say(f"/{case.number}.jpg", *answers)
    row, good = _ask([url, _good_url(server)], fetcher, config)
    _check_row(row, how)
    if config is PATIENT or good.status not in TIMEOUTS:
        _check_good(good, how)
    if config is PATIENT:
        _check_good(_ask([_good_url(server)], fetcher, config)[0], how)
    return f"{how}: {row.status}"


def _robots(case: Case, rng: random.Random) -> str:
    """A robots.txt of odd rules, or an odd answer to the request for it."""
    server = _server()
    rules = b"User-agent: *\nDisallow: /private\nCrawl-delay: 1\nSitemap: /s.xml\n" * rng.choice((1, 1, 20_000))
    if rng.random() < 0.5:
        answers, how = hostile(rules[:2000], rng)
    else:
        body, how = damaged(rules, rng)
        answers = [[b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body]]
    server.say("/robots.txt", *answers)
    config = (HASTY if how.startswith("silent") else PATIENT) | {"robots_txt": True, "retries": 0}
    with Fetcher(DownloadConfig(**config), lambda: Resolver(True, _nowhere)) as fetcher:
        _check_row(_ask([_good_url(server)], fetcher, config)[0], how)
    server.say("/robots.txt", [b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"])
    return f"robots.txt: {how}"


def _urls(case: Case, rng: random.Random) -> str:
    """URLs that no server ever sees: they are refused, or their host does not exist."""
    urls = ["".join(rng.choices(PIECES, k=rng.randrange(1, 7))) for _ in range(20)]
    urls += ["http://h.invalid/" + damaged(b"photos/heron.jpg?size=1#top", rng)[0].decode("latin-1") for _ in range(5)]
    for row in _ask(urls, _fetcher("public"), {"retries": 0}):
        _check_row(row, "odd URLs")
        check(row.status != schema.OK, "an image from nowhere")
    return "odd URLs"


def _ask(urls: list[str], fetcher: Fetcher, config: dict[str, Any]) -> list[Row]:
    plain = [url.encode("utf-8", "replace").decode() for url in urls]
    pairs = pa.table({"pair_id": range(len(urls)), "url": plain, "caption": ["a heron"] * len(urls)})
    images = download(pairs, fetcher, DownloadConfig(**config))
    check(len(images) == len(urls), f"{len(images)} rows of {len(urls)}")
    for row in images.to_pylist():
        check((row["status"] == schema.OK) == (row["image"] is not None), "bytes and status do not agree")
    return [Row(row["status"], row["error"], row["sha256"]) for row in images.to_pylist()]


def _check_row(row: Row, how: str) -> None:
    known = row.status in KNOWN or bool(HTTP_STATUS.fullmatch(row.status))
    check(known, f"status {row.status}: {row.error}  [{how}]")
    check((row.error is None) == (row.status == schema.OK), f"{row.status} with the error {row.error}  [{how}]")
    check((row.error or "").isprintable() and len(row.error or "") < LONGEST_ERROR, f"the error {row.error!r}  [{how}]")


def _check_good(row: Row, how: str) -> None:
    check(row.status == schema.OK, f"a row beside it is {row.status}: {row.error}  [{how}]")
    check(row.sha256 == hashlib.sha256(GOOD).hexdigest(), f"a row beside it has other bytes  [{how}]")


def _good_url(server: AnswerServer) -> str:
    step: Step = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(GOOD) + GOOD
    return server.say("/good.jpg", [step])


@cache
def _server() -> AnswerServer:
    return AnswerServer()


@cache
def _fetcher(name: str) -> Fetcher:
    """Kept for all cases of a process, as a download keeps it for all its parts. No name resolves."""
    config = {"patient": PATIENT, "hasty": HASTY, "public": {"retries": 0}}[name]
    return Fetcher(DownloadConfig(**config), lambda: Resolver(name != "public", _nowhere))


async def _nowhere(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    raise socket.gaierror(socket.EAI_NONAME, "not known")
