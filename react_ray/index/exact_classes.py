"""Searches exactly without an index for the best pairs of classes: a running top of each class, not of each query.

Takes the queries of all classes and the embeddings of any number of parts, in any order and any split; gives ClassHits.
The score is that of exact.py. Of the queries of a class only the best counts for a pair, so that a pass keeps as many
rows as it returns, and a thousand classes of eighty prompts need one pass.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial

import faiss
import numpy as np

from react_ray.index.blas_threads import one_thread_each
from react_ray.index.class_hits import Classes, ClassHits, class_blocks, first_best
from react_ray.index.exact import (
    QUERIES_AT_ONCE,
    RESCORE_FROM,
    VECTORS_AT_ONCE,
    FloatBlocks,
    as_queries,
    float32_error,
    score_pairs,
)
from react_ray.index.merge import Hits, check_k, keep_best, no_hits
from react_ray.index.ordering import distinct


class RunningTopOfClasses:
    """Keeps the `most` best pairs of each class over all vectors seen so far: those that reduce_hits finds in the hits
    of RunningTopK for as many. As many threads as FAISS has do this."""

    def __init__(self, queries_QD: np.ndarray, classes: Classes, most: int) -> None:
        """queries: float32 [Q, D]."""
        check_k(most)
        order = np.argsort(classes.class_id, kind="stable")
        exact_QD = as_queries(queries_QD[order], queries_QD.shape[1])
        self._classes, self._most = classes.take(order), most
        self._rough_QD, self._norm_Q = exact_QD.astype(np.float32), np.linalg.norm(exact_QD, axis=1)
        self._class_G, self._first_G = np.unique(self._classes.class_id, return_index=True)
        self._floats = FloatBlocks()
        self._hits = no_hits(len(self._class_G), most)
        self._query_GK = np.zeros((len(self._class_G), most), np.int64)
        self._blocks = class_blocks(self._classes.class_id, 1, QUERIES_AT_ONCE)

    def update(self, pair_ids: np.ndarray, vectors_ND: np.ndarray) -> None:
        """Searches one more part. vectors: float16 or float32 [n, D]; RetrievalError if D is not that of queries."""
        as_queries(self._rough_QD[:0], vectors_ND.shape[1])
        of_blas = len(self._blocks) == 1  # whose products are spread over threads
        with nullcontext() if of_blas else one_thread_each(), ThreadPoolExecutor(faiss.omp_get_max_threads()) as pool:
            for ids, block_ND, largest in self._floats.of(pair_ids, vectors_ND):
                margin_Q = float32_error(self._norm_Q, largest, block_ND.shape[1])
                list(pool.map(partial(self._scan, margin_Q, ids, block_ND), self._blocks))

    def result(self) -> ClassHits:
        group, rank = np.nonzero(self._hits.valid)
        query = self._classes.query[self._query_GK[group, rank]]
        return ClassHits(self._class_G[group], query, self._hits.pair_ids[group, rank], self._hits.scores[group, rank])

    def _scan(self, margin_Q: np.ndarray, ids: np.ndarray, block_ND: np.ndarray, queries: np.ndarray) -> None:
        """queries: those of whole classes."""
        rows = slice(int(queries[0]), int(queries[-1]) + 1)
        step = max(1, VECTORS_AT_ONCE * QUERIES_AT_ONCE // len(queries))
        for low in range(0, len(block_ND), step):
            some = slice(low, low + step)
            self._compare(rows, margin_Q[rows], ids[some], block_ND[some])

    def _compare(self, rows: slice, margin_R: np.ndarray, ids: np.ndarray, block_ND: np.ndarray) -> None:
        """H: the classes of these queries."""
        low, high = np.searchsorted(self._first_G, [rows.start, rows.stop]).tolist()
        first_H, rough_RD = self._first_G[low:high] - rows.start, self._rough_QD[rows]
        floor_H = self._hits.scores[low:high, -1]
        if not np.isneginf(floor_H).any():
            rough_RN, margin_H = rough_RD @ block_ND.T, np.maximum.reduceat(margin_R, first_H)
            best_HN = np.maximum.reduceat(rough_RN, first_H, axis=0)
            at = np.flatnonzero(best_HN >= (floor_H - margin_H)[:, None])
            if len(at) <= best_HN.size // RESCORE_FROM:
                at_H, at_N = np.divmod(at, len(ids))
                floor_M = best_HN.ravel()[at] - 2 * margin_H[at_H]  # what the best query of a class reaches
                query, place = _reaching(rough_RN, first_H, at_H, at_N, floor_M)
                scores = score_pairs(rough_RD, block_ND, query, at_N[place])
                best = np.lexsort((query, -scores, place))[np.flatnonzero(np.diff(place, prepend=-1))]
                self._take(low + at_H, ids[at_N], scores[best], rows.start + query[best])
                return
        scores_RN = (rough_RD.astype(np.float64) @ block_ND.astype(np.float64).T).astype(np.float32)
        best_HN = np.maximum.reduceat(scores_RN, first_H, axis=0)
        if np.isneginf(floor_H).any() and len(ids) > self._most:
            least = len(ids) - self._most
            floor_H = np.maximum(floor_H, np.partition(best_HN, least, axis=1)[:, least])
        at_H, at_N = np.divmod(np.flatnonzero(best_HN >= floor_H[:, None]), len(ids))
        query = first_best(scores_RN, first_H, at_H, at_N)
        self._take(low + at_H, ids[at_N], best_HN[at_H, at_N], rows.start + query)

    def _take(self, group: np.ndarray, pair_ids: np.ndarray, scores: np.ndarray, query: np.ndarray) -> None:
        """group is ascending."""
        if not len(group):
            return
        changed = distinct(group)
        old = Hits(self._hits.scores[changed], self._hits.pair_ids[changed])
        row, old_pair, old_score, rank = old.rows()
        query = np.concatenate([self._query_GK[changed[row], rank], query])
        group = np.concatenate([changed[row], group])
        every = np.concatenate([old_score, scores]), np.concatenate([old_pair, pair_ids])
        kept_G, kept_K, kept = keep_best(self._hits, group, *every)
        self._query_GK[kept_G, kept_K] = query[kept]


def _reaching(
    scores_RN: np.ndarray, first_H: np.ndarray, at_H: np.ndarray, at_N: np.ndarray, floor_M: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns int64 [n] (query, place), ordered by place: the queries of class at_H[place] whose score in column
    at_N[place] reaches floor_M[place]."""
    queries, places = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    ends = np.searchsorted(at_H, np.arange(len(first_H) + 1)).tolist()
    for number, (first, last) in enumerate(zip(first_H.tolist(), [*first_H[1:].tolist(), len(scores_RN)], strict=True)):
        some = slice(ends[number], ends[number + 1])
        place, query = np.nonzero((scores_RN[first:last, at_N[some]] >= floor_M[some]).T)
        queries.append(first + query)
        places.append(some.start + place)
    return np.concatenate(queries), np.concatenate(places)
