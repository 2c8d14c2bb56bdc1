"""Fans queries out to Ray actors that hold shards, and merges their answers exactly.

ShardFanOut keeps its actors for many batches. One process with threads serves several shards, because separate
processes would each hold what shards share. Later batches are sent while earlier ones are answered.
"""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Any

import numpy as np
import ray

from react_ray.artifact import Artifact
from react_ray.errors import ReactRayError
from react_ray.index.allowed import Allowed
from react_ray.index.config import IVF_RABITQ, SearchParams
from react_ray.index.merge import Hits, no_hits
from react_ray.index.quantizer import faiss_threads
from react_ray.index.search_shards import Round, Searching, answer, num_candidates, search_shards, searching
from react_ray.index.shard_cache import ShardCache
from react_ray.index.shards import ShardPlace, open_shards, shard_places
from react_ray.kinds import AllowedFacts, IndexFacts
from react_ray.recipe import ClusterConfig
from react_ray.selection.class_hits import ClassHits, merge_class_hits, reduce_hits
from react_ray.stages.retrieval.searcher_actors import answers_of, starter, threads_here, width

QUERIES_AT_ONCE = 1024
ANSWER_BYTES = 256 << 20  # of one batch, at 20 bytes a candidate
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

    def search(self, queries_QD: np.ndarray, k: int, params: SearchParams) -> Hits:
        """Returns the hits among its own shards."""
        if self.problem:
            raise self.problem
        return search_shards(self.shards, queries_QD, k, params)

    def answer(self, method: str, queries_QD: np.ndarray, *args: Any) -> Any:
        """Answers a search_shards.Round over its shards."""
        if self.problem:
            raise self.problem
        return answer(self.shards, method, queries_QD, *args)

    def search_classes(
        self, queries_QD: np.ndarray, query_Q: np.ndarray, class_Q: np.ndarray, most: int, params: SearchParams
    ) -> ClassHits:
        return reduce_hits(self.search(queries_QD, most, params), query_Q, class_Q, most)


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
        if here:
            return
        num_servers, num_threads = width(cluster, len(places))
        start = starter(ShardServer, cluster)
        self._left_out = ray.put(deleted)  # kept: an actor that is restarted asks for it again
        self._servers = [
            start(places[i::num_servers], self._left_out, num_threads, allowed, cache) for i in range(num_servers)
        ]

    def search(self, queries_QD: np.ndarray, k: int, params: SearchParams) -> Hits:
        """queries float [Q, D]; returns Hits [Q, k]."""
        step = _step(num_candidates(k, params))
        blocks = [queries_QD[i : i + step].astype(np.float16) for i in range(0, len(queries_QD), step)]
        num_searchers = 1 if self._here else len(self._servers)
        found: list[Hits] = [no_hits(0, k)] * len(blocks)
        waiting: deque[tuple[int, Searching, Any]] = deque()

        def advance(number: int, steps: Searching, answered: list[Any] | None) -> None:
            """Sends the next round of a batch behind those that are waiting, or keeps its hits."""
            try:
                asked = next(steps) if answered is None else steps.send(answered)
            except StopIteration as end:
                found[number] = end.value
            else:
                waiting.append((number, steps, self._send(asked)))

        for number, block in enumerate(blocks):
            advance(number, searching(num_searchers, block, k, params, self._num_lists, self._two_stages), None)
            while len(waiting) > BATCHES_AHEAD:
                number, steps, sent = waiting.popleft()
                advance(number, steps, self._received(sent))
        while waiting:
            number, steps, sent = waiting.popleft()
            advance(number, steps, self._received(sent))
        if len(found) == 1:
            return found[0]
        return Hits(np.concatenate([one.scores for one in found]), np.concatenate([one.pair_ids for one in found]))

    def _send(self, asked: Round) -> list[Any]:
        if self._here:
            return [self._here.answer(asked.method, asked.queries_QD, *each) for each in asked.each]
        queries = ray.put(asked.queries_QD)
        return [
            server.answer.remote(asked.method, queries, *each)
            for server, each in zip(self._servers, asked.each, strict=True)
        ]

    def _received(self, sent: list[Any]) -> list[Any]:
        return sent if self._here else answers_of(sent)

    def search_classes(self, queries_QD: np.ndarray, class_Q: np.ndarray, most: int, params: SearchParams) -> ClassHits:
        """class_Q: int64 [Q], the class of each query. Returns the `most` best pairs of each class.

        Each server reduces what it found, so that an answer grows with the classes and not with their queries; unless
        what it finds depends on the other servers, as candidates do that are re-ranked (k_factor > 0), and lists that
        are visited until enough allowed pairs are found.
        """
        if params.k_factor or (len(self._servers) > 1 and self._num_lists):
            return reduce_hits(self.search(queries_QD, most, params), np.arange(len(queries_QD)), class_Q, most)
        waiting: list[list[Any]] = []
        found: list[ClassHits] = []
        for query_Q in np.split(np.arange(len(queries_QD)), range(step := _step(most), len(queries_QD), step)):
            block = queries_QD[query_Q].astype(np.float16)
            asked = query_Q, class_Q[query_Q], most, params
            if self._here:
                found.append(self._here.search_classes(block, *asked))
                continue
            sent = ray.put(block)
            waiting.append([server.search_classes.remote(sent, *asked) for server in self._servers])
            if len(waiting) > BATCHES_AHEAD:
                found += answers_of(waiting.pop(0))
        return merge_class_hits(found + [one for some in waiting for one in answers_of(some)], most)

    def __enter__(self) -> ShardFanOut:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers:
            ray.kill(server)


def _step(count: int) -> int:
    """Returns the number of queries of a batch."""
    return max(1, min(QUERIES_AT_ONCE, ANSWER_BYTES // (20 * count)))
