"""Searches exactly without an index: actors stream the embeddings and keep a running top-k; their answers are merged.

A Scanners object keeps its actors for many batches of queries. Each batch is one pass over the embeddings of a key.

Next: fan_out.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, get_args

import numpy as np
import ray

from react_ray.artifact import Artifact
from react_ray.index.class_hits import Classes, ClassHits, merge_class_hits, reduce_hits
from react_ray.index.config import Key
from react_ray.index.exact import RunningTopK
from react_ray.index.exact_classes import RunningTopOfClasses
from react_ray.index.merge import Hits, merge
from react_ray.index.quantizer import faiss_threads
from react_ray.index.search_shards import Round
from react_ray.kinds import AllowedFacts, EmbeddingsFacts
from react_ray.recipe import ClusterConfig
from react_ray.stages.retrieval.fan_out import InProcess, Pool, Steps, answered
from react_ray.stages.retrieval.searcher_actors import starter, threads_here, width
from react_ray.stages.retrieval.searcher_pool import SearcherPool
from react_ray.stages.retrieval.shares import Share
from react_ray.vectors import from_vectors

PARTS_AHEAD = 2  # parts that are read while one is searched


class EmbeddingScanner:
    """Finds the exact best k of each query in one pass over its share of the parts of the embeddings."""

    def __init__(
        self,
        embeddings: Artifact[EmbeddingsFacts],
        deleted: np.ndarray,
        allowed: Artifact[AllowedFacts] | None,
        num_threads: int,
    ) -> None:
        faiss_threads(num_threads)
        self.embeddings, self.deleted, self.allowed = embeddings, deleted, allowed

    def prepare(self, shares: dict[str, Share]) -> None:
        """Nothing is open between two passes."""

    def answer(self, key: str, share: Share, method: str, queries_QD: np.ndarray, args: tuple[Any, ...]) -> Any:
        """args: those of `search`."""
        return self._search(key, share, queries_QD, *args)

    def _search(
        self, key: str, share: Share, queries_QD: np.ndarray, k: int, classes: Classes | None = None
    ) -> Hits | ClassHits:
        """Returns Hits [Q, k], or the k best pairs of each class."""
        has_gpu = ray.is_initialized() and bool(ray.get_gpu_ids())
        if classes is None or has_gpu:  # FAISS on a GPU knows queries, not classes
            best = RunningTopK(k, has_gpu)
            for pair_ids, vectors_ND in self._parts(key, share):
                best.update(queries_QD, pair_ids, vectors_ND)
            return best.result() if classes is None else reduce_hits(best.result(), classes, k)
        of_classes = RunningTopOfClasses(queries_QD, classes, k)
        for pair_ids, vectors_ND in self._parts(key, share):
            of_classes.update(pair_ids, vectors_ND)
        return of_classes.result()

    def _parts(self, key: str, share: Share) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        with ThreadPoolExecutor(PARTS_AHEAD) as pool:
            coming = deque(pool.submit(self._read, key, part) for part in share[:PARTS_AHEAD])
            for after in [*share[PARTS_AHEAD:], *[None] * len(coming)]:
                found = coming.popleft().result()
                if after is not None:
                    coming.append(pool.submit(self._read, key, after))
                yield found

    def _read(self, key: str, part: int) -> tuple[np.ndarray, np.ndarray]:
        table = self.embeddings.read(part, ["pair_id", key])
        if self.allowed is not None:
            table = table.filter(self.allowed.read(part, ["allowed"])["allowed"])
        pair_ids, vectors_ND = table["pair_id"].to_numpy(), from_vectors(table[key])
        if len(self.deleted):
            kept = ~np.isin(pair_ids, self.deleted)
            if not kept.all():
                pair_ids, vectors_ND = pair_ids[kept], vectors_ND[kept]
        return pair_ids, vectors_ND


class Scanners:
    """`with Scanners(embeddings, cluster, deleted) as scanners: scanners.search("image", queries, k)`."""

    def __init__(
        self,
        embeddings: Artifact[EmbeddingsFacts],
        cluster: ClusterConfig,
        deleted: np.ndarray,
        allowed: Artifact[AllowedFacts] | None = None,
        here: bool = False,
    ) -> None:
        """deleted: pair_ids that no search returns. allowed: the only pairs that may be found; None = all.

        here: this process reads the embeddings itself, without Ray.
        """
        counts = {key: embeddings.num_parts for key in get_args(Key)}
        of = embeddings, deleted, allowed
        self._pool: Pool
        if here:
            self._pool = InProcess(EmbeddingScanner(*of, threads_here(cluster)), counts)
            return
        wide = width(cluster, embeddings.num_parts)
        start = starter(EmbeddingScanner, cluster, wide.num_threads, cluster.gpus_per_actor)
        left_out = ray.put(deleted)  # kept: each actor that is started asks for it
        pool = SearcherPool(lambda: start(embeddings, left_out, allowed, wide.num_threads), counts, wide)
        pool.grow()  # a pass is long enough for all
        self._pool = pool

    def search(self, key: str, queries_QD: np.ndarray, k: int) -> Hits:
        """queries: float32 [Q, D]; returns Hits [Q, k]."""
        return merge(self._pass(key, queries_QD, k), k)

    def search_classes(self, key: str, queries_QD: np.ndarray, class_Q: np.ndarray, most: int) -> ClassHits:
        """class_Q: int64 [Q], the class of each query. Returns the `most` best pairs of each class."""
        classes = Classes(np.arange(len(queries_QD)), class_Q)
        return merge_class_hits(self._pass(key, queries_QD, most, classes), most)

    def _pass(self, key: str, queries_QD: np.ndarray, *args: Any) -> list[Any]:
        def steps(num_scanners: int) -> Steps:
            return (yield Round("search", queries_QD, [args] * num_scanners))

        (found,) = answered(self._pool, key, [steps])
        return list(found)

    def __enter__(self) -> Scanners:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.close()


def search_exactly(
    embeddings: Artifact[EmbeddingsFacts],
    key: str,
    queries_QD: np.ndarray,
    k: int,
    cluster: ClusterConfig,
    deleted: np.ndarray,
    allowed: Artifact[AllowedFacts] | None = None,
    here: bool = False,
) -> Hits:
    """Search all vectors of a key in one pass. deleted, allowed and here: as in Scanners."""
    with Scanners(embeddings, cluster, deleted, allowed, here) as scanners:
        return scanners.search(key, queries_QD, k)
