"""Makes one HTTP request and returns an Answer: the bytes, a status, or the location of a redirect.

All requests share a connection pool and a DNS cache, and the whole process has one TLS context: building a context for
every request costs many times the request itself (tests/benchmark/bench_download.py --peer, https).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import re
import socket
import ssl
from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from time import monotonic

import aiohttp
from aiohttp import hdrs

from react_ray import __version__
from react_ray.errors import ConfigError, ResourceError
from react_ray.web import status
from react_ray.web.addresses import BlockedAddress, Resolver, public_socket
from react_ray.web.content_encoding import decoded
from react_ray.web.fetch_config import FetchConfig
from react_ray.web.lenient_http import MAX_HEAD, BrokenBody, LenientConnector
from react_ray.web.opt_out import opted_out
from react_ray.web.politeness import retry_after_s
from react_ray.web.web_url import WebUrl

REDIRECTS = frozenset({301, 302, 303, 307, 308})
RANGE = re.compile(r"\s*bytes\s+(\d{1,18})\s*-\s*(\d{1,18})\s*/\s*(\d{1,18}|\*)", re.ASCII | re.IGNORECASE)
DRAIN_BYTES = 65536  # an error page up to this size is cheaper to read than a new connection is to open
READ_BUFFER = 262144
DNS_TTL_S = 300
KEEP_ALIVE_S = 15.0  # how long an idle connection is kept for the next request to its host
DNS_CACHE_SIZE = 20_000
CLOSE: dict[str, str] = {hdrs.CONNECTION: "close"}
LOST = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)


@dataclass
class Answer:
    status: str
    error: str | None = None
    data: bytes | None = None
    http_status: int | None = None
    location: str | None = None  # only of a redirect, whose status has no meaning
    retry_after_s: float | None = None


class HttpClient:
    """Must be created and used within one event loop."""

    def __init__(self, config: FetchConfig, resolver: Resolver | None = None) -> None:
        self._config = config
        self._left_idle: deque[float] = deque()  # when connections became idle with no further URL of their host
        self._most_idle = 2 * config.max_in_flight
        resolver = resolver or Resolver(config.allow_private_addresses)
        self._session = _session(config, resolver)
        self._anew = _session(config, resolver, force_close=True)

    async def get(self, url: WebUrl, max_bytes: int, more_of_host: bool = True, check_opt_out: bool = False) -> Answer:
        """Never raises for what a server or a network does. Redirects are returned, not followed.

        more_of_host: more URLs of this host are waiting, so its connection will be used again.
        """
        headers = None if more_of_host or self._may_leave_idle() else CLOSE
        try:
            return await self._get(self._session, url, headers, max_bytes, check_opt_out)
        except LOST:
            pass  # perhaps an idle connection that the server closed, so once more over a new one (RFC 9112, 9.3.1)
        try:
            return await self._get(self._anew, url, CLOSE, max_bytes, check_opt_out)
        except LOST as error:
            return _failure(error, in_body=False)

    async def _get(
        self,
        session: aiohttp.ClientSession,
        url: WebUrl,
        headers: dict[str, str] | None,
        max_bytes: int,
        check_opt_out: bool,
    ) -> Answer:
        """Raises only for a connection that was opened and is lost before the answer."""
        response: aiohttp.ClientResponse | None = None
        try:
            response = await session.get(url.url, headers=headers, allow_redirects=False)
            return await self._read(response, max_bytes, check_opt_out)
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError) as error:
            if response is None and isinstance(error, LOST) and not isinstance(error, aiohttp.ClientConnectorError):
                raise
            answer = _failure(error, in_body=response is not None)
            answer.http_status = response.status if response is not None else None
            return answer
        finally:
            if response is not None:
                response.release()  # closes the connection unless the whole body was read

    async def close(self) -> None:
        await self._session.close()
        await self._anew.close()

    async def _read(self, response: aiohttp.ClientResponse, max_bytes: int, check_opt_out: bool) -> Answer:
        code, headers = response.status, response.headers
        if not 200 <= code < 300:
            answer = Answer(status.http_status(code), f"HTTP {code}", http_status=code)
            if code in REDIRECTS and hdrs.LOCATION in headers:
                answer.location = headers[hdrs.LOCATION]
            if hdrs.RETRY_AFTER in headers:
                answer.retry_after_s = retry_after_s(headers[hdrs.RETRY_AFTER])
            if response.content_length is not None and response.content_length <= DRAIN_BYTES:
                with contextlib.suppress(aiohttp.ClientError, asyncio.TimeoutError, OSError):
                    await response.content.read()
            return answer
        if check_opt_out and (directive := opted_out(headers, self._config.user_agent_token)):
            return Answer(status.OPTED_OUT, directive, http_status=code)
        if (response.content_length or 0) > max_bytes:
            return _too_many(max_bytes, code)
        blocks = []
        num_bytes = 0
        while block := await response.content.readany():
            num_bytes += len(block)
            if num_bytes > max_bytes:
                return _too_many(max_bytes, code)
            blocks.append(block)
        data = blocks[0] if len(blocks) == 1 else b"".join(blocks)
        if data and hdrs.CONTENT_ENCODING in headers:
            try:
                data = decoded(data, headers.getall(hdrs.CONTENT_ENCODING), max_bytes)
            except ValueError as error:
                return Answer(status.BAD_ENCODING, str(error), http_status=code)
            if len(data) > max_bytes:
                return _too_many(max_bytes, code)
        if not data:
            return _nothing(code)
        if code == 206 and _is_part(headers.get(hdrs.CONTENT_RANGE, "")):
            return Answer(status.TRUNCATED, "a part that was not asked for", http_status=code)
        return Answer(status.OK, None, data, code)

    def _may_leave_idle(self) -> bool:
        """Limits idle connections: a pool has thousands of hosts with one URL each, and each connection is an open
        file.
        """
        now = monotonic()
        while self._left_idle and self._left_idle[0] < now - KEEP_ALIVE_S:
            self._left_idle.popleft()
        if len(self._left_idle) >= self._most_idle:
            return False
        self._left_idle.append(now)
        return True


def _session(config: FetchConfig, resolver: Resolver, force_close: bool = False) -> aiohttp.ClientSession:
    """force_close: each request has a connection of its own."""
    connector = LenientConnector(
        limit=0,  # fetch_loop.py limits the requests in flight
        ssl=tls_context(config.ca_file, config.verify_tls),
        resolver=resolver,
        socket_factory=None if config.allow_private_addresses else public_socket,
        ttl_dns_cache=DNS_TTL_S,
        dns_cache_max_size=DNS_CACHE_SIZE,
        **({"force_close": True} if force_close else {"keepalive_timeout": KEEP_ALIVE_S}),
    )
    session = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={
            hdrs.USER_AGENT: config.user_agent.replace("{version}", __version__),
            hdrs.ACCEPT_ENCODING: "identity",
        },
        auto_decompress=False,
        max_line_size=MAX_HEAD,
        max_field_size=MAX_HEAD,
        max_headers=MAX_HEAD,  # lenient_http.py limits all of them together
        read_bufsize=READ_BUFFER,
        timeout=aiohttp.ClientTimeout(
            total=config.total_timeout_s,
            connect=config.connect_timeout_s,
            sock_read=config.first_byte_timeout_s,
        ),
    )
    session._retry_connection = False  # aiohttp has no public seam; it would try another idle connection, lost as well
    return session


@lru_cache(maxsize=4)
def tls_context(ca_file: str, verify: bool) -> ssl.SSLContext:
    """Returns the one context of the process. Raises ConfigError if `ca_file` cannot be used."""
    context = ssl.create_default_context()
    if ca_file:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:  # SSLError is one
            raise ConfigError(
                f"fetch.ca_file: cannot use {ca_file}: {error}; name a PEM file of certificate authorities"
            ) from error
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _too_many(max_bytes: int, code: int) -> Answer:
    return Answer(status.TOO_MANY_BYTES, f"more than {max_bytes} bytes", http_status=code)


def _nothing(code: int) -> Answer:
    """Returns the answer of a success without a body, which 200 promises and others, such as 204, do not."""
    if code in (200, 203):
        return Answer(status.EMPTY, "no bytes", http_status=code)
    return Answer(status.http_status(code), f"HTTP {code}", http_status=code)


def _is_part(content_range: str) -> bool:
    """Returns True for a Content-Range that leaves out bytes of the file, whose length may be unknown."""
    found = RANGE.match(content_range)
    return found is not None and (int(found[1]) > 0 or (found[3] != "*" and int(found[2]) + 1 < int(found[3])))


def _failure(error: Exception, in_body: bool) -> Answer:
    """Maps an exception to a status and a text without addresses, ports or URLs, so that every run stores the same."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return Answer(status.TIMEOUT_CONNECT, "no connection in time")
    if isinstance(error, aiohttp.SocketTimeoutError):
        if in_body:
            return Answer(status.TIMEOUT_BODY, "silent within the body")
        return Answer(status.TIMEOUT_FIRST_BYTE, "no answer in time")
    if isinstance(error, asyncio.TimeoutError):
        return Answer(status.TIMEOUT_TOTAL, "not complete in time")
    if isinstance(error, (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError)):
        return Answer(status.TLS, _tls_reason(error))
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return _name_failure(error.os_error)
    if isinstance(error, BrokenBody):
        return Answer(status.BAD_RESPONSE, "not an HTTP response")
    if isinstance(error, aiohttp.ClientPayloadError):
        return Answer(status.TRUNCATED, "the body ended too soon")
    if isinstance(error, aiohttp.ClientConnectorError):
        return _system_failure(error.os_error)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return Answer(status.DISCONNECTED, "the server closed the connection")
    if isinstance(error, aiohttp.ClientResponseError):
        return Answer(status.BAD_RESPONSE, "not an HTTP response")
    if isinstance(error, OSError):
        return _system_failure(error)
    if isinstance(error, ValueError):  # aiohttp.InvalidURL is one
        return (
            Answer(status.BAD_RESPONSE, "not an HTTP response")
            if in_body
            else Answer(status.BAD_URL, "not a valid URL")
        )
    return Answer(status.DISCONNECTED, "the connection broke")


def _tls_reason(error: aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError) -> str:
    cause = error.certificate_error if isinstance(error, aiohttp.ClientConnectorCertificateError) else error.os_error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return str(cause.verify_message)
    return str(getattr(cause, "reason", None) or "handshake failed").lower().replace("_", " ")


def _name_failure(error: OSError) -> Answer:
    if isinstance(error, BlockedAddress):
        return Answer(status.BLOCKED_ADDRESS, str(error))
    if isinstance(error, socket.gaierror) and error.errno == socket.EAI_NONAME:
        return Answer(status.DNS_NOT_FOUND, "no such host")
    return Answer(status.DNS_FAILURE, "the name server did not answer")


def _system_failure(error: OSError) -> Answer:
    if isinstance(error, BlockedAddress):
        return Answer(status.BLOCKED_ADDRESS, str(error))
    if error.errno in (errno.EMFILE, errno.ENFILE):
        raise ResourceError("no file is left for another connection; raise `ulimit -n` or lower fetch.max_in_flight")
    if error.errno == errno.ECONNREFUSED:
        return Answer(status.REFUSED, "connection refused")
    if error.errno == errno.ETIMEDOUT:  # the system's own timeout came before ours
        return Answer(status.TIMEOUT_CONNECT, "no connection in time")
    if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL):
        return Answer(status.UNREACHABLE, "no route to the host")
    return Answer(status.DISCONNECTED, "the connection broke")
