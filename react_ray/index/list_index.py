"""ListIndex: the ivf-rabitq shards of one process, opened as one index whose lists are joined.

For few hits per query (k_factor > 0) FAISS proposes candidates by the 1-bit codes in memory, and the mapped 8-bit codes
re-rank them; search_shards.py does so over several processes. For many hits (k_factor = 0) all 8-bit codes of the
visited lists are compared (cold_scan.py). Both round a query so that float32 adds up its products with codes without
error (cold_codes.py), which changes a cosine less than 8-bit codes do. A result depends neither on the number of shards
nor on the other queries, except if two centroids are equally near a query within the error of float32.

Many hits take fewer CPU-seconds here than in a mapped IVF of 8-bit codes, which would be a second copy of the codes:
2.5 and 4.5 for 80,000 vectors (python tests/benchmark/bench_own_faiss.py --only bulk --n 80000).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cache
from typing import Any

import faiss
import numpy as np

from react_ray.errors import ArtifactCorrupt, ArtifactMismatch
from react_ray.index.allowed import Allowed
from react_ray.index.class_hits import Classes, ClassHits
from react_ray.index.cold_codes import ColdCodes
from react_ray.index.cold_scan import ColdScan
from react_ray.index.config import IVF_RABITQ, SearchParams
from react_ray.index.exact import as_queries
from react_ray.index.join_lists import join_lists
from react_ray.index.merge import Hits, check_k, no_hits, top_k
from react_ray.index.quantizer import DEFAULT_NPROBE, as_built, read_index

K_FACTOR = 10.0
FEW = 4  # queries that share few lists, so that nothing is saved by visiting a list for all of them
SPARE = 16  # candidates beyond k, so that equal scores are ranked by pair_id


class ListIndex:
    """Searching is thread-safe: nothing changes after construction."""

    def __init__(
        self,
        shards: Sequence[Sequence[str]],
        coarse: faiss.Index,
        deleted: np.ndarray | None = None,
        allowed: Allowed | None = None,
        quantizer: str = "",
    ) -> None:
        """shards: the paths of the three files of each; coarse: from coarse_quantizer(), shared by all of them;
        deleted: sorted pair_ids that no search returns; allowed: the pairs that a search may return, None = all;
        quantizer: the name of the quantiser that the shards share."""
        hot, cold, ids = zip(*shards, strict=True)
        self.coarse, self.quantizer = coarse, quantizer
        self.cold = ColdCodes(cold, ids)
        self._owners: list[faiss.Index] = []
        self.bounds: list[np.ndarray] = []  # of each shard, the first row of each list and the end of the last
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
            self.bounds.append(first + np.concatenate([[0], np.cumsum(more_L)]))
        self._hot.quantizer, self._hot.own_fields = coarse, False
        self._hot.ntotal = self.num_vectors = sum(self.cold.lengths)
        self._narrow(deleted, allowed)

    def narrowed(self, deleted: np.ndarray | None = None, allowed: Allowed | None = None) -> ListIndex:
        """Returns an index that shares the codes of this one; the arguments replace those of __init__."""
        one = copy.copy(self)
        one._narrow(deleted, allowed)
        return one

    def _narrow(self, deleted: np.ndarray | None, allowed: Allowed | None) -> None:
        self.filtered = allowed is not None  # so that a search may have to visit more lists
        self._wanted = self.cold.wanted(deleted, allowed)
        self._num_wanted = self.num_vectors if self._wanted is None else int(self._wanted.sum())
        native: Any = faiss
        bits = None if self._wanted is None else np.packbits(self._wanted, bitorder="little")
        selector: dict[str, Any] = {} if bits is None else {"sel": native.IDSelectorBitmap(bits)}
        self._params = cache(lambda nprobe: native.SearchParametersIVF(nprobe=nprobe, **selector))

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
        """queries: float32 [Q, D], unit norm. Returns Hits [Q, k]; of equal scores the smaller pair_id comes first."""
        check_k(k)
        params = params or SearchParams(k_factor=K_FACTOR)
        exact_QD = as_queries(queries_QD, self.dim)
        if not params.k_factor:
            return self._search_cold(exact_QD, k, params.nprobe)
        probes_QP = nearest_lists(self.coarse, exact_QD, params.nprobe)
        _, rows_QC = self._estimate(exact_QD, max(k, round(k * params.k_factor)), probes_QP)
        return self._best(exact_QD, rows_QC, k)

    def search_classes(self, queries_QD: np.ndarray, classes: Classes, most: int, nprobe: int) -> ClassHits:
        """Returns the `most` best pairs of each class by the 8-bit codes of all lists that its queries visit."""
        exact_QD = as_queries(queries_QD, self.dim)
        probes_QP = nearest_lists(self.coarse, exact_QD, nprobe)
        return self._scan().search_classes(probes_QP, self.cold.asked(exact_QD), classes, most)

    def propose(
        self, queries_QD: np.ndarray, count: int, nprobe: int, probes_QP: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns (estimates float32, rows int64) [Q, C] of the `count` pairs that the 1-bit codes rank best, all of
        them if they are fewer; -inf and -1 = none. Of equal estimates the smaller pair_id is taken.

        probes: int64 [Q, P], the lists that nearest_lists() finds; None = they are looked up here.
        """
        exact_QD = as_queries(queries_QD, self.dim)
        if probes_QP is None:
            probes_QP = nearest_lists(self.coarse, exact_QD, nprobe)
        return self._estimate(exact_QD, count, probes_QP)

    def rerank(self, queries_QD: np.ndarray, rows_QC: np.ndarray, k: int) -> Hits:
        """Returns the best k of these rows (int64 [Q, C], -1 = none) by the scores of their 8-bit codes, Hits [Q,
        k]."""
        return self._best(as_queries(queries_QD, self.dim), rows_QC, k)

    def scores(self, queries_QD: np.ndarray, rows_QC: np.ndarray) -> np.ndarray:
        """Returns float32 [Q, C], -inf where the row is -1."""
        asked = self.cold.asked(as_queries(queries_QD, self.dim))
        return self.cold.scores(rows_QC, asked, faiss.omp_get_max_threads())

    def _estimate(self, exact_QD: np.ndarray, count: int, probes_QP: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        asked_QD = exact_QD.astype(np.float32)
        width, fetch = min(count, self.num_vectors), min(count + SPARE, self.num_vectors)
        found, rows = self._compare(asked_QD, max(1, fetch), probes_QP)
        estimates_QC, rows_QC = found[:, :width], rows[:, :width]
        tied = np.flatnonzero((found[:, width - 1] == found[:, width]) & (rows[:, width] >= 0)) if fetch > width else ()
        for query in tied:  # as many as tie with the last place are needed to say which of them have the first pair_ids
            some, at, more = found[query], rows[query], fetch
            while some[-1] == some[width - 1] and more < self.num_vectors:
                more = min(4 * more, self.num_vectors)
                asked = slice(query, query + 1)
                some, at = (one[0] for one in self._compare(asked_QD[asked], more, probes_QP[asked]))
            order = np.lexsort((self.cold.pair_ids(at), -some))[:width]
            estimates_QC[query], rows_QC[query] = some[order], at[order]
        return estimates_QC, rows_QC

    def _compare(self, asked_QD: np.ndarray, count: int, probes_QP: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns (estimates float32, rows int64) [Q, count] of the 1-bit codes of these lists, best first."""
        found = np.empty((len(asked_QD), count), np.float32), np.empty((len(asked_QD), count), np.int64)
        asked_QD, probes_QP = np.ascontiguousarray(asked_QD), np.ascontiguousarray(probes_QP)
        # Of the distances to centroids FAISS uses none here, and its method in Python takes no parameters.
        arrays = probes_QP, np.zeros(probes_QP.shape, np.float32), *found
        native: Any = self._hot.search_preassigned_c
        params = self._params(probes_QP.shape[1])
        native(len(asked_QD), faiss.swig_ptr(asked_QD), count, *map(faiss.swig_ptr, arrays), False, params)
        found[0][found[1] < 0] = -np.inf
        return found

    def _best(self, exact_QD: np.ndarray, rows_QC: np.ndarray, k: int) -> Hits:
        hits = no_hits(len(rows_QC), k)
        if not (self.num_vectors and rows_QC.size):
            return hits
        scores_QC = self.cold.scores(rows_QC, self.cold.asked(exact_QD), faiss.omp_get_max_threads())
        for query, rows in enumerate(rows_QC):
            found, ids = top_k(scores_QC[query], k, lambda at, rows=rows: self.cold.pair_ids_of(rows[at]))  # type: ignore[misc]
            hits.scores[query, : len(found)], hits.pair_ids[query, : len(found)] = scores_QC[query, found], ids
        return hits

    def _search_cold(self, queries_QD: np.ndarray, k: int, nprobe: int) -> Hits:
        if not self._num_wanted or not len(queries_QD):
            return no_hits(len(queries_QD), k)
        probes_QP = nearest_lists(self.coarse, queries_QD, nprobe)
        if len(queries_QD) <= FEW:
            found = [
                self._best(queries_QD[q, None], self._rows_of(probes_QP[q])[None], k) for q in range(len(probes_QP))
            ]
            return Hits(np.concatenate([one.scores for one in found]), np.concatenate([one.pair_ids for one in found]))
        return self._scan().search(probes_QP, self.cold.asked(queries_QD), k)

    def _scan(self) -> ColdScan:
        return ColdScan(self.cold, self.bounds, self._wanted)

    def _rows_of(self, lists: np.ndarray) -> np.ndarray:
        """Returns int64 [N], the wanted rows of these lists."""
        spans = [bounds[number : number + 2].tolist() for bounds in self.bounds for number in lists.tolist()]
        rows = np.concatenate([np.arange(low, high) for low, high in spans])
        return rows if self._wanted is None else rows[self._wanted[rows]]


def nearest_lists(coarse: faiss.Index, exact_QD: np.ndarray, nprobe: int) -> np.ndarray:
    """Returns int64 [Q, P], the lists whose centroids are nearest. exact: as_queries(); nprobe: 0 = as built."""
    _, probes_QP = coarse.search(exact_QD.astype(np.float32), min(nprobe or DEFAULT_NPROBE, coarse.ntotal))
    return probes_QP
