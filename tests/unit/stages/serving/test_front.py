"""An application listens in a thread until the block ends, and what keeps it from listening is one line."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.client import HTTPConnection

import pytest
from fastapi import FastAPI

from react_ray.errors import ClusterError
from react_ray.stages.serving.front import front, listen


def test_it_answers_within_the_block_and_not_behind_it() -> None:
    app = FastAPI()

    @app.get("/")
    async def root() -> str:
        return "here"

    with front(app, listen("127.0.0.1", 0)) as port:
        connection = HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/")
        assert connection.getresponse().read() == b'"here"'
        connection.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ClusterError, match=rf"listen at 127\.0\.0\.1:{port} .*; set serve\.port to another"):
            listen("127.0.0.1", port)


def test_what_keeps_an_application_from_starting_is_raised_here() -> None:
    @asynccontextmanager
    async def broken(app: FastAPI) -> AsyncIterator[None]:
        raise OSError("no database")
        yield

    with pytest.raises(OSError, match="no database"), front(FastAPI(lifespan=broken), listen("127.0.0.1", 0)):
        pass
