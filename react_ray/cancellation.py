"""Cancellation: work in a thread ends at its next stop, once the task that waits for it is cancelled.

A thread cannot be interrupted. What takes long there calls `stop_if_cancelled` between two pieces of work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from threading import Event
from typing import Any, TypeVar

T = TypeVar("T")
_is_cancelled: ContextVar[Callable[[], bool]] = ContextVar("is_cancelled", default=lambda: False)


class Cancelled(Exception):
    """Nobody waits for this work any more."""


async def in_thread(threads: Executor, work: Callable[..., T], *arguments: Any) -> T:
    """Returns what `work` returns."""
    cancelled, context = Event(), copy_context()
    context.run(_is_cancelled.set, cancelled.is_set)
    try:
        return await asyncio.get_running_loop().run_in_executor(threads, context.run, work, *arguments)
    except asyncio.CancelledError:
        cancelled.set()
        raise


@contextmanager
def unless(is_cancelled: Callable[[], bool]) -> Iterator[None]:
    """The work of the block ends at its next stop, once this says that nobody waits for it."""
    before = _is_cancelled.set(is_cancelled)
    try:
        yield
    finally:
        _is_cancelled.reset(before)


def stop_if_cancelled() -> None:
    """Raises Cancelled in a thread of `in_thread` whose task was cancelled, or in a block of `unless`; elsewhere, it
    does nothing."""
    if _is_cancelled.get()():
        raise Cancelled
