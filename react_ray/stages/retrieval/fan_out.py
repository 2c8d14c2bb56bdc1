"""Fans batches of queries out to those who share what is searched, and brings their answers together.

Takes the steps of each batch, as index/search_shards.py makes them; gives what each comes to. Later batches are sent
while earlier ones are answered. Both rounds of a batch ask the same actors for the same shares, because rows are places
in a share; if they share anew in between, or one is lost, the batch begins again, and comes to the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Any, Protocol

from react_ray.errors import ShardUnavailable
from react_ray.index.search_shards import Round
from react_ray.stages.retrieval.searcher_pool import SearcherLost
from react_ray.stages.retrieval.shares import Shares

BATCHES_AHEAD = 2  # batches that wait at each actor
LOSSES = 3  # of actors that are counted for one batch

Steps = Generator[Round, list[Any], Any]
Batch = Callable[[int], Steps]  # takes how many are asked


class Pool(Protocol):
    def shares(self, key: str) -> Shares[Any]:
        """Who answers for which shards of a key. The object is the same one as long as they do."""

    def send(self, shares: Shares[Any], key: str, asked: Round) -> list[Any]: ...

    def answers(self, sent: list[Any]) -> list[Any]: ...

    def close(self) -> None: ...


class InProcess:
    """A pool of one, in this process and without Ray."""

    def __init__(self, server: Any, counts: dict[str, int]) -> None:
        """server, counts: as what SearcherPool starts, and what it takes."""
        self._shares = {key: [(server, tuple(range(count)))] for key, count in counts.items()}

    def shares(self, key: str) -> Shares[Any]:
        return self._shares[key]

    def send(self, shares: Shares[Any], key: str, asked: Round) -> list[Any]:
        ((server, share),), (args,) = shares, asked.each
        return [server.answer(key, share, asked.method, asked.queries_QD, args)]

    def answers(self, sent: list[Any]) -> list[Any]:
        return sent

    def close(self) -> None:
        """Nothing has to end."""


def answered(pool: Pool, key: str, batches: Iterable[Batch]) -> list[Any]:
    """Returns what each batch comes to, in order. Its next round is sent behind those that are waiting, so that the
    actors work while a batch is between its rounds.

    ShardUnavailable if a batch loses actors again and again.
    """
    found: dict[int, Any] = {}
    waiting: deque[tuple[int, _Asking]] = deque()

    def go_on() -> None:
        number, asking = waiting.popleft()
        if asking.go_on():
            found[number] = asking.found
        else:
            waiting.append((number, asking))

    for number, batch in enumerate(batches):
        waiting.append((number, _Asking(pool, key, batch)))
        while len(waiting) > BATCHES_AHEAD:
            go_on()
    while waiting:
        go_on()
    return [found[number] for number in sorted(found)]


class _Asking:
    """A batch whose answers are awaited."""

    def __init__(self, pool: Pool, key: str, batch: Batch) -> None:
        self._pool, self._key, self._batch = pool, key, batch
        self._losses, self._sent = 0, list[Any]()
        self.found: Any = None
        self._begin()

    def go_on(self) -> bool:
        """Waits for the answers and asks on. True when there is nothing more to ask."""
        try:
            answers = self._pool.answers(self._sent)
        except SearcherLost as lost:
            self._losses += lost.is_news  # a loss is counted for the oldest batch in flight, which may be what kills
            if self._losses > LOSSES:
                raise ShardUnavailable(
                    f"a shard did not answer, because its searchers died {self._losses} times ({lost}); run "
                    "the same command again"
                ) from lost
            self._begin()
            return False
        try:
            asked = self._steps.send(answers)
        except StopIteration as end:
            self.found = end.value
            return True
        if self._pool.shares(self._key) is self._shares:
            self._sent = self._pool.send(self._shares, self._key, asked)
        else:
            self._begin()
        return False

    def _begin(self) -> None:
        self._shares = self._pool.shares(self._key)
        self._steps = self._batch(len(self._shares))
        self._sent = self._pool.send(self._shares, self._key, next(self._steps))
