"""Makes HTTP answers of broken and hostile servers: one thing is wrong in each, or its bytes are damaged."""

from __future__ import annotations

import gzip
import random
import zlib

from tests.campaign.answer_seeds import LINE, Answer, Answers, harmless
from tests.campaign.answer_server import CLOSE, RESET, Step
from tests.campaign.damage import damaged

LONG = b"9" * 5000
BIG_HEADER = 5_000_000  # bytes


def hostile(image: bytes, rng: random.Random) -> tuple[Answers, str]:
    """An answer of which one thing is wrong, or whose bytes are damaged."""
    how = rng.choice((_status, _header, _header, _framing, _framing, _redirect, _bytes, _bytes, _stopped, _bodies))
    return how(image, rng)


def _status(image: bytes, rng: random.Random) -> tuple[Answers, str]:
    line = rng.choice(
        [
            b"HTTP/1.1 000 X", b"HTTP/1.1 99 X", b"HTTP/1.1 600 X", b"HTTP/1.1 1000 X", b"HTTP/1.1 -200 OK",
            b"HTTP/9.9 200 OK", b"HTTP/1.1 2OO OK", b"HTTP/1.1 " + LONG, b"HTTP/1.1", b"", b"ICY 200 OK", b"<html>",
            b"\x16\x03\x01", b"SSH-2.0-x", b"HTTP/1.1 101 Switching", b"HTTP/1.1 204 None", b"HTTP/1.1 304 Same",
            b"HTTP/1.1 100 Continue", b"HTTP/1.1 407 Proxy",
            b"HTTP/1.1 " + rng.choice((b"401", b"418", b"451", b"500", b"503", b"511", b"599")) + b" X",
            b"http/1.1 200 ok", b"HTTP/2 200", b"HTTP/1.1 200 " + b"O" * 100_000, b"HTTP/1.1  200  OK",
            b"HTTP/1.1 \xb2\xb0\xb0 OK",
        ]
    )  # fmt: skip
    rest = b"Content-Length: %d\r\n\r\n" % len(image) + image
    repeated = rng.choice((1, 1, 50)) if b" 10" in line else 1
    return [
        [(line + LINE) * 1 + rest if repeated == 1 else (line + LINE + LINE) * repeated, CLOSE]
    ], f"status {line[:30]!r}"


def _header(image: bytes, rng: random.Random) -> tuple[Answers, str]:
    name = rng.choice(
        [
            b"Content-Length", b"Transfer-Encoding", b"Content-Encoding", b"Content-Type", b"Location",
            b"Retry-After", b"X-Robots-Tag", b"TDM-Reservation", b"Set-Cookie", b"Connection", b"Upgrade", b"Trailer",
            b"Content-Range", b"Date", b"Keep-Alive", b"Link", b"X-" + b"a" * 20_000, b"", b" ", b"\x00", b"\xff\xfe",
            b"a b", b"(x)",
        ]
    )  # fmt: skip
    value = rng.choice(
        [
            b"", b" ", b"0", b"-1", b"+5", b"1, 1", b"0x10", LONG, b"1e3", b"\x00", b"\xff" * 50, b"a" * 70_000,
            b"a" * BIG_HEADER, b"chunked", b"chunked, chunked", b"gzip, chunked", b"identity", b"noai", b"none; all",
            b": " * 1000, b"gzip", b"br", b"zstd", b"compress", b"deflate, gzip", b"multipart/byteranges; boundary=x",
            b"keep-alive, close, upgrade", b"1" * 19, b"Mon, 01 Jan 2024 00:00:00 +999999999999999999", b"9" * 400,
            b"\r\n\r\nHTTP/1.1 200 OK", b"unavailable_after: 9" + LONG, b"a\rb", b"a\nb", b"=?utf-8?q?x?=",
            b"charset=\"\\", b"\xe2\x80\xa8",
        ]
    )  # fmt: skip
    answer = Answer(image, rng.choice((b"200", b"200", b"200", b"503", b"429", b"301")), headers=[(name, value)])
    if rng.random() < 0.3 and len(value) < BIG_HEADER:
        answer.headers *= rng.choice((2, 200)) if len(value) < 1000 else 2
    answer.framing = [(b"Content-Length", b"%d" % len(image))] if rng.random() < 0.7 else []
    return [[answer.head() + image, CLOSE]], f"{answer.code.decode()} with {name[:20]!r}: {value[:40]!r}"


def _framing(image: bytes, rng: random.Random) -> tuple[Answers, str]:
    """Says one length and sends another, or chunks that are none."""
    how = rng.choice(("short", "lengths", "sizes", "no end", "extension", "trailers", "huge", "endless", "empty"))
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    if how == "short":
        return [[b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(image) + 10) + image, CLOSE]], how
    if how == "lengths":
        return [[b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n" + image, CLOSE]], how
    if how == "huge":
        return [[b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n" + image, CLOSE]], how
    if how == "empty":
        return [[b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" + image, CLOSE]], how
    if how == "endless":
        return [[b"HTTP/1.1 200 OK\r\n\r\n", *([b"\xff\xd8\xff" * 100_000] * 20), CLOSE]], how
    size = rng.choice(
        (b"-1", b"", b"zz", b"0x5", b"ffffffffffffffff", b"f" * 5000, b" 5", b"5 ", b"\xb2", b"+5", b"5\x00")
    )
    if how == "sizes":
        return [[chunked + size + LINE + image, CLOSE]], f"chunk of {size[:20]!r}"
    if how == "no end":
        return [[chunked + b"5\r\nhello\r\n", CLOSE]], how
    if how == "extension":
        return [[chunked + b"5;" + b"a" * rng.choice((5000, 3_000_000)) + b"\r\nhello\r\n0\r\n\r\n", CLOSE]], how
    return [[chunked + b"5\r\nhello\r\n0\r\n" + b"X: y\r\n" * rng.choice((10, 300_000)) + LINE, CLOSE]], how


def _redirect(image: bytes, rng: random.Random) -> tuple[Answers, str]:
    """Sends to places that are none; every host name here does not exist."""
    place = rng.choice(
        [
            b"", b"/", b"//", b"///x", b"?", b"#", b"javascript:alert(1)", b"file:///etc/passwd",
            b"data:image/gif;base64,R0lGOD", b"ftp://h.invalid/", b"http://", b"http:///x", b"http://[::1",
            b"http://[]/", b"http://h.invalid:99999/", b"http://h.invalid:port/", b"http://a@b@h.invalid/",
            b"http://%zz.invalid/", b"http://\xff.invalid/", b"\xff\xfe/x", b"http://" + b"a" * 300 + b".invalid/",
            b"/" + b"a" * 100_000, b"http://h.invalid/\x00", b"http://xn--a.invalid/",
            b"http://" + b"a." * 5000 + b"invalid/", b"HTTP:/x", b"http:x", b"https:", b"/a b",
            b"http://h.invalid\\@x/", b"*", b"..", "http://鷺.invalid/".encode(), b"/%", b"/%00",
            b"http://0x7f.invalid", b"/self",
        ]
    )  # fmt: skip
    code = rng.choice((b"301", b"302", b"303", b"307", b"308", b"300", b"305"))
    answer = Answer(
        b"",
        code,
        b" Moved",
        headers=[(b"Location", place)] * rng.choice((1, 1, 2)),
        framing=[(b"Content-Length", b"0")],
    )
    return [[answer.head()]], f"{code.decode()} to {place[:40]!r}"


def _bytes(image: bytes, rng: random.Random) -> tuple[Answers, str]:
    answers, what = harmless(image, rng)
    whole = b"".join(step for step in answers[0] if isinstance(step, bytes))
    data, how = damaged(whole, rng)
    return [[data, CLOSE], *answers[1:]], f"{how} in {what}"


def _stopped(image: bytes, rng: random.Random) -> tuple[Answers, str]:
    """Breaks off, or is silent, somewhere within the answer."""
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(image) + image
    at = rng.choice((0, rng.randrange(40), rng.randrange(len(whole))))
    end = rng.choice((CLOSE, RESET, RESET, "silent"))
    steps: list[Step] = [whole[:at]] if at else []
    return [[*steps, *([1.5, CLOSE] if end == "silent" else [end])]], f"{end} after {at} bytes"


def _bodies(image: bytes, rng: random.Random) -> tuple[Answers, str]:
    body, how = rng.choice(
        [
            (b"<html>no</html>", "a page"), (b"", "nothing"), (bytes(3_000_000), "zeros"), (b"\n", "a line"),
            (gzip.compress(bytes(50_000_000), 1), "a bomb"), (gzip.compress(image)[:-20], "gzip cut off"),
            (image[:100], "a start"), (gzip.compress(image) + gzip.compress(image), "gzip twice"),
            (zlib.compress(image)[2:-4], "raw deflate"),
        ]
    )  # fmt: skip
    encoding = rng.choice((b"gzip", b"deflate", b"identity", b"br", b"gzip, gzip", b"utf-8", b"x-gzip"))
    answer = Answer(body, headers=[(b"Content-Encoding", encoding)], framing=[(b"Content-Length", b"%d" % len(body))])
    return [[answer.head() + body]], f"{how} as {encoding.decode()}"
