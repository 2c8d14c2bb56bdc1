"""Searches exactly without an index: a running top-k over blocks of vectors, and the score that all exact paths share.

Takes queries [Q, D] and the embeddings of any number of parts, in any order and any split; gives Hits.

The score is the inner product in float64, rounded to float32. Embeddings are float16 and queries are rounded to
float16: a product of two float16 is a multiple of 2**-48, and for unit vectors any partial sum is far below 2**5, so
53 bits suffice and the sum is exact in whatever order BLAS, threads or blocks take it. Ids and scores are therefore the
same for every number of shards and workers.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import faiss
import numpy as np

from react_ray.errors import RetrievalError
from react_ray.index.blas_threads import one_thread_each
from react_ray.index.merge import Hits, check_k, keep_best, no_hits
from react_ray.index.ordering import distinct

QUERIES_AT_ONCE = 256
PROPOSED_AT_ONCE = 8192  # queries per call of FAISS
VECTORS_AT_ONCE = 8192  # 256 x 8192 scores in float64 and float32: 25 MB
NUMBERS_AT_ONCE = 1 << 25  # in a block of vectors in float32: 128 MB
RESCORED_AT_ONCE = 1 << 19  # numbers in the vectors of pairs that are scored again: 2 MB
RESCORE_FROM = 64  # if more than one pair in this many is near the k-th place, one matrix product scores all of them
SPARE = 32  # hits of a block that FAISS returns beyond k: they include most ties at the k-th place
MOST_K_OF_GPU = 2048  # a limit of FAISS


def as_queries(queries_QD: np.ndarray, dim: int) -> np.ndarray:
    """Returns queries in the form that every search uses: float64 [Q, D] holding float16 values.

    Raises RetrievalError if D is not that of the vectors, or if a query is not finite.
    """
    queries_QD = np.asarray(queries_QD)
    if queries_QD.ndim != 2 or queries_QD.shape[1] != dim:
        raise RetrievalError(
            f"queries have shape {queries_QD.shape}, but the embeddings that are searched have dimension {dim}; "
            "embed both with the same backbone"
        )
    rounded = queries_QD.astype(np.float16).astype(np.float64)
    if not np.isfinite(rounded).all():
        bad = int(np.flatnonzero(~np.isfinite(rounded).all(axis=1))[0])
        raise RetrievalError(f"query {bad} is not finite; look at its prompt and embed it again")
    return rounded


def finite_rows(pair_ids: np.ndarray, vectors_ND: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Drops the rows that failed to embed (null becomes NaN in NumPy)."""
    assert vectors_ND.ndim == 2 and len(pair_ids) == len(vectors_ND), (pair_ids.shape, vectors_ND.shape)
    kept = np.isfinite(vectors_ND).all(axis=1)
    return (pair_ids, vectors_ND) if kept.all() else (pair_ids[kept], vectors_ND[kept])


class RunningTopK:
    """Keeps the k best hits of each query over all vectors seen so far, in less than 512 MB besides hits and queries.

    Everything is scored in float32, by FAISS if k is small compared with a block. Only pairs that may reach the k-th
    place within the error of float32 are scored again in float64; if there are many of them, the whole block is. As
    many threads as FAISS has do this.
    """

    def __init__(self, k: int, on_gpu: bool = False) -> None:
        check_k(k)
        self.k, self._on_gpu = k, on_gpu and k + SPARE <= MOST_K_OF_GPU
        self._hits: Hits | None = None
        self._blocks = FloatBlocks()
        self._gpu: Any = None

    def update(self, queries_QD: np.ndarray, pair_ids: np.ndarray, vectors_ND: np.ndarray) -> None:
        """Searches one more part. queries: float32 [Q, D], the same in every call; vectors: float16 or float32 [n,
        D]."""
        if self._hits is None:
            exact_QD = as_queries(queries_QD, vectors_ND.shape[1])
            self._rough_QD, self._norm_Q = exact_QD.astype(np.float32), np.linalg.norm(exact_QD, axis=1)
            self._hits = no_hits(len(exact_QD), self.k)
        assert queries_QD.shape == self._rough_QD.shape, "the queries changed between two updates"
        pair_ids = np.asarray(pair_ids, dtype=np.int64)
        assert vectors_ND.shape == (len(pair_ids), self._rough_QD.shape[1]), (pair_ids.shape, vectors_ND.shape)
        of_blas = len(self._rough_QD) <= QUERIES_AT_ONCE  # one block of queries, whose products are spread over threads
        with nullcontext() if of_blas else one_thread_each(), ThreadPoolExecutor(faiss.omp_get_max_threads()) as pool:
            for ids, block_ND, largest in self._blocks.of(pair_ids, vectors_ND):
                self._search(ids, block_ND, largest, pool)

    def _search(self, ids: np.ndarray, block_ND: np.ndarray, largest: float, pool: ThreadPoolExecutor) -> None:
        margin_Q = float32_error(self._norm_Q, largest, block_ND.shape[1])
        for first in range(0, len(self._rough_QD), PROPOSED_AT_ONCE):
            last = min(first + PROPOSED_AT_ONCE, len(self._rough_QD))
            blocks = [np.arange(low, min(low + QUERIES_AT_ONCE, last)) for low in range(first, last, QUERIES_AT_ONCE)]
            if RESCORE_FROM * (self.k + SPARE) > len(block_ND):
                list(pool.map(lambda rows: self._scan(rows, margin_Q, ids, block_ND), blocks))
                continue
            rough, column = self._knn(self._rough_QD[first:last], block_ND)
            of_blocks = [rough[rows - first] for rows in blocks], [column[rows - first] for rows in blocks]
            list(
                pool.map(
                    lambda rows, *found: self._settle(rows, found[0], found[1], margin_Q, ids, block_ND),
                    blocks,
                    *of_blocks,
                )
            )

    def _settle(
        self,
        rows: np.ndarray,
        rough: np.ndarray,
        column: np.ndarray,
        margin_Q: np.ndarray,
        ids: np.ndarray,
        block_ND: np.ndarray,
    ) -> None:
        """Takes what FAISS found for these queries in a block, and scans the block for queries whose hits may lie
        beyond that."""
        assert self._hits is not None
        margin_R = margin_Q[rows]
        floor_R = np.maximum(self._hits.scores[rows, -1], rough[:, self.k - 1] - margin_R) - margin_R
        near = rough >= floor_R[:, None]
        left = near[:, -1].copy()
        near[left] = False
        query, at = np.nonzero(near)
        found, query = column[query, at], rows[query]
        _take(self._hits, query, ids[found], score_pairs(self._rough_QD, block_ND, query, found))
        scanned = rows[left]
        for first in range(0, len(scanned), QUERIES_AT_ONCE):
            self._scan(scanned[first : first + QUERIES_AT_ONCE], margin_Q, ids, block_ND)

    def _scan(self, rows: np.ndarray, margin_Q: np.ndarray, ids: np.ndarray, block_ND: np.ndarray) -> None:
        step = VECTORS_AT_ONCE * max(1, QUERIES_AT_ONCE // max(1, len(rows)))
        for low in range(0, len(block_ND), step):
            some = slice(low, low + step)
            self._compare(rows, margin_Q[rows], ids[some], block_ND[some])

    def _compare(self, rows: np.ndarray, margin_R: np.ndarray, ids: np.ndarray, block_ND: np.ndarray) -> None:
        assert self._hits is not None
        rough_RD = self._rough_QD[rows]
        floor_R = self._hits.scores[rows, -1]
        if not np.isneginf(floor_R).any():
            near_RN = rough_RD @ block_ND.T >= (floor_R - margin_R)[:, None]
            at = np.flatnonzero(near_RN.ravel())
            if len(at) <= near_RN.size // RESCORE_FROM:
                query, column = np.divmod(at, near_RN.shape[1])
                _take(self._hits, rows[query], ids[column], score_pairs(rough_RD, block_ND, query, column))
                return
        scores_RN = (rough_RD.astype(np.float64) @ block_ND.astype(np.float64).T).astype(np.float32)
        _take_block(self._hits, rows, scores_RN, ids)

    def _knn(self, queries_QD: np.ndarray, vectors_ND: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns FAISS's (scores float32, rows int64) [Q, k + SPARE] with the largest inner products, best first."""
        native: Any = faiss
        if self._on_gpu and native.get_num_gpus():
            self._gpu = self._gpu or native.StandardGpuResources()
            found: tuple[np.ndarray, np.ndarray] = native.knn_gpu(
                self._gpu, queries_QD, vectors_ND, self.k + SPARE, metric=faiss.METRIC_INNER_PRODUCT
            )
            return found
        return faiss.knn(queries_QD, vectors_ND, self.k + SPARE, metric=faiss.METRIC_INNER_PRODUCT)

    def result(self) -> Hits:
        if self._hits is None:
            raise RetrievalError("nothing was searched; give at least one part of embeddings")
        return self._hits


class FloatBlocks:
    """Vectors in blocks of float32, in memory that the next block overwrites. FAISS converts float16 with all threads
    and vector instructions, NumPy one value at a time, and fresh memory for each block costs as much again."""

    def __init__(self) -> None:
        self._memory = np.empty(0, np.float32)

    def of(self, pair_ids: np.ndarray, vectors_ND: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
        """vectors: float16 or float32 [n, D]. Yields pair_ids, vectors and the largest norm, without the rows that
        failed to embed."""
        step = max(1, NUMBERS_AT_ONCE // vectors_ND.shape[1])
        for start in range(0, len(vectors_ND), step):
            ids, block_ND = pair_ids[start : start + step], self._floats(vectors_ND[start : start + step])
            square_N = np.einsum("nd,nd->n", block_ND, block_ND)
            finite = np.isfinite(square_N)
            if not finite.all():
                block_ND, ids, square_N = block_ND[finite], ids[finite], square_N[finite]
            yield ids, block_ND, float(np.sqrt(square_N.max(initial=0.0)))

    def _floats(self, vectors_ND: np.ndarray) -> np.ndarray:
        if vectors_ND.dtype != np.float16:
            return vectors_ND.astype(np.float32)
        if self._memory.size < vectors_ND.size:
            self._memory = np.empty(vectors_ND.size, np.float32)
        block_ND = self._memory[: vectors_ND.size].reshape(vectors_ND.shape)
        native: Any = faiss.ScalarQuantizer(vectors_ND.shape[1], faiss.ScalarQuantizer.QT_fp16)
        half_ND = np.ascontiguousarray(vectors_ND).view(np.uint8)
        native.decode_c(faiss.swig_ptr(half_ND), faiss.swig_ptr(block_ND), len(block_ND))
        return block_ND


def largest_norm(vectors_ND: np.ndarray) -> float:
    return float(np.sqrt(np.einsum("nd,nd->n", vectors_ND, vectors_ND).max(initial=0.0)))


def float32_error(norm_Q: np.ndarray, largest: float, dim: int) -> np.ndarray:
    """Bounds the error of a float32 inner product: D * 2**-24 * |q| * |v| to first order (Higham 2002, section 3.1);
    twice that covers the other terms."""
    return (dim * 2.0**-23 * largest * norm_Q).astype(np.float32)


def score_pairs(queries_QD: np.ndarray, vectors_ND: np.ndarray, query: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Returns float32 [n], the scores of n pairs of a query and a vector. Both hold float16 values, and float32 holds
    the product of two such values exactly (22 bits)."""
    scores = np.empty(len(query), dtype=np.float32)
    step = max(1, RESCORED_AT_ONCE // vectors_ND.shape[1])
    for start in range(0, len(query), step):
        some = slice(start, start + step)
        products = np.take(vectors_ND, column[some], axis=0)
        products *= np.take(queries_QD, query[some], axis=0)
        scores[some] = products.sum(axis=1, dtype=np.float64)
    return scores


def _take_block(hits: Hits, rows: np.ndarray, scores_QN: np.ndarray, pair_ids: np.ndarray) -> None:
    """Merges a block of exact scores of these queries into hits, in place.

    Only scores that reach the k-th best so far (or the k-th of this block) can enter. A score equal to the k-th remains
    a candidate, because the smaller pair_id wins.
    """
    k = hits.scores.shape[1]
    floor_Q = hits.scores[rows, -1]
    num_vectors = scores_QN.shape[1]
    if num_vectors > k and np.isneginf(floor_Q).any():
        floor_Q = np.maximum(floor_Q, np.partition(scores_QN, num_vectors - k, axis=1)[:, num_vectors - k])
    query, column = np.nonzero(scores_QN >= floor_Q[:, None])
    _take(hits, rows[query], pair_ids[column], scores_QN[query, column])


def _take(hits: Hits, query: np.ndarray, pair_ids: np.ndarray, scores: np.ndarray) -> None:
    """Merges candidates into hits, in place. query is ascending."""
    if not len(query):
        return
    changed = distinct(query)
    old_row, old_pair, old_score, _ = Hits(hits.scores[changed], hits.pair_ids[changed]).rows()
    row = np.concatenate([changed[old_row], query])
    keep_best(hits, row, np.concatenate([old_score, scores]), np.concatenate([old_pair, pair_ids]))
