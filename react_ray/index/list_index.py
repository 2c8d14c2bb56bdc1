"""ListIndex: the ivf-rabitq shards of one process, opened as one index whose lists are joined.

For few hits per query (k_factor > 0) FAISS proposes candidates by the 1-bit codes in memory and re-ranks them by the
mapped 8-bit codes; its float32 score of a query and a code is the same in every search. For many hits (k_factor = 0)
each visited list is decoded once for all queries that visit it and compared with them by one matrix product of
integers: a query is rounded so that float32 adds up its products without error, which changes a cosine less than 8-bit
codes do. A result depends neither on the number of shards nor on the other queries, except if two centroids are equally
near a query within the error of float32.

Many hits cost more here than in stock FAISS: 1,000 queries x 10,000 hits over 160 lists of 250,000 x 512 take 9.5
CPU-seconds, and 6.4 in a mapped IVF of 8-bit codes (python tests/benchmark/bench_own_faiss.py). That index would be a
second copy of the codes.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import faiss
import numpy as np

from react_ray.errors import ArtifactCorrupt, ArtifactMismatch
from react_ray.index.allowed import Allowed, visiting_more
from react_ray.index.cold_codes import FAULT_BYTES, ColdCodes
from react_ray.index.config import IVF_RABITQ, SearchParams
from react_ray.index.exact import as_queries
from react_ray.index.join_lists import join_lists
from react_ray.index.merge import Hits, best, check_k, no_hits, top_k
from react_ray.index.quantizer import DEFAULT_NPROBE, as_built, read_index

K_FACTOR = 10.0
MIDDLE = 128  # the middle of the range of codes
SPARE = 16  # candidates beyond k, so that equal scores are ranked by pair_id
SCORES_AT_ONCE = 1 << 26  # for a block of queries, float32: 256 MB
ROWS_AT_ONCE = 1 << 13  # of a list that are decoded to float32: 16 MB at 512 dimensions
SHARES_PER_THREAD = 4  # lists differ in length; small shares keep threads from waiting for the last one


def whole_numbers(value_QD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (float32 [Q, D] of integers, float32 [Q], the value of 1). The sum of products of a row with any codes -
    MIDDLE stays below 2**24, so it is exact in float32 in whatever order it is taken."""
    worth_Q = np.maximum(np.abs(value_QD).sum(axis=1), 1e-30) / (2.0**24 / MIDDLE - value_QD.shape[1] / 2)
    return np.rint(value_QD / worth_Q[:, None]).astype(np.float32), worth_Q.astype(np.float32)


class ListIndex:
    """Searching is thread-safe: nothing changes after construction."""

    def __init__(
        self,
        shards: Sequence[Sequence[str]],
        coarse: faiss.Index,
        deleted: np.ndarray | None = None,
        allowed: Allowed | None = None,
    ) -> None:
        """shards: the paths of the three files of each; coarse: from coarse_quantizer(), shared by all of them;
        deleted: sorted pair_ids that no search returns; allowed: the pairs that a search may return, None = all."""
        hot, cold, ids = zip(*shards, strict=True)
        self.coarse = coarse
        self.cold = ColdCodes(cold, ids)
        self._owners: list[faiss.Index] = []
        self._bounds: list[np.ndarray] = []
        self.num_of_list = np.zeros(coarse.ntotal, np.int64)
        for path, first, length in zip(hot, self.cold.firsts, self.cold.lengths, strict=True):
            one = as_built(owner := read_index(path))
            if (coarse.d, coarse.ntotal) != (one.d, one.nlist):
                raise ArtifactMismatch(
                    f"{path} has {one.nlist} lists of dimension {one.d}, its quantiser {coarse.ntotal} of {coarse.d}; "
                    "delete the index and build it again"
                )
            if one.ntotal != length:
                raise ArtifactCorrupt(
                    f"{path} and its cold.faiss are of different shards; delete the index and build it again"
                )
            lists: Any = faiss.downcast_InvertedLists(one.invlists)
            more_L = np.array([lists.list_size(number) for number in range(one.nlist)], np.int64)
            if not self._owners:
                self._owners.append(owner)
                self._hot: Any = one
                joined: Any = lists
            else:
                join_lists(joined, lists, self.num_of_list, more_L, first)
            self.num_of_list = self.num_of_list + more_L
            self._bounds.append(first + np.concatenate([[0], np.cumsum(more_L)]))
        self._hot.quantizer, self._hot.own_fields = coarse, False
        self._hot.ntotal = self.cold.num_rows  # FAISS requires the same number of both
        self.num_vectors = sum(self.cold.lengths)
        self._refine = faiss.IndexRefine(self._hot, self.cold.faiss)
        self._filtered = allowed is not None
        self._wanted = self.cold.wanted(deleted, allowed)
        self._num_wanted = self.num_vectors if self._wanted is None else int(self._wanted.sum())
        native: Any = faiss
        bits = None if self._wanted is None else np.packbits(self._wanted, bitorder="little")
        self._selector = {} if bits is None else {"sel": native.IDSelectorBitmap(bits)}

    @property
    def dim(self) -> int:
        return int(self._hot.d)

    @property
    def family(self) -> str:
        """Decides which of SearchParams apply."""
        return IVF_RABITQ

    @property
    def num_lists(self) -> int:
        return int(self._hot.nlist)

    def search(self, queries_QD: np.ndarray, k: int, params: SearchParams | None = None) -> Hits:
        """queries: float32 [Q, D], unit norm. Returns Hits [Q, k]; of equal scores among the re-ranked or scanned pairs
        the smaller pair_id comes first."""
        check_k(k)
        exact_QD = as_queries(queries_QD, self.dim)
        params = params or SearchParams(k_factor=K_FACTOR)
        nprobe = min(params.nprobe or DEFAULT_NPROBE, self.num_lists)
        if not self._num_wanted or not len(exact_QD):
            return no_hits(len(exact_QD), k)

        def visit(asking_QD: np.ndarray, lists: int) -> Hits:
            if params.k_factor:
                return self._search_hot(asking_QD, k, lists, params.k_factor)
            return self._search_cold(asking_QD, k, lists)

        if not self._filtered:
            return visit(exact_QD, nprobe)
        return visiting_more(visit, exact_QD, min(k, self._num_wanted), nprobe, self.num_lists)

    def propose(self, queries_QD: np.ndarray, count: int, nprobe: int) -> Hits:
        """Returns the candidates that are re-ranked, [Q, count], with their scores, in the order in which their 1-bit
        codes rank."""
        native: Any = faiss
        exact_QD = as_queries(queries_QD, self.dim)
        params = native.SearchParametersIVF(nprobe=min(nprobe, self.num_lists), **self._selector)
        _, rows = self._hot.search(exact_QD.astype(np.float32), min(count, self.num_vectors), params=params)
        return self.cold.scored(rows, exact_QD, faiss.omp_get_max_threads())

    def _search_hot(self, exact_QD: np.ndarray, k: int, nprobe: int, k_factor: float) -> Hits:
        native: Any = faiss
        candidates = min(max(k, round(k * k_factor)), self.num_vectors)
        fetch = min(k + SPARE, candidates)
        asked = native.IndexRefineSearchParameters(
            k_factor=(candidates + 0.5) / fetch,
            base_index_params=native.SearchParametersIVF(nprobe=nprobe, **self._selector),
        )
        scores, rows = self._refine.search(exact_QD.astype(np.float32), fetch, params=asked)
        self.cold.has_read(len(exact_QD) * candidates * max(mmap.PAGESIZE, self.dim))
        ids = self.cold.pair_ids(rows)
        if fetch < k or (rows[:, -1] < 0).any() or (scores[:, 1:] == scores[:, :-1]).any():
            return best(scores, ids, k)
        return Hits(scores[:, :k], ids[:, :k])

    def _search_cold(self, queries_QD: np.ndarray, k: int, nprobe: int) -> Hits:
        _, probes_QP = self.coarse.search(queries_QD.astype(np.float32), nprobe)
        num_Q = self.num_of_list[probes_QP].sum(axis=1)
        scaled_QD = queries_QD * self.cold.step_D
        whole_QD, worth_Q = whole_numbers(scaled_QD)
        offset_Q = (queries_QD @ self.cold.first_D + MIDDLE * scaled_QD.sum(axis=1)).astype(np.float32)
        num_threads = faiss.omp_get_max_threads()
        found, first = [], 0
        with ThreadPoolExecutor(num_threads) as pool:
            while first < len(queries_QD):
                fits = int(np.searchsorted(np.cumsum(num_Q[first:]), SCORES_AT_ONCE, side="right"))
                block = slice(first, first + max(1, fits))
                found.append(
                    self._scan(probes_QP[block], whole_QD[block], worth_Q[block], offset_Q[block], k, pool, num_threads)
                )
                first = block.stop
        return Hits(np.concatenate([one.scores for one in found]), np.concatenate([one.pair_ids for one in found]))

    def _scan(
        self,
        probes_QP: np.ndarray,
        whole_QD: np.ndarray,
        worth_Q: np.ndarray,
        offset_Q: np.ndarray,
        k: int,
        pool: ThreadPoolExecutor,
        num_threads: int,
    ) -> Hits:
        """Each thread takes some of the lists, so that a list is decoded once; then some of the queries, over all their
        lists."""
        visit = np.argsort(probes_QP, axis=None, kind="stable")
        query, visited = visit // probes_QP.shape[1], probes_QP.ravel()[visit]
        lists, start = np.unique(visited, return_index=True)
        end = np.append(start[1:], len(query))
        hits = no_hits(len(probes_QP), k)

        def score(some: np.ndarray) -> list[list[tuple[np.ndarray, np.ndarray]]]:
            """Returns, for each query, (scores, rows) of every list of `some` that it visits."""
            found: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in probes_QP]
            for at in some.tolist():
                spans = [
                    (low, high)
                    for low, high in (bounds[lists[at] : lists[at] + 2].tolist() for bounds in self._bounds)
                    if low < high
                ]
                if not spans:
                    continue
                asking = query[start[at] : end[at]]
                of_list = np.concatenate([np.arange(low, high) for low, high in spans])
                self.cold.has_read(len(spans) * FAULT_BYTES)
                for rows_N in np.split(of_list, range(ROWS_AT_ONCE, len(of_list), ROWS_AT_ONCE)):
                    self.cold.has_read(len(rows_N) * self.dim)
                    codes_ND = (self.cold.codes_ND.take(rows_N, axis=0) ^ MIDDLE).view(np.int8).astype(np.float32)
                    scores_QN = whole_QD[asking] @ codes_ND.T
                    scores_QN *= worth_Q[asking, None]
                    scores_QN += offset_Q[asking, None]
                    if self._wanted is not None:
                        scores_QN[:, ~self._wanted[rows_N]] = -np.inf
                    for which, scores_N in zip(asking.tolist(), scores_QN, strict=True):
                        found[which].append((scores_N, rows_N))
            return found

        def rank(some: np.ndarray) -> None:
            for which in some.tolist():
                pieces = [piece for share in shares for piece in share[which]]
                if pieces:
                    scores, rows = (np.concatenate(column) for column in zip(*pieces, strict=True))
                    found, ids = top_k(scores, k, lambda at, rows=rows: self.cold.pair_ids(rows[at]))  # type: ignore[misc]
                    hits.scores[which, : len(found)], hits.pair_ids[which, : len(found)] = found, ids

        shares = list(pool.map(score, np.array_split(np.arange(len(lists)), SHARES_PER_THREAD * num_threads)))
        list(pool.map(rank, np.array_split(np.arange(len(probes_QP)), SHARES_PER_THREAD * num_threads)))
        return hits
