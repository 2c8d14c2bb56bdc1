"""A server of questions answers who has its token, and whatever its clients do harms no other."""

from __future__ import annotations

import asyncio
import socket
import threading
import tracemalloc
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

from react_ray.serving.message import pack
from react_ray.serving.peer import Lost, Peer
from tests.support.question_servers import same, serving


@pytest.mark.parametrize("token", ["", "0" * 31, "0" * 32, "é" * 16, "GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 10_000])
def test_who_has_no_token_is_told_nothing(token: str) -> None:
    with serving(same=same) as server:
        with socket.create_connection(server.address[:2]) as client:
            assert heard(client, token.encode()) == b""
        with pytest.raises(Lost):
            asyncio.run(Peer(server.address._replace(token="0" * 32)).ask("same", 1))
        assert asyncio.run(Peer(server.address).ask("same", 1)) == 1


def heard(client: socket.socket, said: bytes) -> bytes:
    try:
        client.sendall(said)
        client.shutdown(socket.SHUT_WR)
        return client.recv(100)
    except OSError:  # it has hung up, and left unread what was said
        return b""


def test_a_client_that_goes_while_its_answer_comes_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    def large(question: Any) -> np.ndarray:
        return np.zeros(1 << 24)

    with serving(large=large) as server:
        before = threading.enumerate()
        with socket.create_connection(server.address[:2]) as client:
            client.sendall(b"".join([server.token, *pack(("large", None))]))
            client.recv(100)
            [connection] = set(threading.enumerate()) - set(before)
        connection.join(60)
    assert not connection.is_alive() and server.asked.value == 0
    assert not caplog.records


def test_a_large_answer_is_not_copied_to_be_written() -> None:
    def large(question: int) -> np.ndarray:
        return np.zeros(question, np.uint8)

    tracemalloc.start()
    with serving(large=large) as server, socket.create_connection(server.address[:2]) as client:
        client.sendall(b"".join([server.token, *pack(("large", 1 << 27))]))
        left, got = bytearray(1 << 16), 0
        while got < 1 << 27:
            got += client.recv_into(left)
        peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * (1 << 27)


def test_who_shows_no_token_keeps_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("react_ray.serving.question_server.GREETINGS", 8)
    with serving(same=same) as server, ExitStack() as held:
        for _ in range(20):
            held.enter_context(socket.create_connection(server.address[:2])).sendall(b"0")
        assert asyncio.run(Peer(server.address).ask("same", 1)) == 1
