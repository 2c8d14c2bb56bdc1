"""Fans queries out to Ray actors that hold shards, and merges their answers exactly.

ShardFanOut keeps its actors for many batches. One process with threads serves several shards, because separate
processes would each hold what shards share. Later batches are sent while earlier ones are answered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from types import TracebackType
from typing import Any

import numpy as np
import ray

from react_ray.artifact import Artifact
from react_ray.errors import ReactRayError
from react_ray.index.allowed import Allowed
from react_ray.index.class_hits import Classes, ClassHits, class_blocks, merge_class_hits, reduce_hits
from react_ray.index.config import IVF_RABITQ, SearchParams
from react_ray.index.merge import Hits
from react_ray.index.quantizer import faiss_threads
from react_ray.index.search_shards import Round, answer, num_candidates, searching, visit
from react_ray.index.shard_cache import ShardCache
from react_ray.index.shards import ShardPlace, open_shards, shard_places
from react_ray.kinds import AllowedFacts, IndexFacts
from react_ray.recipe import ClusterConfig
from react_ray.stages.retrieval.searcher_actors import answers_of, await_ready, starter, threads_here, width

QUERIES_AT_ONCE = 1024
ANSWER_BYTES = 256 << 20  # of one batch, at 20 bytes a candidate
PAIR_BYTES, QUERY_BYTES = 28, 1 << 16  # of a pair of a class, and of a query: no more than 4,096 in a batch
BATCHES_AHEAD = 2  # batches that wait at each server


class ShardServer:
    """Serves its shards from one process with threads."""

    def __init__(
        self,
        places: list[ShardPlace],
        deleted: np.ndarray,
        num_threads: int,
        allowed: Artifact[AllowedFacts] | None = None,
        cache: ShardCache | None = None,
    ) -> None:
        self.cache = cache  # its locks keep other processes from deleting what is open here
        faiss_threads(num_threads)
        self.problem: ReactRayError | None = None
        try:
            passing = None if allowed is None else Allowed.load(allowed)
            self.shards = open_shards(places, deleted, passing, cache)
        except ReactRayError as error:  # Ray would show a traceback of an actor that cannot be made, not the cause
            self.problem = error

    def answer(self, method: str, queries_QD: np.ndarray, args: tuple[Any, ...]) -> Any:
        """Answers a search_shards.Round over its shards."""
        if self.problem:
            raise self.problem
        return answer(self.shards, method, queries_QD, *args)


class ShardFanOut:
    """`with ShardFanOut(index, "image", cluster, deleted) as shards: shards.search(queries, k, params)`."""

    def __init__(
        self,
        index: Artifact[IndexFacts],
        key: str,
        cluster: ClusterConfig,
        deleted: np.ndarray,
        allowed: Artifact[AllowedFacts] | None = None,
        here: bool = False,
    ) -> None:
        """deleted: pair_ids that no search returns. allowed: the only pairs that may be found; None = all.

        here: this process opens the shards itself, without Ray.
        """
        places = shard_places(index, key)
        cache = ShardCache(cluster.shard_cache_dir, int(cluster.shard_cache_gb * 2**30))
        self._here = ShardServer(places, deleted, threads_here(cluster), allowed, cache) if here else None
        self._two_stages = index.facts.kind == IVF_RABITQ
        self._num_lists = 0 if allowed is None else index.facts.num_lists
        self._servers: list[Any] = []
        self._unready: list[Any] = []
        self._num_servers = 1
        if here:
            return
        self._num_servers, num_threads = width(cluster, len(places))
        start = starter(ShardServer, cluster)
        self._left_out = ray.put(deleted)  # kept: an actor that is restarted asks for it again
        self._servers = [
            start(places[i :: self._num_servers], self._left_out, num_threads, allowed, cache)
            for i in range(self._num_servers)
        ]
        self._unready = list(self._servers)

    def search(self, queries_QD: np.ndarray, k: int, params: SearchParams) -> Hits:
        """queries float [Q, D]; returns Hits [Q, k]."""
        found: list[Hits] = self._answered(
            searching(self._num_servers, queries_QD[rows], k, params, self._num_lists, self._two_stages)
            for rows in _batches(len(queries_QD), num_candidates(k, params))
        )
        if len(found) == 1:
            return found[0]
        return Hits(np.concatenate([one.scores for one in found]), np.concatenate([one.pair_ids for one in found]))

    def search_classes(self, queries_QD: np.ndarray, class_Q: np.ndarray, most: int, params: SearchParams) -> ClassHits:
        """class_Q: int64 [Q], the class of each query, ascending. Returns the `most` best pairs of each class.

        Each server reduces what it found, so that an answer grows with the classes and not with their queries; unless
        lists are visited until enough allowed pairs are found, which only all hits tell.
        """
        classes = Classes(np.arange(len(queries_QD)), class_Q)
        if self._two_stages and not params.k_factor and not self._num_lists:  # ListIndex.search_classes
            batches = iter(class_blocks(class_Q, QUERY_BYTES, ANSWER_BYTES, PAIR_BYTES * most))
        else:
            batches = _batches(len(queries_QD), num_candidates(most, params))
        found = self._answered(self._steps(queries_QD[rows], classes.take(rows), most, params) for rows in batches)
        return merge_class_hits([one for answered in found for one in answered], most)

    def _steps(
        self, queries_QD: np.ndarray, classes: Classes, most: int, params: SearchParams
    ) -> Generator[Round, list[Any], list[ClassHits]]:
        if not self._num_lists:
            return (yield from visit(self._num_servers, queries_QD, most, params, self._two_stages, classes))
        hits = yield from searching(self._num_servers, queries_QD, most, params, self._num_lists, self._two_stages)
        return [reduce_hits(hits, classes, most)]

    def _answered(self, batches: Iterable[Generator[Round, list[Any], Any]]) -> list[Any]:
        """Returns what each batch comes to, in order. Its next round is sent behind those that are waiting, so that
        the servers work while a batch is between its rounds."""
        await_ready(self._unready)
        found: dict[int, Any] = {}
        waiting: deque[tuple[int, Generator[Round, list[Any], Any], Any]] = deque()

        def go_on() -> None:
            number, steps, sent = waiting.popleft()
            ask(number, steps, sent if self._here else answers_of(sent))

        def ask(number: int, steps: Generator[Round, list[Any], Any], answered: list[Any] | None) -> None:
            try:
                asked = next(steps) if answered is None else steps.send(answered)
            except StopIteration as end:
                found[number] = end.value
            else:
                waiting.append((number, steps, self._send(asked)))

        for number, steps in enumerate(batches):
            ask(number, steps, None)
            while len(waiting) > BATCHES_AHEAD:
                go_on()
        while waiting:
            go_on()
        return [found[number] for number in sorted(found)]

    def _send(self, asked: Round) -> list[Any]:
        queries_QD = asked.queries_QD.astype(np.float16)
        if self._here:
            return [self._here.answer(asked.method, queries_QD, each) for each in asked.each]
        sent = ray.put(queries_QD)
        return [
            server.answer.remote(asked.method, sent, each)
            for server, each in zip(self._servers, asked.each, strict=True)
        ]

    def __enter__(self) -> ShardFanOut:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers:
            ray.kill(server)


def _batches(num_queries: int, count: int) -> Iterator[np.ndarray]:
    """Yields the queries of each batch, int64; count: candidates of each."""
    step = max(1, min(QUERIES_AT_ONCE, ANSWER_BYTES // (20 * count)))
    yield from np.split(np.arange(num_queries), range(step, num_queries, step))
