"""SearcherPool: the actors of a search. They share what is searched, and share it anew when one comes or is lost.

Takes the number of shards of each key, or of parts that are scanned; gives who answers for which of them. An actor
opens its share as one index, because shards that are searched one by one take three times the CPU-seconds
(index/join_lists.py). So there are no groups of shards that move whole, nor does a pool of Ray's fit, which asks
whichever actor is free.

More actors start while batches wait, and those without a node make Ray's autoscaler bring one. A newcomer opens its
share while the others still answer for it. What a lost one had, the others share at once, if they are not too few.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import RLock
from typing import Any

import ray

from react_ray.errors import ShardUnavailable
from react_ray.index.search_shards import Round
from react_ray.progress import say
from react_ray.row_guard import one_line
from react_ray.runtime.cluster import answers
from react_ray.stages.retrieval.searcher_actors import Width
from react_ray.stages.retrieval.shares import Shares, spread

DEATHS = 20  # of each actor during a whole retrieval; nodes may be lost in hours of it
PATIENCE_S = 60.0
LOST = (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError)


class SearcherLost(Exception):
    """An actor that was asked is gone, and the others share what it had."""

    def __init__(self, cause: str, is_news: bool) -> None:
        """is_news: False if another question was lost with the same actor before."""
        super().__init__(cause)
        self.is_news = is_news


class SearcherPool:
    """Several threads may ask."""

    def __init__(self, start: Callable[[], Any], counts: Mapping[str, int], width: Width) -> None:
        """start: starts an actor with `prepare(shares by key)` and `answer(key, share, method, queries, args)`.
        counts: how many shards each key has."""
        self._start, self._counts, self._width = start, counts, width
        self._lock = RLock()
        self._starting: dict[Any, Any] = {}  # an actor by the reference that is ready when it lives
        self._alive: list[Any] = []
        self._shares: dict[str, Shares[Any]] = {}
        self._sharing: list[Any] = []  # those who answer now; empty from a loss until the others share anew
        self._coming: tuple[list[Any], dict[str, Shares[Any]]] | None = None  # those who answer next, and for what
        self._opening: dict[Any, Any] = {}  # a newcomer among them by the reference that is ready when it can answer
        self._wanted, self._starts_left = width.fewest, width.most * (1 + DEATHS)
        self._asked, self._in_flight = set[str](), 0
        self._cause = ""
        self._refill()

    def shares(self, key: str) -> Shares[Any]:
        """Waits while too few actors live. The object that it returns is the same one until they share anew.

        ShardUnavailable if they have died too often.
        """
        with self._lock:
            self._asked.add(key)
            self._look(0)
            while not self._sharing:
                if not self._starting:
                    raise ShardUnavailable(
                        f"a shard did not answer, because searchers died too often ({self._cause}); run the same "
                        "command again"
                    )
                if not self._look(PATIENCE_S):
                    say(
                        f"waiting for {self._width.fewest - len(self._alive)} of {self._width.fewest} searchers: no "
                        "node has a CPU for them; if none is coming, add one or lower cluster.min_searchers"
                    )
            return self._shares[key]

    def send(self, shares: Shares[Any], key: str, asked: Round) -> list[Any]:
        """Asks everybody, and returns what `answers` waits for."""
        with self._lock:
            if self._in_flight:
                self.grow()
            self._in_flight += 1
        queries_QD = ray.put(asked.queries_QD)
        return [
            (actor, actor.answer.remote(key, mine, asked.method, queries_QD, each))
            for (actor, mine), each in zip(shares, asked.each, strict=True)
        ]

    def answers(self, sent: list[Any]) -> list[Any]:
        """The answers of all, while newcomers come and open their shares. SearcherLost if one of them is gone."""
        try:
            self._wait([reference for _, reference in sent])
            return [self._answer(*one) for one in sent]
        finally:
            with self._lock:
                self._in_flight -= 1

    def grow(self) -> None:
        """Starts as many actors as there may be."""
        with self._lock:
            self._wanted = self._width.most
            self._refill()

    def close(self) -> None:
        """Ends all actors. A thread that waits for one learns that it is gone, and that no other starts."""
        self._starts_left = 0
        for actor in [*self._starting.values(), *self._alive]:
            ray.kill(actor)

    def _wait(self, references: list[Any]) -> None:
        while references:
            with self._lock:
                coming = [*self._starting, *self._opening]
            (done,), _ = ray.wait([*references, *coming], num_returns=1)
            if done in references:
                references.remove(done)
            else:
                with self._lock:
                    self._look(0)

    def _answer(self, actor: Any, reference: Any) -> Any:
        try:
            return answers([reference])[0]
        except LOST as error:
            with self._lock:
                is_news = actor in self._alive
                self._lose(actor, error)
                raise SearcherLost(self._cause, is_news) from error

    def _refill(self) -> None:
        while len(self._starting) + len(self._alive) < self._wanted and self._starts_left > 0:
            self._starts_left -= 1
            actor = self._start()
            self._starting[actor.__ray_ready__.remote()] = actor

    def _lose(self, actor: Any, error: Exception) -> None:
        self._cause = one_line(error, 500)
        ray.kill(actor)
        if actor in self._alive:
            self._alive.remove(actor)
            self._coming = None
        if actor in self._sharing:
            self._sharing = []
        self._refill()

    def _look(self, timeout_s: float) -> bool:
        """Takes in what has happened, waiting so long for it. False if nothing has."""
        coming = {**self._starting, **self._opening}
        done = (
            ray.wait(list(coming), num_returns=1 if timeout_s else len(coming), timeout=timeout_s)[0] if coming else []
        )
        for reference in done:
            is_new = self._starting.pop(reference, None) is not None
            self._opening.pop(reference, None)
            try:
                answers([reference])
            except LOST as error:
                self._lose(coming[reference], error)
            else:
                self._alive += [coming[reference]] if is_new else []
        if self._coming and not self._opening:
            (self._sharing, self._shares), self._coming = self._coming, None
        self._share()
        return bool(done)

    def _share(self) -> None:
        """Lets those who live share anew: at once if nobody answers, otherwise when newcomers have opened theirs."""
        newcomers = [actor for actor in self._alive if actor not in self._sharing]
        if self._coming or not newcomers or len(self._alive) < self._width.fewest:
            return
        alive = list(self._alive)
        shares = spread(self._counts, alive, self._shares)
        if not self._sharing:
            self._sharing, self._shares = alive, shares
            return
        self._coming = alive, shares
        for actor in newcomers:
            mine = {key: own for key in self._asked for other, own in shares[key] if other == actor}
            self._opening[actor.prepare.remote(mine)] = actor
