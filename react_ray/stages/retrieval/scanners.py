"""Searches exactly without an index: actors stream the embeddings and keep a running top-k; their answers are merged.

A Scanners object keeps its actors for many batches of queries. Each batch is one pass over the embeddings of a key.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

import numpy as np
import ray

from react_ray.artifact import Artifact
from react_ray.index.class_hits import Classes, ClassHits, merge_class_hits, reduce_hits
from react_ray.index.exact import RunningTopK
from react_ray.index.exact_classes import RunningTopOfClasses
from react_ray.index.merge import Hits, merge
from react_ray.index.quantizer import faiss_threads
from react_ray.kinds import AllowedFacts, EmbeddingsFacts
from react_ray.recipe import ClusterConfig
from react_ray.stages.retrieval.searcher_actors import answers_of, await_ready, starter, threads_here, width
from react_ray.vectors import from_vectors

PARTS_AHEAD = 2  # parts that are read while one is searched


class EmbeddingScanner:
    """Finds the exact best k of each query in one pass over its parts of the embeddings."""

    def __init__(
        self,
        embeddings: Artifact[EmbeddingsFacts],
        parts: list[int],
        deleted: np.ndarray,
        allowed: Artifact[AllowedFacts] | None,
        num_threads: int,
    ) -> None:
        faiss_threads(num_threads)
        self.embeddings, self.parts, self.deleted, self.allowed = embeddings, parts, deleted, allowed

    def scan(self, key: str, queries_QD: np.ndarray, k: int) -> Hits:
        best = RunningTopK(k, _has_gpu())
        for pair_ids, vectors_ND in self._parts(key):
            best.update(queries_QD, pair_ids, vectors_ND)
        return best.result()

    def scan_classes(self, key: str, queries_QD: np.ndarray, class_Q: np.ndarray, most: int) -> ClassHits:
        classes = Classes(np.arange(len(queries_QD)), class_Q)
        if _has_gpu():  # FAISS knows queries, not classes
            return reduce_hits(self.scan(key, queries_QD, most), classes, most)
        best = RunningTopOfClasses(queries_QD, classes, most)
        for pair_ids, vectors_ND in self._parts(key):
            best.update(pair_ids, vectors_ND)
        return best.result()

    def _parts(self, key: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        with ThreadPoolExecutor(PARTS_AHEAD) as pool:
            coming = deque(pool.submit(self._read, key, part) for part in self.parts[:PARTS_AHEAD])
            for after in [*self.parts[PARTS_AHEAD:], *[None] * len(coming)]:
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


def _has_gpu() -> bool:
    return ray.is_initialized() and bool(ray.get_gpu_ids())


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
        every = list(range(embeddings.num_parts))
        self._here = EmbeddingScanner(embeddings, every, deleted, allowed, threads_here(cluster)) if here else None
        self._scanners: list[Any] = []
        self._unready: list[Any] = []
        if here:
            return
        num_scanners, num_threads = width(cluster, embeddings.num_parts)
        start = starter(EmbeddingScanner, cluster, cluster.gpus_per_actor)
        self._left_out = ray.put(deleted)  # kept: an actor that is restarted asks for it again
        self._scanners = [
            start(embeddings, every[i::num_scanners], self._left_out, allowed, num_threads) for i in range(num_scanners)
        ]
        self._unready = list(self._scanners)

    def search(self, key: str, queries_QD: np.ndarray, k: int) -> Hits:
        """queries: float32 [Q, D]; returns Hits [Q, k]."""
        if self._here:
            return merge([self._here.scan(key, queries_QD, k)], k)
        await_ready(self._unready)
        sent = ray.put(queries_QD)
        return merge(answers_of([one.scan.remote(key, sent, k) for one in self._scanners]), k)

    def search_classes(self, key: str, queries_QD: np.ndarray, class_Q: np.ndarray, most: int) -> ClassHits:
        """class_Q: int64 [Q], the class of each query. Returns the `most` best pairs of each class."""
        if self._here:
            return self._here.scan_classes(key, queries_QD, class_Q, most)
        await_ready(self._unready)
        sent = ray.put(queries_QD)
        found = answers_of([one.scan_classes.remote(key, sent, class_Q, most) for one in self._scanners])
        return merge_class_hits(found, most)

    def __enter__(self) -> Scanners:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for scanner in self._scanners:
            ray.kill(scanner)


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
