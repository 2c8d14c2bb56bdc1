"""ColdScan: many hits of many queries, by the 8-bit codes of the lists that each query visits.

Takes queries and their lists; gives Hits. A list is decoded once for all queries that visit it, and compared with them
by one matrix product, which is the least work: 2 x D operations a comparison. What else a comparison costs is kept
small: the k-th best candidate of a query in the lists so far is a floor, and of the others only what reaches it is
kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import faiss
import numpy as np

from react_ray.index.blas_threads import one_thread_each
from react_ray.index.cold_codes import FAULT_BYTES, Asked, ColdCodes
from react_ray.index.merge import Hits, no_hits, top_k

KEPT_AT_ONCE = 1 << 26  # candidates of a block of queries, as far as can be told before: 800 MB
KEPT_PER_HIT = 6  # so many of them for each hit, while the floor rises
ROUNDS = (1 / 16, 1 / 8, 1 / 4, 1 / 2)  # shares of the lists after which the floor is raised
ROWS_AT_ONCE = 1 << 13  # of a list that are decoded to float32: 16 MB at 512 dimensions
SHARES_PER_THREAD = 4  # lists differ in length; small shares keep threads from waiting for the last one


class Candidates(NamedTuple):
    """What some lists hold for a block of queries; of query q from starts[q] to starts[q + 1]."""

    scores: np.ndarray  # float32 [M], whole numbers, as before worth and offset of Asked
    rows: np.ndarray  # int64 [M]
    starts: np.ndarray  # int64 [Q + 1]

    def of(self, query: int) -> slice:
        return slice(self.starts[query], self.starts[query + 1])


class ColdScan:
    def __init__(self, cold: ColdCodes, bounds: Sequence[np.ndarray], wanted: np.ndarray | None) -> None:
        """bounds: for each shard the first row of each list and the end of the last, int64 [L + 1]. wanted: bool
        [num_rows], None = all."""
        self.cold, self.bounds, self.wanted = cold, bounds, wanted
        self.num_of_list = np.sum([np.diff(one) for one in bounds], axis=0)

    def search(self, probes_QP: np.ndarray, asked: Asked, k: int) -> Hits:
        """probes: the lists of each query, int64 [Q, P]. Returns Hits [Q, k]."""
        kept_Q = np.minimum(self.num_of_list[probes_QP].sum(axis=1), KEPT_PER_HIT * k)
        num_threads = faiss.omp_get_max_threads()
        hits, first = no_hits(len(probes_QP), k), 0
        with one_thread_each(), ThreadPoolExecutor(num_threads) as pool:
            while first < len(probes_QP):
                fits = int(np.searchsorted(np.cumsum(kept_Q[first:]), KEPT_AT_ONCE, side="right"))
                block = slice(first, first + max(1, fits))
                some = Asked(asked.whole_QD[block], asked.worth_Q[block], asked.offset_Q[block])
                into = Hits(hits.scores[block], hits.pair_ids[block])
                _Block(self, probes_QP[block], some, k, pool, num_threads).search(into)
                first = block.stop
        return hits


class _Block:
    """Queries that are searched together."""

    def __init__(
        self, scan: ColdScan, probes_QP: np.ndarray, asked: Asked, k: int, pool: ThreadPoolExecutor, num_threads: int
    ) -> None:
        self.scan, self.probes_QP, self.asked, self.k = scan, probes_QP, asked, k
        self.pool, self.num_shares = pool, SHARES_PER_THREAD * num_threads
        self.floor_Q = np.full(len(probes_QP), -np.inf, np.float32)  # as the scores of Candidates
        self.found: list[Candidates] = []

    def search(self, hits: Hits) -> None:
        """Overwrites these hits, [Q, k]."""
        visited = self.probes_QP.ravel()
        order = np.argsort(visited, kind="stable")
        lists, start = np.unique(visited[order], return_index=True)
        query = (order // self.probes_QP.shape[1]).astype(np.min_scalar_type(len(self.probes_QP)))
        asking = np.split(query, start[1:])  # the queries of each list
        for some in np.split(np.arange(len(lists)), [round(share * len(lists)) for share in ROUNDS]):
            if self.found:
                self._each(self._raise_floor)
            shares = np.array_split(some, self.num_shares)
            self.found += self.pool.map(
                lambda share: self._candidates(lists[share], [asking[at] for at in share]), shares
            )
        self._each(lambda query: self._rank(query, hits))

    def _each(self, work: Callable[[int], None]) -> None:
        def of_share(share: np.ndarray) -> None:
            for query in share.tolist():
                work(query)

        list(self.pool.map(of_share, np.array_split(np.arange(len(self.probes_QP)), self.num_shares)))

    def _candidates(self, lists: np.ndarray, asking: Sequence[np.ndarray]) -> Candidates:
        """All that reach the floor. asking: the queries of each list, ascending."""
        cold, wanted = self.scan.cold, self.scan.wanted
        query = [np.empty(0, np.uint8)]
        scores, rows = [np.empty(0, np.float32)], [np.empty(0, np.int64)]
        for number, queries in zip(lists.tolist(), asking, strict=True):
            spans = [bounds[number : number + 2].tolist() for bounds in self.scan.bounds]
            of_list = np.concatenate([np.arange(low, high) for low, high in spans])
            cold.has_read(len(spans) * FAULT_BYTES)
            whole_QD, floor_Q = self.asked.whole_QD[queries], self.floor_Q[queries]
            for rows_N in np.split(of_list, range(ROWS_AT_ONCE, len(of_list), ROWS_AT_ONCE)):
                cold.has_read(len(rows_N) * cold.dim)
                scores_QN = whole_QD @ cold.signed(rows_N).T
                reaches_QN = scores_QN >= floor_Q[:, None]
                if wanted is not None:
                    reaches_QN &= wanted[rows_N]
                at = np.flatnonzero(reaches_QN)
                at_Q = at // len(rows_N)
                query.append(queries[at_Q])
                scores.append(scores_QN.ravel()[at])
                rows.append(rows_N[at - at_Q * len(rows_N)])
        of_query = np.concatenate(query)
        order = np.argsort(of_query, kind="stable")
        starts = np.concatenate([[0], np.cumsum(np.bincount(of_query, minlength=len(self.probes_QP)))])
        return Candidates(np.concatenate(scores)[order], np.concatenate(rows)[order], starts)

    def _raise_floor(self, query: int) -> None:
        """To the k-th best so far, less what float32 may round away of a score: of equal ones the pair_id decides."""
        scores = np.concatenate([one.scores[one.of(query)] for one in self.found])
        if len(scores) >= self.k:
            rounded = 4 + abs(self.asked.offset_Q[query] / self.asked.worth_Q[query]) * 2.0**-22
            self.floor_Q[query] = np.partition(scores, len(scores) - self.k)[len(scores) - self.k] - rounded

    def _rank(self, query: int, hits: Hits) -> None:
        scores, rows = (
            np.concatenate([column[one.of(query)] for one, column in zip(self.found, columns, strict=True)])
            for columns in ([one.scores for one in self.found], [one.rows for one in self.found])
        )
        if not len(rows):
            return
        scores *= self.asked.worth_Q[query]
        scores += self.asked.offset_Q[query]
        best, ids = top_k(scores, self.k, lambda at: self.scan.cold.pair_ids_of(rows[at]))
        hits.scores[query, : len(best)], hits.pair_ids[query, : len(best)] = best, ids
