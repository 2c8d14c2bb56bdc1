"""front: an ASGI application listens in a thread of this process."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import uvicorn
from fastapi import FastAPI

from react_ray.errors import ClusterError

ENDING_S = 1  # for requests that are being answered: Serve ends after them, within GRACE_S of interrupt.py
LOOK_S = 0.02


def listen(host: str, port: int) -> socket.socket:
    """port: 0 = one that is free. ClusterError if nothing can listen there."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ClusterError(f"nothing can listen at {host}:{port} ({error}); set serve.port to another") from error


@contextmanager
def front(app: FastAPI, listening: socket.socket) -> Iterator[int]:
    """Yields the port, when the application has started, and closes what it listens at. What keeps the application from
    starting is raised as it is."""
    config = uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=ENDING_S)
    server, failed = uvicorn.Server(config), list[BaseException]()

    async def serve() -> None:
        async with app.router.lifespan_context(app):
            await server.serve(sockets=[listening])

    def run() -> None:
        try:
            with closing((config.get_loop_factory() or asyncio.new_event_loop)()) as loop:
                loop.run_until_complete(serve())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="front", daemon=True)
    with listening:
        thread.start()
        try:
            while not server.started:
                thread.join(LOOK_S)
                if failed:
                    raise failed[0]
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()
