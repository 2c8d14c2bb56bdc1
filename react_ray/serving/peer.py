"""Peer: a process of a group, as the processes that ask it see it. Next: peers.py has those of a group."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import Any, TypeAlias

from react_ray.errors import ReactRayError
from react_ray.serving import ray_tls
from react_ray.serving.message import HEAD, pack, unpack
from react_ray.serving.question_server import ALIVE, ANSWER, ERROR, Address

CONNECTING_S = 3.0
LIVES_S = 2.0  # in which a process says that it lives
LEFT_S = 10.0  # for questions to a process that is no more one of the group
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
            connecting = asyncio.open_connection(host, port, limit=BUFFER, ssl=ray_tls.of_client())
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
        for writer in list(self._busy):
            writer.transport.abort()


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
