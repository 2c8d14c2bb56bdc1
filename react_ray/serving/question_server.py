"""QuestionServer: a process of a group answers questions on a port of its own; peer.py asks them.

Between the processes of a search, Ray Serve's handles would take longer than the search itself: bench_serve.py measures
both (noop_client_p50_ms, noop_handle_p50_ms). Serve starts these processes, looks after them, and says where they are.

A connection begins with the server's token and has one question at a time, which is answered in its own thread: an
event loop and a pool of threads would take longer. A client that hangs up, as when its task is cancelled,
ends the work on its question.
"""

from __future__ import annotations

import hmac
import io
import logging
import secrets
import select
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Lock, Thread
from typing import Any, NamedTuple

from react_ray.cancellation import Cancelled, unless
from react_ray.errors import ReactRayError
from react_ray.fault_log import told
from react_ray.serving import ray_tls
from react_ray.serving.message import HEAD, pack, unpack

logger = logging.getLogger(__name__)
GREETING_S = 10.0
GREETINGS = 256  # connections that have not shown the token yet
ALIVE = "alive"  # a question to every process
LARGE = 1 << 20  # bytes of a reply that are not copied to go at once
ANSWER, ERROR, FAULT = "answer", "error", "fault"  # how a reply begins: then the answer; its class, arguments; a text


class Address(NamedTuple):
    host: str
    port: int
    token: str  # without it, nobody is answered


class Count:
    """How many threads are in a block of it."""

    def __init__(self) -> None:
        self.value, self._lock = 0, Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.value += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self.value -= 1


class Greeting:
    """Connections that have not shown the token yet. Of too many, the oldest is ended: ours show it at once."""

    def __init__(self) -> None:
        self._held: dict[socket.socket, None] = {}
        self._lock = Lock()

    @contextmanager
    def of(self, connection: socket.socket) -> Iterator[None]:
        with self._lock:
            self._held[connection] = None
            oldest = next(iter(self._held)) if len(self._held) > GREETINGS else None
            if oldest is not None:
                del self._held[oldest]
                with suppress(OSError):  # it has hung up
                    oldest.shutdown(socket.SHUT_RDWR)
        try:
            yield
        finally:
            with self._lock:
                self._held.pop(connection, None)


class QuestionServer:
    """Listens from the start."""

    def __init__(
        self,
        host: str,
        methods: Mapping[str, Callable[[Any], Any]],
        begins: Callable[[], None] = lambda: None,
    ) -> None:
        """host: the address to listen at; methods: by name, what answers a question; begins: is called in each thread
        that will answer."""
        self.methods, self.begins = {**methods, ALIVE: lambda question: None}, begins
        self.token = secrets.token_hex(16).encode()
        self.asked, self.greeting = Count(), Greeting()  # questions without an answer, connections without a token
        self._listener = _Listener(host, self)
        Thread(target=self._listener.serve_forever, name="questions", daemon=True).start()

    @property
    def address(self) -> Address:
        host, port = self._listener.server_address[:2]
        return Address(str(host), port, self.token.decode())

    def close(self) -> None:
        """Nobody connects any more."""
        self._listener.shutdown()
        self._listener.server_close()

    def reply(self, text: bytes, data: bytes) -> list[bytes | memoryview]:
        """Cancelled if nobody waits for it any more."""
        try:
            method, question = unpack(text, data)
            return pack((ANSWER, self.methods[method](question)))
        except ReactRayError as error:
            made: Any = error.__reduce__()  # its class and arguments, with which it would be pickled
            arguments = [one if one is None or isinstance(one, (int, float)) else str(one) for one in made[1]]
            return pack((ERROR, made[0].__name__, arguments))
        except Cancelled:
            raise
        except Exception as error:
            said = told(error)
            logger.error("a question: %s", said)
            return pack((FAULT, said))


class _Listener(ThreadingTCPServer):
    daemon_threads, block_on_close, request_queue_size = True, False, 4096

    def __init__(self, host: str, questions: QuestionServer) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.questions, self._tls = questions, ray_tls.of_server()
        super().__init__((host, 0), _Connection)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, client = super().get_request()
        if self._tls:  # the handshake is a part of what is first read, in the connection's own thread
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, client

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.exception("a connection of %s", client_address)


class _Connection(StreamRequestHandler):
    server: _Listener
    timeout, disable_nagle_algorithm = GREETING_S, True

    def handle(self) -> None:
        questions = self.server.questions
        with suppress(OSError, EOFError, Cancelled):  # it has hung up, or is none of ours
            with questions.greeting.of(self.connection):
                if not hmac.compare_digest(self.rfile.read(len(questions.token)), questions.token):
                    return
            self.connection.settimeout(None)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            questions.begins()
            while True:
                asked = read_message(self.rfile)
                with questions.asked, unless(self._has_hung_up):
                    reply = questions.reply(*asked)
                for part in [b"".join(reply)] if sum(map(len, reply)) < LARGE else reply:
                    self.connection.sendall(part)

    def _has_hung_up(self) -> bool:
        """A client that waits sends nothing."""
        heard = select.poll()
        heard.register(self.connection, select.POLLIN)
        return bool(heard.poll(0))


def read_message(file: io.BufferedIOBase) -> tuple[bytes, bytes]:
    """What `unpack` takes. EOFError if the other side has hung up."""

    def exactly(size: int) -> bytes:
        found = file.read(size)
        if len(found) < size:
            raise EOFError
        return found

    length, size = HEAD.unpack(exactly(HEAD.size))
    return exactly(length), exactly(size)
