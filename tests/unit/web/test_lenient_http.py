"""What browsers and urllib take is taken, over real connections; what is no HTTP or too long is a status at once."""

from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from react_ray.web import status
from react_ray.web.fetch import FetchConfig, Fetcher, FetchResult
from react_ray.web.lenient_http import END, MAX_HEAD, is_plain, tidied
from tests.support.raw_answers import raw_answers
from tests.support.web_images import image

BODY = image(1)
N = len(BODY)
LENGTH = b"Content-Length: %d" % N
CHUNKED = b"Transfer-Encoding: chunked"
CHUNKS = b"%x\r\n" % N + BODY + b"\r\n0\r\n\r\n"


def head(*lines: bytes, first: bytes = b"HTTP/1.1 200 OK", end: bytes = b"\r\n") -> bytes:
    return end.join([first, *lines]) + end + end


def fetch(answers: Mapping[str, bytes | Sequence[bytes]], keep_open: bool = False, **config: Any) -> list[FetchResult]:
    """Returns the results in the order of `answers`."""
    options = {"allow_private_addresses": True, "retries": 0, "max_bytes": 1_000_000} | config
    with raw_answers(answers, keep_open) as base, Fetcher(FetchConfig.model_validate(options)) as fetcher:
        return fetcher.fetch([base + path for path in answers])


TAKEN = {
    "same length twice": head(LENGTH, LENGTH) + BODY,
    "same length in a list": head(b"Content-Length: %d, %d" % (N, N)) + BODY,
    "length with zeros": head(LENGTH, b"Content-Length: 0%d" % N) + BODY,
    "length with a plus": head(b"Content-Length: +%d" % N) + BODY,
    "no length": head(b"Content-Length: ") + BODY,
    "length of words": head(b"Content-Length: many") + BODY,
    "negative length": head(b"Content-Length: -1") + BODY,
    "length and chunks": head(LENGTH, CHUNKED) + CHUNKS,
    "wrong length and chunks": head(b"Content-Length: 3", b"Content-Length: 4", CHUNKED) + CHUNKS,
    "chunks twice": head(CHUNKED, CHUNKED) + CHUNKS,
    "chunks and more": head(CHUNKED) + CHUNKS + b"junk",
    "chunks with extensions": head(CHUNKED) + CHUNKS.replace(b"\r\n", b" ;a=b\r\n", 1),
    "transfer encoding identity": head(LENGTH, b"Transfer-Encoding: identity") + BODY,
    "longer": head(LENGTH) + BODY + b"more than was announced",
    "longer by much": head(LENGTH) + BODY + bytes(100_000),
    "longer and closed": head(LENGTH, b"Connection: close") + BODY + b"more",
    "longer by a blank line": head(LENGTH) + BODY + b"\r\n",
    "space before a colon": head(LENGTH, b"X-Foo : bar") + BODY,
    "tab before a colon": head(b"Content-Length\t: %d" % N, b"X-Foo\t: bar") + BODY,
    "line without a colon": head(LENGTH, b"garbage") + BODY,
    "colon without a name": head(b": x", LENGTH) + BODY,
    "names that are none": head(b"X Foo: bar", b"X[0]: bar", b"caf\xe9: bar", LENGTH) + BODY,
    "values that are none": head(b"X: a\0b", b"Y: a\rb", b"Z: a\x01\xe9b", LENGTH) + BODY,
    "folded": head(b"X: a", b"  b", b"\tc", LENGTH) + BODY,
    "folded at the start": head(b" X: a", LENGTH) + BODY,
    "line feeds": head(LENGTH, b"X: y", end=b"\n") + BODY,
    "some line feeds": b"HTTP/1.1 200 OK\nX: y\r\n" + LENGTH + b"\n\r\n" + BODY,
    "blank lines first": b"\r\n\r\n" + head(LENGTH) + BODY,
    "no reason": head(LENGTH, first=b"HTTP/1.1 200") + BODY,
    "long reason": head(LENGTH, first=b"HTTP/1.1 200 " + b"O" * 9000) + BODY,
    "two spaces": head(LENGTH, first=b"HTTP/1.1  200  OK") + BODY,
    "1.0 without a length": head(first=b"HTTP/1.0 200 OK") + BODY,
    "1.1 without a length": head() + BODY,
    "version 1.2": head(LENGTH, first=b"HTTP/1.2 200 OK") + BODY,
    "version 2": head(LENGTH, first=b"HTTP/2 200") + BODY,
    "small letters": head(LENGTH, first=b"http/1.1 200 ok") + BODY,
    "early hints": head(b"Link: x", first=b"HTTP/1.1 103 Early Hints") + head(LENGTH) + BODY,
    "continue twice": 2 * head(first=b"HTTP/1.1 100 Continue") + head(LENGTH, LENGTH) + BODY,
    "one long header": head(LENGTH, b"X: " + b"x" * 20_000) + BODY,
    "many headers": head(LENGTH, *(b"X-%d: %s" % (n, b"x" * 90) for n in range(500))) + BODY,
    "many cookies": head(LENGTH, *(b"Set-Cookie: a%d=%s" % (n, b"x" * 3000) for n in range(6))) + BODY,
    "upgrade": head(LENGTH, b"Upgrade: h2,h2c", b"Connection: Upgrade") + BODY,
    "a whole range": head(LENGTH, b"Content-Range: bytes 0-%d/%d" % (N - 1, N), first=b"HTTP/1.1 206 X") + BODY,
    "a range of nothing known": head(LENGTH, b"Content-Range: bytes 0-%d/*" % (N - 1), first=b"HTTP/1.1 206 X") + BODY,
} | {f"code {code}": head(LENGTH, first=b"HTTP/1.1 %d X" % code) + BODY for code in (201, 202, 203, 206, 226)}

REFUSED = {
    "different lengths": (head(LENGTH, b"Content-Length: 5") + BODY, status.BAD_RESPONSE),
    "a longer head than any": (head(LENGTH, b"X: " + b"x" * MAX_HEAD) + BODY, status.BAD_RESPONSE),
    "more headers than any": (head(*(b"X%d: y" % n for n in range(20_000))) + BODY, status.BAD_RESPONSE),
    "no HTTP": (BODY, status.BAD_RESPONSE),
    "no HTTP, but lines": (b"SSH-2.0-OpenSSH\r\n\r\n", status.BAD_RESPONSE),
    "an odd code": (head(first=b"HTTP/1.1 2x0 OK") + BODY, status.BAD_RESPONSE),
    "no chunks": (head(CHUNKED) + BODY, status.BAD_RESPONSE),
    "chunks that break off": (head(CHUNKED) + CHUNKS[:-7], status.TRUNCATED),
    "half a head": (b"HTTP/1.1 200 OK\r\nContent-Le", status.DISCONNECTED),
    "shorter": (head(LENGTH) + BODY[:-1], status.TRUNCATED),
    "a part": (
        head(LENGTH, b"Content-Range: bytes 0-%d/%d" % (N - 1, N + 9), first=b"HTTP/1.1 206 X") + BODY,
        status.TRUNCATED,
    ),
    "another part": (head(b"Content-Range: bytes 5-9/10", first=b"HTTP/1.1 206 X") + BODY, status.TRUNCATED),
    "another part of nothing known": (
        head(b"Content-Range: bytes 5-9/*", first=b"HTTP/1.1 206 X") + BODY,
        status.TRUNCATED,
    ),
    "204 with a body": (head(LENGTH, first=b"HTTP/1.1 204 X") + BODY, "http_204"),
    "304 with a body": (head(LENGTH, first=b"HTTP/1.1 304 X") + BODY, "http_304"),
    "404 that is longer": (head(LENGTH, first=b"HTTP/1.1 404 X") + BODY + b"more", "http_404"),
    "404 that is shorter": (head(LENGTH, first=b"HTTP/1.1 404 X") + BODY[:100], "http_404"),
    "opted out": (head(LENGTH, b"X-Robots-Tag : noai") + BODY, status.OPTED_OUT),
} | {
    f"{code} of nothing": (head(b"Content-Length: 0", first=b"HTTP/1.1 %d X" % code), f"http_{code}")
    for code in (201, 202, 204, 205, 206, 304)
}


def paths(names: Sequence[str]) -> list[str]:
    return [f"/{number}" for number, _ in enumerate(names)]


def test_what_browsers_take_is_taken() -> None:
    results = fetch(dict(zip(paths(list(TAKEN)), TAKEN.values(), strict=True)))
    found = {name: (result.status, result.data == BODY) for name, result in zip(TAKEN, results, strict=True)}
    assert found == dict.fromkeys(TAKEN, (status.OK, True))


def test_it_is_taken_in_whatever_pieces_it_arrives() -> None:
    rng = random.Random(0)
    answers: dict[str, list[bytes]] = {}
    for path, data in zip(paths(list(TAKEN)), TAKEN.values(), strict=True):
        cuts = [0, *sorted(rng.sample(range(1, min(len(data), 400)), 30)), len(data)]
        answers[path] = [data[start:end] for start, end in pairwise(cuts)]
    results = fetch(answers)
    found = {name: (result.status, result.data == BODY) for name, result in zip(TAKEN, results, strict=True)}
    assert found == dict.fromkeys(TAKEN, (status.OK, True))


def test_what_cannot_be_taken_has_its_status_at_once() -> None:
    """A body without an end in sight would take total_timeout_s."""
    answers = dict(zip(paths(list(REFUSED)), (answer for answer, _ in REFUSED.values()), strict=True))
    results = fetch(answers, total_timeout_s=600, first_byte_timeout_s=600)
    found = {name: result.status for name, result in zip(REFUSED, results, strict=True)}
    assert found == {name: expected for name, (_, expected) in REFUSED.items()}
    assert not any(result.data for result in results)


def test_a_connection_is_used_again_after_a_head_that_was_tidied() -> None:
    answers = {f"/{n}": head(LENGTH, LENGTH, b"X : y") + BODY for n in range(20)}
    assert {(r.status, r.data) for r in fetch(answers, keep_open=True, per_host_concurrency=1)} == {("ok", BODY)}


def test_a_server_that_closes_idle_connections_without_saying_so_loses_nothing() -> None:
    answers = {f"/{n}": head(LENGTH) + BODY for n in range(300)}
    assert {(r.status, r.data) for r in fetch(answers, per_host_concurrency=8)} == {("ok", BODY)}


ENCODINGS = [
    "aws-chunked",
    "utf-8",
    "UTF-8",
    "none",
    "binary",
    "identity",
    "image/jpeg",
    "",
    " ",
    "x-gzip",
    "gzip",
    "br",
]
ENCODINGS += ["deflate", "zstd", "gzip, aws-chunked", "utf-8\r\nContent-Encoding: none", "8bit", "\u00e9"]


def encoded(data: bytes, *names: str) -> bytes:
    headers = [f"Content-Encoding: {name}".encode() for name in names]
    return head(b"Content-Length: %d" % len(data), *headers) + data


def test_an_image_that_is_not_compressed_is_taken_whatever_its_encoding_says() -> None:
    for kind in ("jpg", "png", "webp"):
        data = image(3, kind)
        results = fetch({f"/{n}": encoded(data, name) for n, name in enumerate(ENCODINGS)})
        assert {name: r.data == data for name, r in zip(ENCODINGS, results, strict=True)} == dict.fromkeys(
            ENCODINGS, True
        )


def test_what_is_compressed_is_unpacked_by_its_bytes() -> None:
    zipped = gzip.compress(BODY)
    raw = zlib.compressobj(wbits=-15)
    answers = {
        "/gzip": encoded(zipped, "gzip"),
        "/x-gzip": encoded(zipped, "X-GZip"),
        "/said to be text": encoded(zipped, "utf-8"),
        "/both": encoded(zipped, "gzip, aws-chunked"),
        "/in two headers": encoded(zipped, "aws-chunked", "gzip"),
        "/twice": encoded(gzip.compress(zipped), "gzip, gzip"),
        "/two members": encoded(gzip.compress(BODY[:500]) + gzip.compress(BODY[500:]), "gzip"),
        "/then zeros": encoded(zipped + bytes(100), "gzip"),
        "/zlib": encoded(zlib.compress(BODY), "deflate"),
        "/raw": encoded(raw.compress(BODY) + raw.flush(), "deflate"),
        "/gzip said to be deflate": encoded(zipped, "deflate"),
    }
    results = fetch({path.replace(" ", "_"): answer for path, answer in answers.items()})
    found = {path: (r.status, r.data == BODY) for path, r in zip(answers, results, strict=True)}
    assert found == dict.fromkeys(answers, (status.OK, True))


def test_a_compression_that_cannot_be_undone_is_named_and_a_bomb_stops() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    answers = {
        "/cut": (encoded(gzip.compress(BODY)[:-20], "gzip"), status.BAD_ENCODING),
        "/damaged": (encoded(gzip.compress(BODY)[:40] + bytes(40), "gzip"), status.BAD_ENCODING),
        "/br": (encoded(bytes(range(7, 99)), "br"), status.BAD_ENCODING),
        "/zstd": (encoded(b"\x28\xb5\x2f\xfd" + bytes(50), "zstd"), status.BAD_ENCODING),
        "/no_deflate": (encoded(b"\xff" * 50, "deflate"), status.BAD_ENCODING),
        "/bomb": (encoded(bomb, "gzip"), status.TOO_MANY_BYTES),
        "/bomb_in_bomb": (encoded(gzip.compress(bomb), "gzip,gzip"), status.TOO_MANY_BYTES),
        "/members": (encoded(gzip.compress(bytes(10_000)) * 1000, "none"), status.TOO_MANY_BYTES),
        "/nothing": (encoded(gzip.compress(b""), "gzip"), status.EMPTY),
    }
    results = fetch({path: answer for path, (answer, _) in answers.items()})
    assert [r.status for r in results] == [expected for _, expected in answers.values()]


def test_robots_txt_is_read_as_leniently() -> None:
    rules = b"User-agent: *\nDisallow: /private"
    for robots, expected in (
        (head(b"X : y", b"Content-Encoding: utf-8", b"Content-Length: 3, 3") + rules, [status.OK, status.OK]),
        (head(b"X : y", b"Content-Encoding: none", first=b"HTTP/1.0 200") + rules, [status.ROBOTS, status.OK]),
        (head(b"Content-Encoding: x-gzip") + gzip.compress(rules), [status.ROBOTS, status.OK]),
        (head(first=b"HTTP/1.1 204 No Content"), [status.OK, status.OK]),
    ):
        answers = {"/private": head(LENGTH) + BODY, "/public": head(LENGTH) + BODY}
        options = {"allow_private_addresses": True, "retries": 0, "robots_txt": True}
        with raw_answers(answers | {"/robots.txt": robots}) as base, Fetcher(FetchConfig(**options)) as fetcher:
            assert [r.status for r in fetcher.fetch([base + path for path in answers])] == expected


def test_a_plain_head_is_left_alone_and_a_tidied_one_is_plain() -> None:
    plain = head(LENGTH, b"Date: Sat, 28 Nov 2026 20:00:00 GMT", b"X_1.y: [a] : b", b"Empty:")
    assert is_plain(plain) and is_plain(head()) and is_plain(head(CHUNKED, first=b"HTTP/1.0 404"))
    for name, answer in TAKEN.items():
        found = END.search(answer.lstrip(b"\r\n"))
        assert found and is_plain(tidied(found.string[: found.end()])), name
