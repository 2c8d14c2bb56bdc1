"""A proxy before an S3 server that breaks off the bodies of answers."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class Faults:
    """How many of the next answers to GET break off; a body of fewer bytes than `at_least` comes whole."""

    def __init__(self) -> None:
        self.left = 0
        self.broken = 0  # so far
        self.at_least = 1000
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        with self._lock:
            if self.left == 0 or size < self.at_least:
                return False
            self.left -= 1
            self.broken += 1
            return True


@contextmanager
def s3_proxy(endpoint: str) -> Iterator[tuple[str, Faults]]:
    """Yields the proxy's endpoint, and what breaks."""
    target = urlsplit(endpoint)
    faults = Faults()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            server = http.client.HTTPConnection(target.hostname or "", target.port)
            server.request(self.command, self.path, body, dict(self.headers))
            answer = server.getresponse()
            data = answer.read()
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                    self.send_header(name, value)
            size = answer.headers["Content-Length"] if self.command == "HEAD" else len(data)
            self.send_header("Content-Length", str(size))
            self.end_headers()
            server.close()
            if self.command == "GET" and faults.take(len(data)):
                self.wfile.write(data[: len(data) // 2])
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            self.wfile.write(b"" if self.command == "HEAD" else data)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _forward

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", faults
    finally:
        server.shutdown()
        server.server_close()
