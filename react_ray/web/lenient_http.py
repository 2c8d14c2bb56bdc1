"""Makes aiohttp's client take the responses that browsers take.

llhttp, the parser within aiohttp, already reads bare line feeds, folded headers and missing reasons, and aiohttp sets
the length of headers. What neither offers is done here: the head of each response is rewritten, if it needs to be, in
the form that llhttp takes, and is fed apart from the body, so that bytes behind the end of a body do no harm to it.
"""

from __future__ import annotations

import asyncio
import re
from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

MAX_HEAD = 65536  # bytes of the status line and all headers

END = re.compile(rb"\n\r?\n")
TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
NAME = re.compile(TOKEN)
PLAIN = re.compile(rb"HTTP/1\.[01] [1-5]\d\d(?: .*)?\r\n(?:" + TOKEN + rb":.*\r\n)*\r\n")
FRAMING = re.compile(rb"\n(?:content-length|transfer-encoding):[ \t]*(.*?)[ \t]*\r", re.IGNORECASE)
STATUS = re.compile(rb"(?:HTTP(?:/(\d+)(?:\.(\d+))?)?|ICY)[ \t]+([1-5]\d\d)(?:[ \t]+(.*))?", re.IGNORECASE | re.DOTALL)
START = re.compile(rb"HTTP|ICY[ \t]", re.IGNORECASE)
MAX_REASON = 1000


class BrokenBody(aiohttp.ClientPayloadError):
    """The body is not made of the chunks that its head promises; another request will not change that."""


class LenientConnector(aiohttp.TCPConnector):
    """A TCPConnector whose connections read responses with LenientProtocol."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # aiohttp has no public seam for the protocol; tests/unit/web/test_lenient_http.py would notice another name.
        self._factory: Any = partial(LenientProtocol, loop=asyncio.get_running_loop())


class LenientProtocol(ResponseHandler):
    """Holds the head of each response until it is whole, and at most MAX_HEAD bytes of it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._head = bytearray()
        self._in_head = False

    def set_response_params(self, **params: Any) -> None:
        """Is called by aiohttp before each request."""
        self._head.clear()
        self._in_head = True
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        while data and self._in_head:
            found: bytes | bytearray = data.lstrip(b"\r\n")
            start = 0
            if self._head:
                found, start = self._head, max(0, len(self._head) - 2)
                found += data
            end = END.search(found, start)
            size = len(found) if end is None else end.end()
            if size > MAX_HEAD:
                self._refuse(f"a head of more than {MAX_HEAD} bytes")
                return
            if end is None and (len(found) < 4 or START.match(found)):
                self._head = found if isinstance(found, bytearray) else bytearray(found)
                self._reschedule_timeout()
                return
            head, data = bytes(found[:size]), bytes(found[size:])
            self._head = bytearray()
            head = head if end is None or is_plain(head) else tidied(head)  # without an end, aiohttp says what is wrong
            self._in_head = head[9:10] == b"1" and head[9:12] != b"101"  # a 1xx comes before the response itself
            super().data_received(head)
        if data and self._exception is None:
            super().data_received(data)

    def set_exception(self, exc: BaseException, *args: Any) -> None:
        """Tells the reader of a body, too, that nothing more will come; aiohttp lets it wait for its timeout."""
        super().set_exception(exc, *args)
        if isinstance(exc, HttpProcessingError) and self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(BrokenBody("the body is not framed as its head says"))

    def _refuse(self, reason: str) -> None:
        if self.transport is not None:
            self.transport.close()
        self.set_exception(HttpProcessingError(message=reason))

    def connection_lost(self, exc: BaseException | None) -> None:
        """Feeds a head that is cut off, about which aiohttp then says whether it was HTTP at all."""
        head, self._in_head = bytes(self._head), False
        self._head.clear()
        if head:
            super().data_received(head)
        super().connection_lost(exc)


def is_plain(head: bytes) -> bool:
    """Returns True if llhttp takes a head as it is."""
    if PLAIN.fullmatch(head) is None or head.count(b"\r") != head.count(b"\n") or b"\0" in head:
        return False
    framing = FRAMING.findall(head)
    return not framing or (len(framing) == 1 and (framing[0].isdigit() or framing[0].lower() == b"chunked"))


def tidied(head: bytes) -> bytes:
    """Returns a head with what browsers overlook taken out: odd versions, spaces before a colon, lines without one.

    Content-Length may stand there several times if it says the same; one that is no number is left out, and the body
    then ends with the connection. Transfer-Encoding stands above Content-Length.
    """
    first, *lines = re.split(rb"\r?\n", head.rstrip(b"\r\n"))
    status = STATUS.fullmatch(first.strip())
    if status is None:
        return head
    fields: list[tuple[bytes, bytes]] = []
    for line in lines:
        text = line.translate(None, b"\r\0").strip()
        if line[:1] in (b" ", b"\t"):
            if fields:
                fields[-1] = (fields[-1][0], fields[-1][1] + b" " + text)
            continue
        name, colon, value = text.partition(b":")
        if colon and NAME.fullmatch(name.rstrip()):
            fields.append((name.rstrip(), value.strip()))
    major, minor, code, reason = status.groups(b"")
    version = b"1.0" if not major or (major, minor) == (b"1", b"0") else b"1.1"
    out = [b"HTTP/%s %s %s" % (version, code, reason[:MAX_REASON].translate(None, b"\r\0"))]
    out += [b"%s: %s" % field for field in _framed(fields)]
    return b"\r\n".join(out) + b"\r\n\r\n"


def _framed(fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Returns the fields with one that says where the body ends, or with none."""
    lengths: list[bytes] = []
    codings: list[bytes] = []
    others = []
    for name, value in fields:
        if name.lower() == b"content-length":
            lengths += [part.strip() for part in value.split(b",") if part.strip().isdigit()]
        elif name.lower() == b"transfer-encoding":
            codings.append(value)
        else:
            others.append((name, value))
    if any(b"chunked" in coding.lower() for coding in codings):
        return [*others, (b"Transfer-Encoding", b"chunked")]
    different = {length.lstrip(b"0") or b"0" for length in lengths}
    return others + [(b"Content-Length", length) for length in sorted(different)]  # aiohttp refuses two of them
