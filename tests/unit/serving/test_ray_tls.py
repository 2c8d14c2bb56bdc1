"""Where Ray's processes use TLS, those of a search use it too, with the same certificates."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from react_ray.errors import ClusterError
from react_ray.serving import ray_tls
from react_ray.serving.message import pack
from react_ray.serving.peer import Lost, Peer
from react_ray.serving.question_server import Address
from tests.support.certificates import make_certificates
from tests.support.question_servers import HOST, Endless, same, serving


class Node:
    """Has Ray's variables, as `use` sets them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._monkeypatch = folder, monkeypatch

    def use(self, name: str, *hosts: str) -> None:
        """A certificate of an authority of this name, valid for these addresses."""
        folder = self.folder / name
        if not folder.exists():
            folder.mkdir()
            make_certificates(folder, list(hosts))
        self._monkeypatch.setenv("RAY_USE_TLS", "1")
        for variable in ray_tls.FILES:
            file = "ca.pem" if "CA" in variable else "server.pem"
            self._monkeypatch.setenv(variable, str(folder / file))
        self.read_again()

    def use_none(self) -> None:
        self._monkeypatch.setenv("RAY_USE_TLS", "0")
        self.read_again()

    @staticmethod
    def read_again() -> None:
        ray_tls.of_server.cache_clear()
        ray_tls.of_client.cache_clear()


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    node = Node(tmp_path, monkeypatch)
    node.use("ours", HOST)
    yield node
    monkeypatch.undo()
    node.read_again()


def test_questions_and_answers_of_all_sizes_come_whole(node: Node) -> None:
    async def all_asked(peer: Peer) -> list[Any]:
        return await asyncio.gather(
            *(peer.ask("same", np.arange(size)) for size in (0, 1, 1000, 1 << 20) for _ in "ab")
        )

    with serving(same=same) as server:
        answers = asyncio.run(all_asked(Peer(server.address)))
    assert [len(one) for one in answers] == [0, 0, 1, 1, 1000, 1000, 1 << 20, 1 << 20]
    assert all((one == np.arange(len(one))).all() for one in answers)


def test_nothing_that_is_said_can_be_read_on_the_way(node: Node) -> None:
    with socket.create_server((HOST, 0)) as wire:
        asking = asyncio.run(_first_said_to(wire))
    assert asking.startswith(b"\x16\x03"), "no TLS handshake"


async def _first_said_to(wire: socket.socket) -> bytes:
    peer = Peer(Address(HOST, wire.getsockname()[1], "token"))
    question = asyncio.ensure_future(peer.ask("same", 1))
    connection, _ = await asyncio.to_thread(wire.accept)
    with connection:
        said = await asyncio.to_thread(connection.recv, 1 << 16)
    with pytest.raises(Lost):
        await question
    return said


def test_work_ends_when_its_client_hangs_up(node: Node) -> None:
    endless = Endless()

    async def asked(peer: Peer) -> None:
        question = asyncio.ensure_future(peer.ask("endless", None))
        assert await asyncio.to_thread(endless.began.wait, 60)
        assert not endless.ended.wait(0.1)  # a client that waits does not seem to have hung up
        question.cancel()
        assert await asyncio.to_thread(endless.ended.wait, 60)

    with serving(endless=endless) as server:
        asyncio.run(asked(Peer(server.address)))


@pytest.mark.parametrize("theirs", ["other authority", "no TLS"])
def test_who_has_no_certificate_of_the_cluster_is_not_talked_to(node: Node, theirs: str) -> None:
    asked = Event()

    def note(question: Any) -> None:
        asked.set()

    def refused() -> None:
        with pytest.raises(Lost):
            asyncio.run(Peer(server.address).ask("note", None))

    def use_theirs() -> None:
        if theirs == "no TLS":
            node.use_none()
        else:
            node.use(theirs, HOST)

    with serving(note=note) as server:
        use_theirs()
        refused()
    with serving(note=note) as server:
        node.use("ours", HOST)
        refused()
    assert not asked.is_set()


def test_a_process_whose_certificate_is_not_valid_for_its_address_is_not_asked(node: Node) -> None:
    node.use("of another node", "127.0.0.9")
    with serving(same=same) as server, pytest.raises(Lost, match="IP address mismatch"):
        asyncio.run(Peer(server.address).ask("same", 1))


def test_a_plain_client_with_the_token_is_told_nothing(node: Node) -> None:
    with serving(same=same) as server, socket.create_connection(server.address[:2]) as client:
        client.sendall(b"".join([server.token, *pack(("same", 1))]))
        heard = b""
        while more := _received(client):
            heard += more
    assert len(heard) < 10  # an alert


def _received(client: socket.socket) -> bytes:
    try:
        return client.recv(100)
    except OSError:
        return b""


@pytest.mark.parametrize("variable", ray_tls.FILES)
def test_a_file_that_is_missing_is_named(node: Node, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, str(node.folder / "missing.pem"))
    node.read_again()
    with pytest.raises(ClusterError, match=r"RAY_USE_TLS is set, and .*missing\.pem'; set RAY_TLS_SERVER_CERT"):
        ray_tls.of_client()
    monkeypatch.delenv(variable)
    node.read_again()
    with pytest.raises(ClusterError, match=f"RAY_USE_TLS is set, and '{variable}'; set RAY_TLS_SERVER_CERT"):
        ray_tls.of_server()
