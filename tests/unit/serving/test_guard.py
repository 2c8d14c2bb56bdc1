"""A slow client, one that hangs up, one that sends without end and one too many are refused; no other waits."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

from react_ray.serve_config import ServeConfig
from react_ray.serving.guard import Guard
from react_ray.serving.measures import Measures

Message = dict[str, Any]


class Client:
    """Sends these messages, then waits for ever; keeps what it is sent."""

    def __init__(self, *messages: Message) -> None:
        self.messages, self.sent = list(messages), []  # type: tuple[list[Message], list[Message]]

    async def receive(self) -> Message:
        if not self.messages:
            await asyncio.Event().wait()
        return self.messages.pop(0)

    async def send(self, message: Any) -> None:
        self.sent.append(dict(message))

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def code(self) -> str:
        return str(json.loads(self.sent[1]["body"])["error"]["code"])


def piece(body: bytes, more: bool = False) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def scope(path: str = "/v1/search", method: str = "POST", **headers: str) -> Message:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "method": method, "path": path, "headers": raw}


async def answers(scope: Any, receive: Any, send: Any) -> None:
    """An application that repeats the body."""
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": message["body"]})


def guard(app: Callable[..., Awaitable[None]] = answers, **fields: Any) -> Guard:
    return Guard(app, ServeConfig(**fields), Measures())


def test_a_body_in_pieces_arrives_whole() -> None:
    client = Client(piece(b"ab", True), piece(b"cd"))
    asyncio.run(guard()(scope(), client.receive, client.send))
    assert client.status == 200 and client.sent[1]["body"] == b"abcd"


def test_a_slow_body_is_given_up() -> None:
    client = Client(piece(b"a", True))
    asyncio.run(guard(timeout_s=0.02)(scope(), client.receive, client.send))
    assert (client.status, client.code) == (408, "too_slow")


def test_a_client_that_hangs_up_is_answered_nothing() -> None:
    client, one = Client(piece(b"a", True), {"type": "http.disconnect"}), guard()
    asyncio.run(one(scope(), client.receive, client.send))
    assert client.sent == [] and b'status="499"' in one.measures.text()


def test_a_request_without_a_body_is_answered() -> None:
    client = Client(piece(b""))
    asyncio.run(guard()(scope(method="GET"), client.receive, client.send))
    assert client.status == 200


def test_work_for_a_client_that_hangs_up_ends() -> None:
    ended: list[str] = []

    async def works(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    for method in ("POST", "GET"):
        client, one = Client(piece(b""), {"type": "http.disconnect"}), guard(works)
        asyncio.run(one(scope(method=method), client.receive, client.send))
        assert (ended.pop(), client.sent) == ("cancelled", []) and b'status="499"' in one.measures.text()


def test_a_body_without_end_is_refused_whatever_its_header_says() -> None:
    endless = Client(*[piece(b"x" * 1000, True)] * 20)
    asyncio.run(guard(max_body_mb=0.01)(scope(), endless.receive, endless.send))
    assert (endless.status, endless.code) == (413, "too_large") and len(endless.messages) == 9
    for length in ("10001", "-5", "many"):
        announced = Client()
        asyncio.run(guard(max_body_mb=0.01)(scope(content_length=length), announced.receive, announced.send))
        assert announced.code == "too_large"


def test_one_request_too_many_is_told_to_come_again_and_health_is_answered_all_the_same() -> None:
    async def all_of() -> tuple[list[Client], list[Client]]:
        opened = asyncio.Event()

        async def waits(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"].startswith("/v1"):
                await opened.wait()
            await answers(scope, receive, send)

        one = guard(waits, max_in_flight=2)
        first = [Client(piece(b"x")) for _ in range(2)]
        running = [asyncio.ensure_future(one(scope(), client.receive, client.send)) for client in first]
        while not re.search(rb"react_ray_requests_in_flight\{process=\S+\} 2\.0", one.measures.text()):
            await asyncio.sleep(0)
        more = [Client(piece(b"x")), Client()]
        await one(scope(), more[0].receive, more[0].send)
        await one(scope("/healthz", "GET"), Client(piece(b"")).receive, more[1].send)
        opened.set()
        await asyncio.gather(*running)
        await one(scope(), (again := Client(piece(b"x"))).receive, again.send)
        return first, [*more, again]

    first, (refused, healthy, again) = asyncio.run(all_of())
    assert [client.status for client in first] == [200, 200] and again.status == 200
    assert (refused.status, refused.code) == (429, "busy") and (b"retry-after", b"1") in refused.sent[0]["headers"]
    assert healthy.status == 200


def test_bodies_at_once_are_bounded_together_and_make_room_when_they_are_answered() -> None:
    async def all_at_once() -> tuple[list[int], int]:
        is_over = asyncio.Event()

        async def waits(scope: Any, receive: Any, send: Any) -> None:
            await is_over.wait()
            await answers(scope, receive, send)

        one = guard(waits, max_body_mb=0.01)
        clients = [Client(piece(b"x" * 5000, True), piece(b"x" * 4000)) for _ in range(20)]
        asking = [asyncio.create_task(one(scope(), client.receive, client.send)) for client in clients]
        while sum(bool(client.sent) for client in clients) < 3:
            await asyncio.sleep(0)
        is_over.set()
        await asyncio.gather(*asking)
        after = Client(piece(b"x" * 9000))
        await one(scope(), after.receive, after.send)
        return [client.status for client in clients], after.status

    found, after = asyncio.run(all_at_once())
    assert sorted(found) == [200] * 17 + [429] * 3 and after == 200
