"""Serves a misbehaving web on loopback, over http and https, from its own process with its own certificate authority.

`with web_server() as web: web.http + "/image/1.jpg"`. web_pages.py says what each path does. The server listens on
127.0.0.1 to 127.0.0.NUM_HOSTS with the same two ports, so that tests have several hosts; its certificate is valid for
all of them except WRONG_NAME.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from tests.support.certificates import make_certificates
from tests.support.ports import closed_port
from tests.support.web_images import prepare
from tests.support.web_pages import Pages

NUM_HOSTS = 8
HOSTS = [f"127.0.0.{n}" for n in range(1, NUM_HOSTS + 1)]
WRONG_NAME = HOSTS[-1]
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Web:
    http: str  # http://127.0.0.1:PORT
    https: str
    ca_file: str
    closed_port: int  # no server listens here

    @property
    def wrong_name(self) -> str:
        """Returns an https host whose certificate is not valid for its name."""
        return self.https.replace(HOSTS[0], WRONG_NAME)

    def host(self, n: int) -> str:
        """Returns the n-th host, over http."""
        return self.http.replace(HOSTS[0], HOSTS[n])

    def num_requests(self, path: str) -> int:
        """Counts the requests of a path, whatever their query, to all hosts since the start."""
        return int(self._ask("/_facts")["requests"].get(path, 0))

    def most_at_once(self, host: str) -> int:
        """Returns the largest number of requests of one host that were served at the same time."""
        return int(self._ask("/_facts")["most_at_once"].get(host, 0))

    def num_connections(self) -> int:
        return int(self._ask("/_facts")["connections"]) - 1  # without the connection of this question

    def set_robots(self, host: str, text: str, code: int = 200) -> None:
        """Sets the robots.txt of one host, which is a 404 before."""
        self._ask("/_robots?" + urlencode({"host": host, "text": text, "code": code}))

    def _ask(self, path: str) -> dict:
        with urllib.request.urlopen(self.http + path, timeout=120) as answer:
            return json.loads(answer.read())


@contextmanager
def web_server() -> Iterator[Web]:
    with tempfile.TemporaryDirectory() as folder, closed_port() as closed:
        ca_file = make_certificates(Path(folder), [host for host in HOSTS if host != WRONG_NAME])
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.support.web", folder], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            if not line:
                raise RuntimeError(f"the web server ended with exit code {server.wait()}")
            ports = json.loads(line)
            yield Web(f"http://{HOSTS[0]}:{ports['http']}", f"https://{HOSTS[0]}:{ports['https']}", ca_file, closed)
        finally:
            server.terminate()
            server.wait()
            if server.stdout is not None:
                server.stdout.close()


def _listeners() -> list[socket.socket]:
    """One socket for each host, all with the same port, which is free for the first and may be taken for another."""
    while True:
        sockets = [socket.create_server((HOSTS[0], 0))]
        try:
            for host in HOSTS[1:]:
                sockets.append(socket.create_server((host, sockets[0].getsockname()[1])))
            return sockets
        except OSError:
            for one in sockets:
                one.close()


async def _serve(folder: str) -> None:
    prepare()
    pages = Pages()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{folder}/server.pem")
    ports = {}
    for scheme in ("http", "https"):
        sockets = _listeners()
        ports[scheme] = sockets[0].getsockname()[1]
        for one in sockets:
            await asyncio.start_server(
                pages.answer, sock=one, ssl=context if scheme == "https" else None, backlog=1024, limit=1 << 20
            )
    print(json.dumps(ports), flush=True)
    await asyncio.Event().wait()  # until terminated


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
