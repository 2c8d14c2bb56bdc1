"""Peer: a process of a group, as the processes that ask it see it; Peers: those of a group. See question_server.py."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import closing
from typing import Any, TypeAlias

from react_ray.errors import ReactRayError
from react_ray.serving.message import HEAD, pack, unpack
from react_ray.serving.question_server import ALIVE, ANSWER, ERROR, Address

logger = logging.getLogger(__name__)
CONNECTING_S = 3.0
LIVES_S = 2.0  # in which a process says that it lives
LEFT_S = 10.0  # for questions to a process that is no more one of the group
LOOK_S = 5.0  # between two looks where the processes of a group are, unless one was lost
AGAIN_S = 0.2  # after a look that found none
CONNECTIONS = 16  # to a process, each of which has a thread there; more questions wait for one
BUFFER = 1 << 20  # bytes of a connection
Connection: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Lost(Exception):
    """The process has not answered, and will not."""

    def __init__(self, reason: str, was_asked: bool) -> None:
        super().__init__(reason)
        self.was_asked = was_asked  # the question may be what it died of


class Fault(Exception):
    """What went wrong in the other process, by a mistake of ours."""


class Peer:
    def __init__(self, address: Address) -> None:
        self.address = address
        self.in_flight = 0
        self.forsaken = 0  # questions that were given up since it last answered
        self._is_left = False
        self._free = asyncio.Semaphore(CONNECTIONS)
        self._idle: list[Connection] = []
        self._busy: set[asyncio.StreamWriter] = set()

    async def ask(self, method: str, question: Any) -> Any:
        """Lost, or what the other process raised: one of our errors, or Fault."""
        pieces = pack((method, question))
        self.in_flight += 1
        try:
            async with self._free:
                reply = await self._reply(pieces)
            self.forsaken = 0
        except asyncio.CancelledError:
            self.forsaken += 1
            raise
        finally:
            self.in_flight -= 1
        if reply[0] == ANSWER:
            return reply[1]
        raise _error(*reply[1:]) if reply[0] == ERROR else Fault(reply[1])

    async def _reply(self, pieces: list[bytes | memoryview]) -> Any:
        connection = await self._connected()
        _, writer = connection
        self._busy.add(writer)
        try:
            reply = await _exchange(connection, pieces)
        except (OSError, EOFError) as error:
            writer.close()
            raise Lost(f"{self.address.host}:{self.address.port} died: {error}", was_asked=True) from error
        except BaseException:
            writer.close()  # which ends the work on the question
            raise
        finally:
            self._busy.discard(writer)
        self._keep(connection)
        return reply

    async def lives(self) -> bool:
        """Whether the process still answers, however long its questions take."""

        async def alive() -> bool:
            connection = await self._connect()
            with closing(connection[1]):
                await _exchange(connection, pack((ALIVE, None)))
            return True

        try:
            return await asyncio.wait_for(alive(), LIVES_S)
        except (Lost, OSError, EOFError, asyncio.TimeoutError):
            return False

    async def _connected(self) -> Connection:
        while self._idle:
            reader, writer = self._idle.pop()
            if not (reader.at_eof() or writer.is_closing()):
                return reader, writer
            writer.close()
        connecting = asyncio.ensure_future(self._connect())
        try:
            return await asyncio.shield(connecting)  # before Python 3.12, wait_for may swallow that it is cancelled
        except asyncio.CancelledError:
            connecting.add_done_callback(self._keep_for_another)
            raise

    async def _connect(self) -> Connection:
        host, port, token = self.address
        try:
            connecting = asyncio.open_connection(host, port, limit=BUFFER)
            reader, writer = await asyncio.wait_for(connecting, CONNECTING_S)
            await _write(writer, [token.encode()])
        except (OSError, asyncio.TimeoutError) as error:
            raise Lost(f"{host}:{port} cannot be reached: {error}", was_asked=False) from error
        return reader, writer

    def _keep_for_another(self, connecting: asyncio.Task[Connection]) -> None:
        """The question that has waited for this connection was given up."""
        if not connecting.cancelled() and connecting.exception() is None:
            self._keep(connecting.result())

    def _keep(self, connection: Connection) -> None:
        self._idle.append(connection)
        if self._is_left or len(self._idle) > CONNECTIONS:
            self._idle.pop()[1].close()

    def leave(self) -> None:
        """Questions on their way may still be answered, but not for long: nothing may ever come from a lost machine."""
        self._is_left = True
        while self._idle:
            self._idle.pop()[1].close()
        asyncio.get_running_loop().call_later(LEFT_S, self._abort)

    def _abort(self) -> None:
        for writer in self._busy:
            writer.transport.abort()


class Peers:
    """The processes of a group, as they come and go. Everything is called from one event loop."""

    def __init__(self, where: Callable[[], Awaitable[Iterable[Address]]]) -> None:
        """where: says which processes of the group there are now; it may fail."""
        self._where = where
        self._peers: dict[Address, Peer] = {}  # the one that was asked last is the last
        self._look: asyncio.Task[None] | None = None
        self._following: asyncio.Task[None] | None = None

    async def ask(self, method: str, question: Any, asked: set[Address]) -> Any:
        """Of the process that has the fewest questions. Waits while none can be reached; the rest as of Peer.

        asked: processes that were asked before, which are asked again only if there are no others; the one that is
        asked is added.
        """
        while True:
            await self._there()
            peer = min(self._peers.values(), key=lambda one: (one.address in asked, one.in_flight + one.forsaken))
            self._peers[peer.address] = self._peers.pop(peer.address)
            asked.add(peer.address)
            try:
                return await self._answer(peer, method, question)
            except Lost as lost:
                if lost.was_asked:
                    raise
                logger.warning("%s", lost)
                if not self._peers:
                    await asyncio.sleep(AGAIN_S)

    async def ask_all(self, method: str, question: Any) -> None:
        """Of every process that there is now. What one of them raises is raised, but Lost only if all were lost."""
        await self._there()
        asking = [self._answer(peer, method, question) for peer in self._peers.values()]
        answers = await asyncio.gather(*asking, return_exceptions=True)
        for one in [one for one in answers if not isinstance(one, Lost)] or answers:
            if isinstance(one, BaseException):
                raise one

    async def _answer(self, peer: Peer, method: str, question: Any) -> Any:
        try:
            return await peer.ask(method, question)
        except Lost:
            self._leave(peer.address)
            self._look_now()
            raise

    async def _there(self) -> None:
        """Returns when there is a process."""
        if self._following is None or self._following.done():
            self._following = asyncio.create_task(self._follow())
        while not self._peers:
            await asyncio.shield(self._look_now())
            if not self._peers:
                await asyncio.sleep(AGAIN_S)

    async def lives(self, asked: Iterable[Address]) -> bool:
        """Whether one of these processes still answers."""
        return any(await asyncio.gather(*(peer.lives() for at in asked if (peer := self._peers.get(at)))))

    async def _follow(self) -> None:
        """Looks again and again while there are questions, also long ones to a process whose machine has gone."""
        while True:
            await self._look_now()
            await asyncio.sleep(LOOK_S)
            if not any(peer.in_flight for peer in self._peers.values()):
                return

    def _look_now(self) -> asyncio.Task[None]:
        """What several wait for is done once."""
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._find())
        return self._look

    async def _find(self) -> None:
        try:
            there = set(await self._where())
        except Exception as error:  # no process has started yet, or one of them says nothing
            logger.debug("where the processes of a group are is not known: %s", error)
            return
        for address in self._peers.keys() - there:
            self._leave(address)
        for address in there:
            self._peers.setdefault(address, Peer(address)).forsaken = 0

    def _leave(self, address: Address) -> None:
        if peer := self._peers.pop(address, None):
            peer.leave()


async def _exchange(connection: Connection, pieces: list[bytes | memoryview]) -> Any:
    reader, writer = connection
    await _write(writer, pieces)
    length, size = HEAD.unpack(await reader.readexactly(HEAD.size))
    return unpack(await reader.readexactly(length), await reader.readexactly(size))


async def _write(writer: asyncio.StreamWriter, pieces: list[bytes | memoryview]) -> None:
    """OSError if the other side has hung up: uvloop would raise RuntimeError."""
    if writer.is_closing():
        raise ConnectionResetError("the other side has hung up")
    writer.writelines(pieces)
    await writer.drain()


def _error(name: str, arguments: tuple[Any, ...]) -> Exception:
    kinds, left = {}, [ReactRayError]
    while left:
        kind = left.pop()
        kinds[kind.__name__] = kind
        left += kind.__subclasses__()
    return kinds.get(name, ReactRayError)(*arguments)
