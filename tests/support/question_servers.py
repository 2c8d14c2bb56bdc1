"""Servers of questions in this process, for as long as a test asks them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from react_ray.serving.question_server import QuestionServer

HOST = "127.0.0.1"


@contextmanager
def serving(**methods: Callable[[Any], Any]) -> Iterator[QuestionServer]:
    server = QuestionServer(HOST, methods)
    try:
        yield server
    finally:
        server.close()


def same(value: Any) -> Any:
    return value
