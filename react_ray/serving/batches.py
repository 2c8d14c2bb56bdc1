"""Batches: what concurrent requests ask for within a moment is done together, in a thread."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

A = TypeVar("A")
B = TypeVar("B")
WINDOW_S, FEW = 0.0015, 8


class Batches(Generic[A, B]):
    def __init__(
        self, work: Callable[[list[A]], Sequence[B]], threads: Executor, most: int, calls_at_once: int = 1
    ) -> None:
        """work: answers a list of questions; most: questions of one call, above which the rest waits for the next.
        threads: of as many as there are calls at once."""
        self._work, self._threads, self._most, self._calls_at_once = work, threads, most, calls_at_once
        # Calls take turns with the questions of those who ask little and of those who ask much: neither wait for all of
        # the others.
        self._few: list[tuple[A, asyncio.Future[B]]] = []
        self._many: list[tuple[A, asyncio.Future[B]]] = []
        self._last_was_few = False
        self._tasks: list[asyncio.Task[None]] = []

    async def ask(self, questions: Sequence[A]) -> list[B]:
        """Returns the answers in the order of the questions. What `work` raises is raised for all of its call."""
        loop = asyncio.get_running_loop()
        mine: list[asyncio.Future[B]] = [loop.create_future() for _ in questions]
        waiting = self._few if len(questions) <= FEW else self._many
        waiting += zip(questions, mine, strict=True)
        self._tasks = [task for task in self._tasks if not task.done()]
        more = min(math.ceil((len(self._few) + len(self._many)) / self._most), self._calls_at_once - len(self._tasks))
        self._tasks += [loop.create_task(self._run()) for _ in range(more)]
        return list(await asyncio.gather(*mine))

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(WINDOW_S)
        while self._few or self._many:
            waiting = self._few if self._few and not (self._many and self._last_was_few) else self._many
            self._last_was_few = waiting is self._few
            now = [(question, future) for question, future in waiting[: self._most] if not future.done()]
            del waiting[: self._most]
            if not now:  # all who asked have gone away
                continue
            try:
                answers = await loop.run_in_executor(self._threads, self._work, [question for question, _ in now])
            except Exception as error:
                for _, future in now:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), answer in zip(now, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
