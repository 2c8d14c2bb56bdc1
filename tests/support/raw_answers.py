"""Serves answers that are given as raw bytes, right or wrong, on loopback.

`with raw_answers({"/a": b"HTTP/1.1 200 OK..."}) as base: fetch(base + "/a")`. Each connection gets one answer and is
then closed; an answer that is a list of bytes is sent piece by piece.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager


@contextmanager
def raw_answers(answers: Mapping[str, bytes | Sequence[bytes]], keep_open: bool = False) -> Iterator[str]:
    """Gives the base URL. keep_open: connections are left open behind the answer until the client closes them."""
    loop = asyncio.new_event_loop()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                found = answers[head.split(b" ")[1].decode()]
                for piece in [found] if isinstance(found, bytes) else found:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
                if not keep_open:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone
        finally:
            writer.close()

    server = loop.run_until_complete(asyncio.start_server(answer, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        server.close()
        loop.close()
