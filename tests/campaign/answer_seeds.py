"""Makes HTTP answers that every browser shows the image of, from a grammar of what servers really send."""

from __future__ import annotations

import gzip
import random
import zlib
from dataclasses import dataclass, field

from tests.campaign.answer_server import CLOSE, Step

Answers = list[list[Step]]
LINE = b"\r\n"
REASONS = {
    200: b"OK",
    201: b"Created",
    202: b"Accepted",
    203: b"Non-Authoritative Information",
    206: b"Partial Content",
}


@dataclass
class Answer:
    """An answer in parts, so that each may be changed on its own."""

    body: bytes
    code: bytes = b"200"
    reason: bytes = b" OK"
    version: bytes = b"HTTP/1.1"
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    framing: list[tuple[bytes, bytes]] = field(default_factory=list)
    line: bytes = LINE
    colon: bytes = b": "

    def head(self) -> bytes:
        lines = [self.version + b" " + self.code + self.reason]
        lines += [name + self.colon + value for name, value in [*self.headers, *self.framing]]
        return self.line.join(lines) + self.line * 2


def harmless(image: bytes, rng: random.Random) -> tuple[Answers, str]:
    """Returns the answers to one URL, with up to three peculiarities, and what they are."""
    answer = Answer(image, headers=[(b"Content-Type", rng.choice((b"image/jpeg", b"text/html", b"", b"image/png; x")))])
    body = image
    framing = rng.choice(("length", "length", "chunked", "close", "equal lengths", "longer", "both", "old"))
    end: list[Step] = []
    before: list[Step] = []
    said = [framing]
    for what in rng.sample(PECULIARITIES, rng.randrange(4)):
        said.append(what)
        if what == "encoding":
            value = rng.choice(
                (b"aws-chunked", b"utf-8", b"none", b"binary", b"identity", b"image/jpeg", b"", b"UTF-8")
            )
            answer.headers.append((b"Content-Encoding", value))
            said[-1] = f"encoding {value.decode()}"
        elif what == "gzip":
            how = rng.choice((b"gzip", b"x-gzip", b"GZIP", b"deflate"))
            body = zlib.compress(image) if how == b"deflate" else gzip.compress(image)
            answer.headers = [header for header in answer.headers if header[0] != b"Content-Encoding"]
            answer.headers.append((b"Content-Encoding", how))
        elif what == "many headers":
            answer.headers += [(b"X-Header-%d" % n, b"v" * 100) for n in range(rng.choice((60, 150)))]
        elif what == "long header":
            answer.headers.append((b"Content-Security-Policy", b"img-src " * rng.choice((1000, 2300))))
        elif what == "code":
            code = rng.choice(list(REASONS))
            answer.code, answer.reason = b"%d" % code, b" " + REASONS[code]
        elif what == "no reason":
            answer.reason = rng.choice((b"", b" "))
        elif what == "odd reason":
            answer.reason = rng.choice((b" Gr\xc3\xbc\xc3\x9fe", b" \xe9t\xe9", b" OK, here you are"))
        elif what == "line feeds":
            answer.line = b"\n"
        elif what == "space before colon":
            answer.headers.append((b"X-Foo ", b"bar"))
        elif what == "folded":
            answer.headers.append((b"X-Folded", b"one\r\n two"))
        elif what == "no space":
            answer.colon = b":"
        elif what == "latin-1":
            answer.headers.append((b"Content-Disposition", b'inline; filename="\xe9t\xe9.jpg"'))
        elif what == "empty header":
            answer.headers.append((b"X-Empty", b""))
        elif what == "early hints" and framing != "old":
            before.append(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
        elif what == "cookies":
            answer.headers += [(b"Set-Cookie", b"a=b; expires=never; path=")] * 3
        elif what == "retry":
            value = rng.choice(RETRY_AFTER)
            refusal = Answer(
                b"", b"503", b" Busy", headers=[(b"Retry-After", value)], framing=[(b"Content-Length", b"0")]
            )
            return [
                [refusal.head()],
                [*before, *_framed(answer, body, framing, end, rng)],
            ], f"{said} after {value[:40]!r}"
    return [[*before, *_framed(answer, body, framing, end, rng)]], ", ".join(said)


PECULIARITIES = (
    "encoding", "encoding", "gzip", "many headers", "long header", "code", "no reason", "odd reason", "line feeds",
    "space before colon", "folded", "no space", "latin-1", "empty header", "early hints", "cookies", "retry",
)  # fmt: skip
RETRY_AFTER = (
    b"0", b"0.01", b"-1", b"nonsense", b"", b"Mon, 01 Jan 2024 00:00:00 GMT", b"0, 0",
    b"Mon, 01 Jan 2024 00:00:00 +999999999999999999", b"Mon, 01 Jan 0000 00:00:00 GMT", b"\xb2", b"1e-5",
    b"Mon, 99 Foo 2024 99:99:99 GMT", b"Mon, 01 Jan 2024 00:00:00 -9999",
)  # fmt: skip


def _framed(answer: Answer, body: bytes, framing: str, end: list[Step], rng: random.Random) -> list[Step]:
    length = (b"Content-Length", b"%d" % len(body))
    if framing in ("length", "equal lengths", "longer"):
        answer.framing = [length] * (2 if framing == "equal lengths" else 1)
        more = b"more than was said" if framing == "longer" else b""
        return [answer.head() + body + more, *([CLOSE] if more else end)]
    if framing in ("chunked", "both"):
        answer.framing = [(b"Transfer-Encoding", rng.choice((b"chunked", b"Chunked")))]
        if framing == "both":
            answer.framing.append((b"Content-Length", b"7"))
        return [answer.head() + _chunked(body, rng), *end]
    if framing == "old":
        answer.version = b"HTTP/1.0"
    else:
        answer.framing = [(b"Connection", b"close")]
    return [answer.head() + body, CLOSE]


def _chunked(body: bytes, rng: random.Random) -> bytes:
    """Chunks of any sizes, some with extensions, capitals, leading zeros; then perhaps trailers."""
    made, at = b"", 0
    while at < len(body):
        piece = body[at : at + rng.choice((1, 100, 5000))]
        size = rng.choice((b"%x", b"%X", b"000%x")) % len(piece)
        made += size + rng.choice((b"", b"", b";name=value", b" ;a")) + LINE + piece + LINE
        at += len(piece)
    return made + b"0\r\n" + rng.choice((b"", b"X-Trailer: 1\r\n")) + LINE
