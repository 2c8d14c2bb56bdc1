"""Servers of questions in this process, for as long as a test asks them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any

from react_ray.cancellation import Cancelled, stop_if_cancelled
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


class Endless:
    """Answers nobody, as long as somebody waits for it."""

    def __init__(self) -> None:
        self.began, self.ended = Event(), Event()

    def __call__(self, question: Any) -> None:
        self.began.set()
        try:
            while True:
                stop_if_cancelled()
        except Cancelled:
            self.ended.set()
            raise
