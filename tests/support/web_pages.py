"""Defines what each path of the misbehaving web does (`PAGES`); web.py serves them.

Responses are written as raw bytes, so that they can be wrong in any way.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.web_images import gzip_bomb, huge_png, image

DELAY_S = 0.01

Reply = Callable[["Request"], Awaitable[None]]


class Request:
    def __init__(self, target: str, headers: dict[str, str], writer: asyncio.StreamWriter, num_before: int) -> None:
        parts = urlsplit(target)
        self.target = target
        self.path = parts.path
        self.rest = unquote(parts.path.split("/", 2)[2]) if parts.path.count("/") > 1 else ""
        self.query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        self.headers = headers
        self.writer = writer
        self.num_before = num_before  # requests of this path before this one

    async def send(
        self, body: bytes, code: int = 200, headers: dict[str, str] | None = None, length: int | None = None
    ) -> None:
        """Sends a response; `length` is a false Content-Length."""
        given = {"Content-Length": str(len(body) if length is None else length)} | (headers or {})
        lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        self.writer.write(f"HTTP/1.1 {code} {HTTPStatus(code).phrase}\r\n{lines}\r\n".encode() + body)
        await self.writer.drain()

    def retry_after(self) -> dict[str, str]:
        return {"Retry-After": self.query["retry_after"]} if "retry_after" in self.query else {}

    def hang_up(self) -> None:
        self.writer.close()


class Pages:
    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.at_once: Counter[str] = Counter()
        self.most_at_once: Counter[str] = Counter()
        self.num_connections = 0
        self.robots: dict[str, tuple[int, str]] = {}

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves the requests of one connection."""
        self.num_connections += 1
        try:
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
                await self._reply(head[0].split(" ")[1], headers, writer)
                if headers.get("connection") == "close":
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone
        finally:
            writer.close()

    async def _reply(self, target: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        path = target.partition("?")[0]
        host = headers.get("host", "").rpartition(":")[0]
        request = Request(target, headers, writer, self.requests[path])
        self.requests[path] += 1
        self.at_once[host] += 1
        self.most_at_once[host] = max(self.most_at_once[host], self.at_once[host])
        try:
            if path.startswith("/_"):
                await self._control(request)
            elif path == "/robots.txt":
                code, text = self.robots.get(host, (404, ""))
                await request.send(text.encode(), code, headers={"Content-Type": "text/plain"})
            else:
                await PAGES.get(path.split("/")[1], _missing)(request)
        finally:
            self.at_once[host] -= 1

    async def _control(self, request: Request) -> None:
        if request.path == "/_robots":
            self.robots[request.query["host"]] = (int(request.query["code"]), request.query.get("text", ""))
        facts = {
            "requests": self.requests,
            "most_at_once": self.most_at_once,
            "connections": self.num_connections,
        }
        await request.send(json.dumps(facts).encode(), headers={"Content-Type": "application/json"})


async def _missing(request: Request) -> None:
    await request.send(b"no such page", 404, headers={"Content-Type": "text/html"})


async def _image(request: Request) -> None:
    """/image/SEED.jpg, .png or .webp; ?side=N"""
    seed, _, kind = request.rest.partition(".")
    await request.send(
        image(int(seed), kind, int(request.query.get("side", 300))), headers={"Content-Type": f"image/{kind}"}
    )


async def _status(request: Request) -> None:
    """/status/CODE; ?retry_after=S"""
    await request.send(b"" if request.rest == "204" else b"sorry", int(request.rest), request.retry_after())


async def _flaky(request: Request) -> None:
    """/flaky/NAME?code=503&times=1: the code for this number of times, then an image."""
    if request.num_before < int(request.query.get("times", 1)):
        await request.send(b"", int(request.query.get("code", 503)), request.retry_after())
    else:
        await request.send(image(1))


async def _slow(request: Request) -> None:
    await asyncio.sleep(DELAY_S)
    await request.send(image(1))


async def _stall(request: Request) -> None:
    """Sends nothing until the client gives up."""
    await request.writer.wait_closed()


async def _stall_body(request: Request) -> None:
    await request.send(image(1)[:1000], length=18_000)
    await request.writer.wait_closed()


async def _drip(request: Request) -> None:
    """Sends a byte every second, or every S seconds with ?every_s=S."""
    await request.send(b"", length=100_000)
    while not request.writer.is_closing():
        request.writer.write(b"x")
        await request.writer.drain()
        await asyncio.sleep(float(request.query.get("every_s", 1)))


async def _endless(request: Request) -> None:
    request.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not request.writer.is_closing():
        request.writer.write(b"10000\r\n" + bytes(65536) + b"\r\n")
        await request.writer.drain()


async def _chunked(request: Request) -> None:
    data = image(1)
    blocks = [data[start : start + 5000] for start in range(0, len(data), 5000)] + [b""]
    body = b"".join(f"{len(block):x}\r\n".encode() + block + b"\r\n" for block in blocks)
    request.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    await request.writer.drain()


async def _big(request: Request) -> None:
    """Announces 10**12 bytes."""
    await request.send(b"x", length=10**12)
    request.hang_up()


async def _short(request: Request) -> None:
    """Sends half of what Content-Length promises."""
    data = image(1)
    await request.send(data[: len(data) // 2], length=len(data))
    request.hang_up()


async def _cut(request: Request) -> None:
    """Sends half a JPEG with a correct Content-Length."""
    await request.send(image(1)[:9000])


async def _html(request: Request) -> None:
    await request.send(b"<html>This image has moved.</html>", headers={"Content-Type": "text/html"})


async def _zero(request: Request) -> None:
    await request.send(b"")


async def _huge(request: Request) -> None:
    await request.send(huge_png(), headers={"Content-Type": "image/png"})


async def _gzip(request: Request) -> None:
    """/gzip/good, broken, cut, bomb: a body that is compressed although the client asked for identity."""
    good = gzip.compress(image(1))
    bodies = {"good": good, "broken": image(1), "cut": good[:5000], "bomb": gzip_bomb()}
    await request.send(bodies[request.rest], headers={"Content-Encoding": "gzip"})


async def _encoded(request: Request) -> None:
    """/encoded/NAME: an image that is not encoded, with a Content-Encoding of that name."""
    await request.send(image(1), headers={"Content-Encoding": request.rest})


async def _brotli(request: Request) -> None:
    await request.send(bytes(range(7, 250)), headers={"Content-Encoding": "br"})


async def _loop(request: Request) -> None:
    """Redirects from each of two pages to the other."""
    await request.send(b"", 302, {"Location": "/loop/b" if request.rest == "a" else "/loop/a"})


async def _hops(request: Request) -> None:
    """/hops/N: N redirects, then an image."""
    left = int(request.rest)
    await request.send(b"", 301, {"Location": f"/hops/{left - 1}" if left > 1 else "/image/1.jpg"})


async def _to(request: Request) -> None:
    """/to?url=U: a redirect."""
    await request.send(b"", 302, {"Location": request.query["url"]})


async def _tagged(request: Request) -> None:
    """/tagged?value=V: an image with X-Robots-Tag; ?name= for another header."""
    name = request.query.get("name", "X-Robots-Tag")
    await request.send(image(1), headers={name: request.query["value"]})


async def _disconnect(request: Request) -> None:
    request.hang_up()


async def _garbage(request: Request) -> None:
    request.writer.write(b"\x00\x01 this is no HTTP\r\n\r\n")
    request.hang_up()


async def _echo(request: Request) -> None:
    """Returns the target and the headers of the request."""
    body = json.dumps({"target": request.target, "headers": request.headers})
    await request.send(body.encode(), headers={"Content-Type": "application/json"})


PAGES: dict[str, Reply] = {
    "image": _image,
    "status": _status,
    "flaky": _flaky,
    "slow": _slow,
    "stall": _stall,
    "stall_body": _stall_body,
    "drip": _drip,
    "endless": _endless,
    "chunked": _chunked,
    "big": _big,
    "short": _short,
    "cut": _cut,
    "html": _html,
    "zero": _zero,
    "huge": _huge,
    "gzip": _gzip,
    "encoded": _encoded,
    "brotli": _brotli,
    "loop": _loop,
    "hops": _hops,
    "to": _to,
    "tagged": _tagged,
    "disconnect": _disconnect,
    "garbage": _garbage,
    "echo": _echo,
}
