"""QuestionServer: a process of a group answers questions on a port of its own; peer.py asks.

Between the processes of a search, Ray Serve's handles would take longer than the search itself: bench_serve.py measures
both (noop_client_p50_ms, noop_handle_p50_ms). Serve starts these processes, looks after them, and says where they are.

A connection begins with the server's token and has one question at a time. A client that hangs up, as when it is
cancelled, ends the work on its question.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from threading import Thread
from typing import Any, NamedTuple

from react_ray.errors import ReactRayError
from react_ray.fault_log import told
from react_ray.serving.message import HEAD, pack, unpack

logger = logging.getLogger(__name__)
GREETING_S = 10.0
BUFFER = 1 << 20  # bytes of a connection
ANSWER, ERROR, FAULT = "answer", "error", "fault"  # how a reply begins: then the answer; its class, arguments; a text


class Address(NamedTuple):
    host: str
    port: int
    token: str  # without it, nobody is answered


class QuestionServer:
    """Listens from the start, with an event loop in a thread of its own."""

    def __init__(self, host: str, methods: Mapping[str, Callable[[Any], Awaitable[Any]]]) -> None:
        """host: the address to listen at; methods: by name, what answers a question, in that loop."""
        self._methods = methods
        self.num_asked = 0  # questions that wait for their answers
        self.address = Address(host, 0, secrets.token_hex(16))
        listens = Future[None]()
        Thread(target=asyncio.run, args=(self._listen(listens),), name="questions", daemon=True).start()
        listens.result()

    def close(self) -> None:
        """Nobody is answered any more."""
        self._loop.call_soon_threadsafe(self._ended.set)

    async def _listen(self, listens: Future[None]) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        try:
            server = await asyncio.start_server(self._connected, self.address.host, 0, limit=BUFFER)
        except OSError as error:
            listens.set_exception(error)
            return
        self.address = self.address._replace(port=server.sockets[0].getsockname()[1])
        listens.set_result(None)
        await self._ended.wait()
        server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until it hangs up, is found to be none of ours, or this server ends."""
        token = self.address.token.encode()
        with closing(writer), suppress(OSError, EOFError, asyncio.TimeoutError, asyncio.CancelledError):
            if hmac.compare_digest(await asyncio.wait_for(reader.readexactly(len(token)), GREETING_S), token):
                coming = asyncio.ensure_future(read_message(reader))
                while True:
                    asked = await coming
                    coming = asyncio.ensure_future(read_message(reader))
                    await write(writer, await self._unless_gone(asked, coming))

    async def _unless_gone(self, asked: tuple[bytes, bytes], coming: asyncio.Task[Any]) -> list[bytes | memoryview]:
        """The reply, unless the next message ends before: a client that waits sends nothing, so it has hung up."""
        work = asyncio.ensure_future(self._reply(*asked))
        self.num_asked += 1
        try:
            await asyncio.wait({work, coming}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.num_asked -= 1
        if work.done():
            return work.result()
        work.cancel()
        await coming
        raise EOFError("the next question came before the answer")

    async def _reply(self, text: bytes, data: bytes) -> list[bytes | memoryview]:
        try:
            method, question = unpack(text, data)
            return pack((ANSWER, await self._methods[method](question)))
        except ReactRayError as error:
            made: Any = error.__reduce__()  # its class and arguments, with which it would be pickled
            arguments = [one if one is None or isinstance(one, (int, float)) else str(one) for one in made[1]]
            return pack((ERROR, made[0].__name__, arguments))
        except Exception as error:
            said = told(error)
            logger.error("a question: %s", said)
            return pack((FAULT, said))


async def write(writer: asyncio.StreamWriter, pieces: Sequence[bytes | memoryview]) -> None:
    """OSError if the other side has hung up: uvloop would raise RuntimeError."""
    if writer.is_closing():
        raise ConnectionResetError("the other side has hung up")
    writer.writelines(pieces)
    await writer.drain()


async def read_message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """What `unpack` takes. EOFError if the other side has hung up."""
    length, size = HEAD.unpack(await reader.readexactly(HEAD.size))
    return await reader.readexactly(length), await reader.readexactly(size)
