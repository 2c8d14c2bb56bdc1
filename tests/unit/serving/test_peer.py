"""Questions reach processes of a group, and what becomes of them when these die, are slow, or ask for another token."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from threading import Event
from typing import Any

import numpy as np
import pytest

from react_ray.cancellation import Cancelled, stop_if_cancelled
from react_ray.errors import ArtifactMissing, ReactRayError
from react_ray.serving.groups import StateGone
from react_ray.serving.peer import Fault, Lost, Peer, Peers
from react_ray.serving.question_server import Address, QuestionServer
from react_ray.serving.refusal import GroupUnavailable, Refused

HOST = "127.0.0.1"
ERRORS = [
    StateGone("it has changed; ask again"),
    ArtifactMissing("no index; build it"),
    Refused("no", 404, "not_found", "k", 3),
    GroupUnavailable("group-1", "it is gone"),
]


@contextmanager
def serving(**methods: Callable[[Any], Any]) -> Iterator[QuestionServer]:
    server = QuestionServer(HOST, methods, at_once=2)
    try:
        yield server
    finally:
        server.close()


def same(value: Any) -> Any:
    return value


def test_many_questions_at_once_get_their_own_answers() -> None:
    async def all_asked(address: Address) -> list[Any]:
        peer = Peer(address)
        return await asyncio.gather(*(peer.ask("same", (number, np.full(number, number))) for number in range(200)))

    with serving(same=same) as server:
        answers = asyncio.run(all_asked(server.address))
    assert [number for number, _ in answers] == list(range(200))
    assert all((array == number).all() and len(array) == number for number, array in answers)
    assert server.asked.value == 0


def test_a_large_question_and_its_answer_come_whole() -> None:
    large = np.random.default_rng(0).integers(0, 2**62, (1 << 20, 9))
    with serving(same=same) as server:
        assert (asyncio.run(Peer(server.address).ask("same", large)) == large).all()


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_our_errors_cross_as_they_are(error: ReactRayError) -> None:
    def raises(question: Any) -> None:
        raise error

    with serving(raises=raises) as server, pytest.raises(type(error)) as caught:
        asyncio.run(Peer(server.address).ask("raises", None))
    assert str(caught.value) == str(error) and caught.value.__dict__ == error.__dict__


def test_a_fault_is_told_and_the_process_goes_on() -> None:
    def raises(question: Any) -> None:
        raise ZeroDivisionError("of ours")

    async def asked(address: Address) -> Any:
        peer = Peer(address)
        for method in ("raises", "unknown"):
            with pytest.raises(Fault, match="ZeroDivisionError: of ours" if method == "raises" else "unknown"):
                await peer.ask(method, None)
        return await peer.ask("same", "still there")

    with serving(raises=raises, same=same) as server:
        assert asyncio.run(asked(server.address)) == "still there"


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


def test_work_ends_when_nobody_waits_for_it() -> None:
    began, ended = Event(), Event()

    def endless(question: Any) -> None:
        began.set()
        try:
            while True:
                stop_if_cancelled()
        except Cancelled:
            ended.set()
            raise

    async def asked(address: Address) -> Peer:
        peer = Peer(address)
        question = asyncio.ensure_future(peer.ask("endless", None))
        assert await asyncio.to_thread(began.wait, 60)
        assert (peer.in_flight, peer.forsaken) == (1, 0)
        question.cancel()
        assert await asyncio.to_thread(ended.wait, 60)
        assert (peer.in_flight, peer.forsaken) == (0, 1)
        assert await peer.ask("same", 1) == 1
        return peer

    with serving(endless=endless, same=same) as server:
        assert asyncio.run(asked(server.address)).forsaken == 0


def answers_from_another_process(says: Connection) -> None:
    def number(question: Any) -> int:
        return os.getpid()

    def endless(question: Any) -> None:
        says.send("asked")
        Event().wait()

    server = QuestionServer(HOST, {"number": number, "endless": endless}, at_once=2)
    says.send(server.address)
    says.recv()


@contextmanager
def processes(count: int) -> Iterator[list[tuple[Address, Any, Connection]]]:
    """Where each process is, itself, and what it says."""
    spawned = multiprocessing.get_context("spawn")
    started = []
    for _ in range(count):
        ours, theirs = spawned.Pipe()
        process = spawned.Process(target=answers_from_another_process, args=(theirs,), daemon=True)
        process.start()
        started.append((process, ours))
    try:
        yield [(ours.recv(), process, ours) for process, ours in started]
    finally:
        for process, _ in started:
            process.kill()
            process.join()


def test_processes_come_die_and_stand_still() -> None:
    with processes(3) as started:
        asyncio.run(_come_die_and_stand_still(started))


async def _come_die_and_stand_still(started: list[tuple[Address, Any, Connection]]) -> None:
    (first, one, says), (second, other, _), (third, last, _) = started
    there: list[Address] = []

    async def where() -> list[Address]:
        if not there:
            there.append(first)
            raise TimeoutError("nobody says")
        return there

    peers = Peers(where)
    assert await peers.ask("number", None) == one.pid  # as soon as somebody says where it is

    question = asyncio.ensure_future(peers.ask("endless", None))
    assert await asyncio.to_thread(says.recv) == "asked"
    there[:] = [first, second]
    one.kill()
    await asyncio.to_thread(one.join)
    with pytest.raises(Lost, match="died"):
        await question
    assert {await peers.ask("number", None) for _ in range(5)} == {other.pid}  # and not the first, which is still named

    there[:] = [second, third]
    await peers._look_now()
    assert {await peers.ask("number", None) for _ in range(4)} == {other.pid, last.pid}  # in turn

    os.kill(other.pid, signal.SIGSTOP)
    waiting = [asyncio.ensure_future(peers.ask("number", None)) for _ in range(2)]
    done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    assert [answer.result() for answer in done] == [last.pid]
    for late in pending:
        late.cancel()
    await asyncio.wait(pending)
    assert {await peers.ask("number", None) for _ in range(4)} == {last.pid}  # which owes no answer
    os.kill(other.pid, signal.SIGCONT)
