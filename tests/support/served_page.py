"""Serves a database over HTTP on a port of loopback, in a thread of this process, for a browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import uvicorn

from react_ray.recipe import Recipe
from react_ray.serving.app import make_app
from react_ray.serving.service import Service


@contextmanager
def listening(recipe: Recipe, key: str = "") -> Iterator[str]:
    """The address of the server, which answers until the end. key: that requests must show."""
    server = uvicorn.Server(uvicorn.Config(make_app(Service(recipe), key), port=0, log_level="warning"))
    socket = server.config.bind_socket()
    socket.listen()  # a browser that comes before the database is open waits
    thread = Thread(target=server.run, args=([socket],), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{socket.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
