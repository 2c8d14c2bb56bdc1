"""Questions reach processes of a group, and what becomes of them when these die, are slow, or ask for another token."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from threading import Event
from typing import Any

import numpy as np
import pytest

from react_ray.errors import ArtifactMissing, ReactRayError
from react_ray.serving.groups import StateGone
from react_ray.serving.peer import Fault, Lost, Peer
from react_ray.serving.peers import Peers
from react_ray.serving.question_server import Address, QuestionServer
from react_ray.serving.refusal import GroupUnavailable, Refused
from tests.support.ports import closed_port
from tests.support.question_servers import HOST, Endless, same, serving

ERRORS = [
    StateGone("it has changed; ask again"),
    ArtifactMissing("no index; build it"),
    Refused("no", 404, "not_found", "k", 3),
    GroupUnavailable("group-1", "it is gone"),
]


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


def test_work_ends_when_nobody_waits_for_it() -> None:
    endless = Endless()

    async def asked(address: Address) -> Peer:
        peer = Peer(address)
        question = asyncio.ensure_future(peer.ask("endless", None))
        assert await asyncio.to_thread(endless.began.wait, 60)
        assert (peer.in_flight, peer.forsaken) == (1, 0)
        question.cancel()
        assert await asyncio.to_thread(endless.ended.wait, 60)
        assert (peer.in_flight, peer.forsaken) == (0, 1)
        assert await peer.ask("same", 1) == 1
        return peer

    with serving(endless=endless, same=same) as server:
        assert asyncio.run(asked(server.address)).forsaken == 0


def test_a_question_ends_when_it_is_cancelled_whatever_it_waits_for() -> None:
    async def cancelled_after(steps: int, address: Address) -> None:
        peer = Peer(address)
        question = asyncio.ensure_future(peer.ask("endless", None))
        for _ in range(steps):
            await asyncio.sleep(0)
        question.cancel()
        await asyncio.wait({question}, timeout=60)
        assert question.cancelled()
        assert await peer.ask("same", 1) == 1  # over the connection that was opened meanwhile, or another
        peer.leave()

    with serving(endless=Endless(), same=same) as server:
        for steps in range(40):
            asyncio.run(cancelled_after(steps, server.address))


def test_what_all_processes_are_asked_is_done_by_each_that_lives() -> None:
    done: list[int] = []

    def note(question: int) -> None:
        if not question:
            raise StateGone("it has changed; ask again")
        done.append(question)

    async def all_asked(*there: Address) -> None:
        async def where() -> tuple[Iterable[Address], bool]:
            return there, True

        await Peers(where).ask_all("note", 1)
        with pytest.raises(StateGone):
            await Peers(where).ask_all("note", 0)

    with serving(note=note) as one, serving(note=note) as other, closed_port() as port:
        asyncio.run(all_asked(one.address, Address(HOST, port, ""), other.address))
    assert done == [1, 1]


def test_a_question_that_is_asked_again_goes_to_another_process_however_busy() -> None:
    async def asked_again(first: QuestionServer, second: QuestionServer) -> None:
        async def where() -> tuple[Iterable[Address], bool]:
            return [first.address, second.address], True

        peers, asked = Peers(where), {first.address}
        assert await peers.ask("name", None, set()) in ("first", "second")
        peers._peers[second.address].forsaken = 5
        assert await peers.ask("name", None, set()) == "first"
        assert await peers.ask("name", None, asked) == "second"
        assert asked == {first.address, second.address}

    with serving(name=lambda question: "first") as first, serving(name=lambda question: "second") as second:
        asyncio.run(asked_again(first, second))


def answers_from_another_process(says: Connection) -> None:
    def number(question: Any) -> int:
        return os.getpid()

    def endless(question: Any) -> None:
        says.send("asked")
        Event().wait()

    server = QuestionServer(HOST, {"number": number, "endless": endless})
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
    there, are_all = list[Address](), True

    async def where() -> tuple[list[Address], bool]:
        if not there:
            there.append(first)
            raise TimeoutError("nobody says")
        return there, are_all

    peers = Peers(where)
    assert await peers.ask("number", None, set()) == one.pid  # as soon as somebody says where it is

    question = asyncio.ensure_future(peers.ask("endless", None, set()))
    assert await asyncio.to_thread(says.recv) == "asked"
    there[:] = [first, second]
    one.kill()
    await asyncio.to_thread(one.join)
    with pytest.raises(Lost, match="died"):
        await question
    assert {await peers.ask("number", None, set()) for _ in range(5)} == {other.pid}

    there[:] = [second, third]
    await peers._look_now()
    assert {await peers.ask("number", None, set()) for _ in range(4)} == {other.pid, last.pid}  # in turn
    there[:], are_all = [second], False
    await peers._look_now()
    assert {await peers.ask("number", None, set()) for _ in range(4)} == {
        other.pid,
        last.pid,
    }  # one was too busy

    os.kill(other.pid, signal.SIGSTOP)
    os.waitpid(other.pid, os.WUNTRACED)
    assert await peers.lives([third]) and not await peers.lives([second])
    waiting = [asyncio.ensure_future(peers.ask("number", None, set())) for _ in range(2)]
    done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    assert [answer.result() for answer in done] == [last.pid]
    for late in pending:
        late.cancel()
    await asyncio.wait(pending)
    assert {await peers.ask("number", None, set()) for _ in range(4)} == {last.pid}  # which owes no answer
    os.kill(other.pid, signal.SIGCONT)
