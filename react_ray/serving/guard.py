"""Guard: what a request passes before it is answered: the key, the host, the size and the time of its body, and how
many others are being answered."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from react_ray.serve_config import ServeConfig
from react_ray.serving.measures import Measures
from react_ray.serving.refusal import Refused

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

WITH_KEY = ("/v1/", "/knn-service", "/metadata", "/indices-list")
LOOPBACK = ("localhost", "127.0.0.1", "[::1]", "::1")
BODY_S = 20.0  # to send the whole body
BODIES_AT_ONCE = 16  # of the largest size, in memory


class Guard:
    """Middleware of ASGI. key: what requests must show; "" = nothing. hosts: the only values of Host; () = any, as
    where a key is asked for anyway. A page of another site could else reach a server on loopback by a name of its own
    that it lets point there."""

    def __init__(
        self, app: App, config: ServeConfig, measures: Measures, key: str = "", hosts: tuple[str, ...] = ()
    ) -> None:
        self.app, self.config, self.measures, self.hosts = app, config, measures, hosts
        self._key = key.encode()
        self.body_s = min(BODY_S, config.timeout_s)
        self._in_flight = self._held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path, began, status = scope["path"], time.monotonic(), 500

        async def noting(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._pass(path, scope, receive, noting)
        except Gone:
            status = 499
        finally:
            self.measures.answered(path, status, began)

    async def _pass(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        held = 0

        def hold(size: int) -> None:
            nonlocal held
            held += size
            self._held_bytes += size
            if self._held_bytes > BODIES_AT_ONCE * self.config.max_body_mb * 1e6:
                raise Refused("too many large bodies are being answered; come again", 429, "busy", retry_s=1)

        try:
            await self._answer(path, scope, receive, send, hold)
        finally:
            self._held_bytes -= held

    async def _answer(self, path: str, scope: Scope, receive: Receive, send: Send, hold: Callable[[int], None]) -> None:
        try:
            headers = {name.decode("latin-1").lower(): value for name, value in scope["headers"]}
            self._check_host(headers)
            is_api = path.startswith(WITH_KEY)
            if is_api:
                self._check_key(headers)
            body = await self._body(headers, receive, hold) if scope["method"] not in ("GET", "HEAD") else b""
            if is_api and self._in_flight >= self.config.max_in_flight:
                raise Refused("too many requests are being answered; come again", 429, "busy", retry_s=1)
        except Refused as refused:
            await refuse(refused, send)
            return
        self._in_flight += is_api
        self.measures.in_flight.set(self._in_flight)
        try:
            await self.app(scope, _given(body, receive), send)
        finally:
            self._in_flight -= is_api
            self.measures.in_flight.set(self._in_flight)

    def _check_host(self, headers: dict[str, bytes]) -> None:
        host = headers.get("host", b"").decode("latin-1")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() and not host.endswith("]") else host
        if self.hosts and name not in self.hosts:
            said = f"this server answers to {', '.join(self.hosts)}, not to {name[:80]!r}; use one of these names"
            raise Refused(said, 421, "wrong_host")

    def _check_key(self, headers: dict[str, bytes]) -> None:
        if not self._key:
            return
        scheme, _, shown = headers.get("authorization", b"").partition(b" ")
        shown = shown.strip() if scheme.lower() == b"bearer" else headers.get("x-api-key", b"")
        if not hmac.compare_digest(shown, self._key):
            said = "this server asks for its key; send it as `Authorization: Bearer KEY`"
            raise Refused(said, 401, "no_key")

    async def _body(self, headers: dict[str, bytes], receive: Receive, hold: Callable[[int], None]) -> bytes:
        """hold: told of each piece."""
        most = int(self.config.max_body_mb * 1e6)
        said = f"the body is larger than {self.config.max_body_mb:g} MB; send less, or raise serve.max_body_mb"
        length = headers.get("content-length", b"0")
        if not length.isdigit() or int(length[:20]) > most:
            raise Refused(said, 413, "too_large")
        try:
            return await asyncio.wait_for(_whole(receive, most, said, hold), self.body_s)
        except asyncio.TimeoutError as error:
            raise Refused(f"the body did not come within {self.body_s:g} s; send it faster", 408, "too_slow") from error


class Gone(Exception):
    """The client has hung up."""


async def _whole(receive: Receive, most: int, too_large: str, hold: Callable[[int], None]) -> bytes:
    pieces, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        pieces.append(message.get("body", b""))
        hold(len(pieces[-1]))
        size += len(pieces[-1])
        if size > most:
            raise Refused(too_large, 413, "too_large")
        if not message.get("more_body", False):
            return b"".join(pieces)


def _given(body: bytes, receive: Receive) -> Receive:
    """What the application receives: the body that was read already, then what comes from the client."""
    given = False

    async def again() -> MutableMapping[str, Any]:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def refuse(refused: Refused, send: Send) -> None:
    body = json.dumps(refused.body(), ensure_ascii=False).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **refused.headers()}
    if refused.status == 401:
        headers["www-authenticate"] = "Bearer"
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refused.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
