"""Searches the shards of an index by actors that share them, or in this process.

ShardFanOut keeps its actors for many batches of all keys. One process with threads serves several shards, because
separate processes would each hold what shards share.

Next: fan_out.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from types import TracebackType
from typing import Any

import numpy as np
import ray

from react_ray.artifact import Artifact
from react_ray.index.allowed import Allowed
from react_ray.index.class_hits import Classes, ClassHits, class_blocks, merge_class_hits
from react_ray.index.config import IVF_RABITQ, SearchParams
from react_ray.index.merge import Hits
from react_ray.index.quantizer import faiss_threads
from react_ray.index.search_shards import Shards, answer, num_candidates, searching
from react_ray.index.shard_cache import ShardCache
from react_ray.index.shards import ShardPlace, open_shards, shard_places
from react_ray.kinds import AllowedFacts, IndexFacts
from react_ray.recipe import ClusterConfig
from react_ray.stages.retrieval.fan_out import Batch, InProcess, Pool, Steps, answered
from react_ray.stages.retrieval.searcher_actors import starter, threads_here, width
from react_ray.stages.retrieval.searcher_pool import SearcherPool
from react_ray.stages.retrieval.shares import Share

QUERIES_AT_ONCE = 1024
ANSWER_BYTES = 256 << 20  # of one batch, at 20 bytes a candidate
PAIR_BYTES, QUERY_BYTES = 28, 1 << 15  # of a pair of a class, and of a query: no more than 8,192 in a batch


class ShardServer:
    """Answers for its share of the shards of each key, from one process with threads. It opens a share when it is
    asked for it, in place of the one before."""

    def __init__(
        self,
        places: dict[str, list[ShardPlace]],
        deleted: np.ndarray,
        num_threads: int,
        allowed: Artifact[AllowedFacts] | None,
        cluster: ClusterConfig,
    ) -> None:
        self._places, self._deleted, self._num_threads, self._allowed = places, deleted, num_threads, allowed
        room = cluster.shard_cache_dir, int(cluster.shard_cache_gb * 2**30)
        self._caches = {key: ShardCache(*room) for key in places}  # locked: nobody deletes what is open here
        self._opened: dict[str, tuple[Share, Shards]] = {}

    def prepare(self, shares: dict[str, Share]) -> None:
        for key, share in shares.items():
            self._open(key, share)

    def answer(self, key: str, share: Share, method: str, queries_QD: np.ndarray, args: tuple[Any, ...]) -> Any:
        """Answers a search_shards.Round over these shards."""
        faiss_threads(self._num_threads)  # of the thread that answers
        return answer(self._open(key, share), method, queries_QD, *args)

    def _open(self, key: str, share: Share) -> Shards:
        if key not in self._opened or self._opened[key][0] != share:
            self._opened.pop(key, None)
            self._caches[key].close()
            places = [self._places[key][number] for number in share]
            self._opened[key] = share, open_shards(places, self._deleted, self._passing, self._caches[key])
        return self._opened[key][1]

    @cached_property
    def _passing(self) -> Allowed | None:
        return None if self._allowed is None else Allowed.load(self._allowed)


class ShardFanOut:
    """`with ShardFanOut(index, ["image"], cluster, deleted) as shards: shards.search("image", queries, k, params)`."""

    def __init__(
        self,
        index: Artifact[IndexFacts],
        keys: Sequence[str],
        cluster: ClusterConfig,
        deleted: np.ndarray,
        allowed: Artifact[AllowedFacts] | None = None,
        here: bool = False,
    ) -> None:
        """deleted: pair_ids that no search returns. allowed: the only pairs that may be found; None = all.

        here: this process opens the shards itself, without Ray.
        """
        places = {key: shard_places(index, key) for key in keys}
        counts = {key: len(of_key) for key, of_key in places.items()}
        self._two_stages = index.facts.kind == IVF_RABITQ
        self._num_lists = 0 if allowed is None else index.facts.num_lists
        self._pool: Pool
        if here:
            server = ShardServer(places, deleted, threads_here(cluster), allowed, cluster)
            self._pool = InProcess(server, counts)
            return
        wide = width(cluster, sum(counts.values()))
        start = starter(ShardServer, cluster, wide.num_threads)
        shared = ray.put(places), ray.put(deleted)  # kept: each actor that is started asks for them
        self._pool = SearcherPool(lambda: start(*shared, wide.num_threads, allowed, cluster), counts, wide)

    def search(self, key: str, queries_QD: np.ndarray, k: int, params: SearchParams) -> Hits:
        """queries float [Q, D]; returns Hits [Q, k]."""
        queries_QD = queries_QD.astype(np.float16)  # as every search rounds them
        found: list[Hits] = answered(
            self._pool,
            key,
            (self._batch(queries_QD[rows], k, params) for rows in _batches(len(queries_QD), num_candidates(k, params))),
        )
        if len(found) == 1:
            return found[0]
        return Hits(np.concatenate([one.scores for one in found]), np.concatenate([one.pair_ids for one in found]))

    def search_classes(
        self, key: str, queries_QD: np.ndarray, class_Q: np.ndarray, most: int, params: SearchParams
    ) -> ClassHits:
        """class_Q: int64 [Q], the class of each query, ascending. Returns the `most` best pairs of each class."""
        queries_QD, classes = queries_QD.astype(np.float16), Classes(np.arange(len(queries_QD)), class_Q)
        if self._two_stages and not params.k_factor and not self._num_lists:  # ListIndex.search_classes
            batches = iter(class_blocks(class_Q, QUERY_BYTES, ANSWER_BYTES, PAIR_BYTES * most))
        else:
            batches = _batches(len(queries_QD), num_candidates(most, params))
        steps = (self._batch(queries_QD[rows], most, params, classes.take(rows)) for rows in batches)
        return merge_class_hits(answered(self._pool, key, steps), most)

    def _batch(self, queries_QD: np.ndarray, k: int, params: SearchParams, classes: Classes | None = None) -> Batch:
        def steps(num_searchers: int) -> Steps:
            return searching(num_searchers, queries_QD, k, params, self._num_lists, self._two_stages, classes)

        return steps

    def __enter__(self) -> ShardFanOut:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.close()


def _batches(num_queries: int, count: int) -> Iterator[np.ndarray]:
    """Yields the queries of each batch, int64; count: candidates of each."""
    step = max(1, min(QUERIES_AT_ONCE, ANSWER_BYTES // (20 * count)))
    yield from np.split(np.arange(num_queries), range(step, num_queries, step))
