"""Cancellation: work in a thread ends at its next stop, once the task that waits for it is cancelled.

A thread cannot be interrupted. What takes long there calls `stop_if_cancelled` between two pieces of work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import ContextVar, copy_context
from threading import Event
from typing import Any, TypeVar

T = TypeVar("T")
_cancelled: ContextVar[Event | None] = ContextVar("cancelled", default=None)


class Cancelled(Exception):
    """Nobody waits for this work any more."""


async def in_thread(threads: Executor, work: Callable[..., T], *arguments: Any) -> T:
    """Returns what `work` returns."""
    cancelled, context = Event(), copy_context()
    context.run(_cancelled.set, cancelled)
    try:
        return await asyncio.get_running_loop().run_in_executor(threads, context.run, work, *arguments)
    except asyncio.CancelledError:
        cancelled.set()
        raise


def stop_if_cancelled() -> None:
    """Raises Cancelled in a thread of `in_thread` whose task was cancelled; elsewhere, it does nothing."""
    cancelled = _cancelled.get()
    if cancelled is not None and cancelled.is_set():
        raise Cancelled
