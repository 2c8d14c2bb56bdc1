"""Fans queries out to Ray actors that hold shards, and merges their answers exactly.

ShardFanOut keeps its actors for many batches. One process with threads serves several shards, because separate
processes would each hold what shards share. Later batches are sent while earlier ones are answered.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

import numpy as np
import ray

from react_ray.artifact import Artifact
from react_ray.errors import ReactRayError
from react_ray.index.allowed import Allowed
from react_ray.index.config import SearchParams
from react_ray.index.merge import Hits, merge
from react_ray.index.quantizer import faiss_threads
from react_ray.index.shards import ShardPlace, open_shards, search_shards, shard_places
from react_ray.kinds import AllowedFacts, IndexFacts
from react_ray.recipe import ClusterConfig
from react_ray.selection.class_hits import ClassHits, merge_class_hits, reduce_hits
from react_ray.stages.retrieval.searcher_actors import answers_of, starter, threads_here, width

QUERIES_AT_ONCE = 1024
ANSWER_BYTES = 256 << 20  # of one batch, at 12 bytes a hit
BATCHES_AHEAD = 2  # batches that wait at each server


class ShardServer:
    """Serves its shards from one process with threads."""

    def __init__(
        self,
        places: list[ShardPlace],
        deleted: np.ndarray,
        num_threads: int,
        allowed: Artifact[AllowedFacts] | None = None,
    ) -> None:
        faiss_threads(num_threads)
        self.problem: ReactRayError | None = None
        try:
            self.shards = open_shards(places, deleted, None if allowed is None else Allowed.load(allowed))
        except ReactRayError as error:  # Ray would show a traceback of an actor that cannot be made, not the cause
            self.problem = error

    def search(self, queries_QD: np.ndarray, k: int, params: SearchParams) -> Hits:
        if self.problem:
            raise self.problem
        return search_shards(self.shards, queries_QD, k, params)

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
        places, self._filtered = shard_places(index, key), allowed is not None
        self._here = ShardServer(places, deleted, threads_here(cluster), allowed) if here else None
        self._servers: list[Any] = []
        if here:
            return
        num_servers, num_threads = width(cluster, len(places))
        start, left_out = starter(ShardServer, cluster), ray.put(deleted)
        self._servers = [start(places[i::num_servers], left_out, num_threads, allowed) for i in range(num_servers)]

    def search(self, queries_QD: np.ndarray, k: int, params: SearchParams) -> Hits:
        """queries float [Q, D]; returns Hits [Q, k]."""
        step = _step(k)
        blocks = [queries_QD[i : i + step].astype(np.float16) for i in range(0, len(queries_QD), step)]
        waiting: list[list[Any]] = []
        found: list[Hits] = []
        for block in blocks:
            if self._here:
                found.append(merge([self._here.search(block, k, params)], k))
                continue
            sent = ray.put(block)
            waiting.append([server.search.remote(sent, k, params) for server in self._servers])
            if len(waiting) > BATCHES_AHEAD:
                found.append(merge(answers_of(waiting.pop(0)), k))
        found += [merge(answers_of(one), k) for one in waiting]
        if len(found) == 1:
            return found[0]
        return Hits(np.concatenate([one.scores for one in found]), np.concatenate([one.pair_ids for one in found]))

    def search_classes(self, queries_QD: np.ndarray, class_Q: np.ndarray, most: int, params: SearchParams) -> ClassHits:
        """class_Q: int64 [Q], the class of each query. Returns the `most` best pairs of each class.

        Each server reduces what it found, so that an answer grows with the classes and not with their queries; unless
        what it finds depends on the other servers, as candidates do that are re-ranked (k_factor > 0), and lists that
        are visited until enough allowed pairs are found.
        """
        if params.k_factor or (len(self._servers) > 1 and self._filtered):
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


def _step(k: int) -> int:
    """Returns the number of queries of a batch."""
    return max(1, min(QUERIES_AT_ONCE, ANSWER_BYTES // (12 * k)))
