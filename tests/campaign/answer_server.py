"""An HTTP server on loopback that sends whatever bytes a case has set, byte for byte, in its own thread."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from threading import Thread

CLOSE, RESET = "close", "reset"
Step = bytes | float | str  # bytes to send, seconds to wait, CLOSE or RESET
LONGEST_REQUEST = 1 << 20


class AnswerServer:
    """`say` sets what a path answers: one list of steps per request; the last of them is repeated."""

    def __init__(self) -> None:
        self._answers: dict[str, list[list[Step]]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="answers", daemon=True)
        self._thread.start()
        started = asyncio.start_server(self._serve, "127.0.0.1", 0, limit=LONGEST_REQUEST)
        self._server = asyncio.run_coroutine_threadsafe(started, self._loop).result()
        self.port = int(self._server.sockets[0].getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def say(self, path: str, *answers: list[Step]) -> str:
        """Returns the URL of the path."""
        self._answers[path] = list(answers)
        return self.url + path

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split(b" ", 2)[1].decode("latin-1").partition("?")[0]
                answers = self._answers.get(path, [[b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"]])
                for step in answers.pop(0) if len(answers) > 1 else answers[0]:
                    if isinstance(step, float):
                        await asyncio.sleep(step)
                    elif isinstance(step, bytes):
                        writer.write(step)
                        await writer.drain()
                    else:
                        if step == RESET:
                            linger = struct.pack("ii", 1, 0)
                            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                        writer.close()
                        return
        writer.close()
