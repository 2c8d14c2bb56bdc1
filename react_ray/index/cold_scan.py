"""ColdScan: many hits of many queries, by the 8-bit codes of the lists that each query visits.

Takes queries and their lists; gives Hits, or the best pairs of each class of queries. A list is decoded once for all
queries that visit it, and compared with them by one matrix product, which is the least work: 2 x D operations a
comparison. What else a comparison costs is kept small: a pair lies in one list, so that of the queries of a class only
the best is kept as soon as a list is compared; and the k-th best candidate in the lists so far is a floor, and of the
others only what reaches it is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import faiss
import numpy as np

from react_ray.cancellation import stop_if_cancelled
from react_ray.index.blas_threads import one_thread_each
from react_ray.index.class_hits import Classes, ClassHits, first_best
from react_ray.index.cold_codes import FAULT_BYTES, Asked, ColdCodes
from react_ray.index.merge import Hits, no_hits, top_k

KEPT_AT_ONCE = 1 << 26  # candidates of a block of queries, as far as can be told before: a gigabyte
KEPT_PER_HIT = 6  # so many of them for each hit, while the floor rises
ROUNDS = (1 / 16, 1 / 8, 1 / 4, 1 / 2)  # shares of the lists after which the floor is raised
ROWS_AT_ONCE = 1 << 13  # of a list that are decoded to float32: 16 MB at 512 dimensions
SHARES_PER_THREAD = 4  # lists differ in length; small shares keep threads from waiting for the last one


class Candidates(NamedTuple):
    """What some lists hold for a block of groups of queries; of group g from starts[g] to starts[g + 1]."""

    scores: np.ndarray  # float32 [M]
    rows: np.ndarray  # int64 [M]
    queries: np.ndarray  # integers [M], of the group the first with this score; [0] if each group is one query
    starts: np.ndarray  # int64 [G + 1]

    def of(self, group: int) -> slice:
        return slice(self.starts[group], self.starts[group + 1])


class ColdScan:
    def __init__(self, cold: ColdCodes, bounds: Sequence[np.ndarray], wanted: np.ndarray | None) -> None:
        """bounds: for each shard the first row of each list and the end of the last, int64 [L + 1]. wanted: bool
        [num_rows], None = all."""
        self.cold, self.bounds, self.wanted = cold, bounds, wanted
        self.num_of_list = np.sum([np.diff(one) for one in bounds], axis=0)

    def search(self, probes_QP: np.ndarray, asked: Asked, k: int) -> Hits:
        """probes: the lists of each query, int64 [Q, P]. Returns Hits [Q, k]."""
        return self._search(probes_QP, asked, np.arange(len(probes_QP)), k)[0]

    def search_classes(self, probes_QP: np.ndarray, asked: Asked, classes: Classes, most: int) -> ClassHits:
        """Returns the `most` best pairs of each class: those that reduce_hits finds in the hits of `search`."""
        order = np.argsort(classes.class_id, kind="stable")
        class_G, group_Q = np.unique(classes.class_id[order], return_inverse=True)
        hits, query_GK = self._search(probes_QP[order], asked.take(order), group_Q, most)
        group, rank = np.nonzero(hits.valid)
        query = classes.query[order[query_GK[group, rank]]]
        return ClassHits(class_G[group], query, hits.pair_ids[group, rank], hits.scores[group, rank])

    def _search(self, probes_QP: np.ndarray, asked: Asked, group_Q: np.ndarray, k: int) -> tuple[Hits, np.ndarray]:
        """group: int64 [Q], ascending from 0 without gaps. Returns Hits [G, k] and the query of each, int64 [G, k]."""
        first_G = np.flatnonzero(np.diff(group_Q, prepend=-1))
        visited_G = np.add.reduceat(self.num_of_list[probes_QP].sum(axis=1), first_G) if len(first_G) else first_G
        kept_G = np.cumsum(np.minimum(visited_G, KEPT_PER_HIT * k))
        num_threads = faiss.omp_get_max_threads()
        hits, query_GK, first = no_hits(len(first_G), k), np.zeros((len(first_G), k), np.int64), 0
        with one_thread_each(), ThreadPoolExecutor(num_threads) as pool:
            while first < len(first_G):
                before = kept_G[first - 1] if first else 0
                end = max(first + 1, int(np.searchsorted(kept_G, before + KEPT_AT_ONCE, side="right")))
                some = slice(*np.searchsorted(group_Q, [first, end]).tolist())
                block = _Block(self, probes_QP[some], asked.take(some), group_Q[some] - first, k, pool, num_threads)
                block.search(Hits(hits.scores[first:end], hits.pair_ids[first:end]), query_GK[first:end])
                query_GK[first:end] += some.start
                first = end
        return hits, query_GK


class _Block:
    """Groups of queries that are searched together."""

    def __init__(
        self,
        scan: ColdScan,
        probes_QP: np.ndarray,
        asked: Asked,
        group_Q: np.ndarray,
        k: int,
        pool: ThreadPoolExecutor,
        num_threads: int,
    ) -> None:
        self.scan, self.probes_QP, self.asked, self.group_Q, self.k = scan, probes_QP, asked, group_Q, k
        self.pool, self.num_shares = pool, SHARES_PER_THREAD * num_threads
        self.num_groups = int(group_Q[-1]) + 1
        self.alone = self.num_groups == len(group_Q)
        self.floor_G = np.full(self.num_groups, -np.inf, np.float32)
        self.found: list[Candidates] = []

    def search(self, hits: Hits, query_GK: np.ndarray) -> None:
        """Overwrites these, [G, k]."""
        visited = self.probes_QP.ravel()
        order = np.argsort(visited, kind="stable")
        lists, start = np.unique(visited[order], return_index=True)
        query = (order // self.probes_QP.shape[1]).astype(np.min_scalar_type(len(self.probes_QP)))
        asking = np.split(query, start[1:])  # the queries of each list
        for some in np.split(np.arange(len(lists)), [round(share * len(lists)) for share in ROUNDS]):
            stop_if_cancelled()
            if self.found:
                self._each(self._raise_floor)
            shares = np.array_split(some, self.num_shares)
            self.found += self.pool.map(
                lambda share: self._candidates(lists[share], [asking[at] for at in share]), shares
            )
        self._each(lambda group: self._rank(group, hits, query_GK))

    def _each(self, work: Callable[[int], None]) -> None:
        def of_share(share: np.ndarray) -> None:
            for group in share.tolist():
                work(group)

        list(self.pool.map(of_share, np.array_split(np.arange(self.num_groups), self.num_shares)))

    def _candidates(self, lists: np.ndarray, asking: Sequence[np.ndarray]) -> Candidates:
        """All that reach the floor. asking: the queries of each list, ascending."""
        cold, wanted = self.scan.cold, self.scan.wanted
        small = np.min_scalar_type(self.num_groups)  # whose sort is the fastest
        found = [(np.empty(0, small), np.empty(0, np.float32), np.empty(0, np.int64), np.empty(0, np.uint8))]
        for number, queries in zip(lists.tolist(), asking, strict=True):
            spans = [bounds[number : number + 2].tolist() for bounds in self.scan.bounds]
            of_list = np.concatenate([np.arange(low, high) for low, high in spans])
            cold.has_read(len(spans) * FAULT_BYTES)
            some = self.asked.take(queries)
            first_H = np.flatnonzero(np.diff(self.group_Q[queries], prepend=-1))  # H: the groups of this list
            group_H = self.group_Q[queries[first_H]].astype(small)
            for rows_N in np.split(of_list, range(ROWS_AT_ONCE, len(of_list), ROWS_AT_ONCE)):
                cold.has_read(len(rows_N) * cold.dim)
                scores_QN = some.scores(cold.signed(rows_N))
                best_HN = np.maximum.reduceat(scores_QN, first_H, axis=0) if len(first_H) < len(queries) else scores_QN
                reaches_HN = best_HN >= self.floor_G[group_H, None]
                if wanted is not None:
                    reaches_HN &= wanted[rows_N]
                at = np.flatnonzero(reaches_HN)
                at_H = at // len(rows_N)
                at_N = at - at_H * len(rows_N)
                best = at_H[:0] if self.alone else first_best(scores_QN, first_H, at_H, at_N)
                found.append((group_H[at_H], best_HN.ravel()[at], rows_N[at_N], queries[best]))
        group, scores, rows, query = (np.concatenate(column) for column in zip(*found, strict=True))
        order = np.argsort(group, kind="stable")
        starts = np.concatenate([[0], np.cumsum(np.bincount(group, minlength=self.num_groups))])
        return Candidates(scores[order], rows[order], query if self.alone else query[order], starts)

    def _raise_floor(self, group: int) -> None:
        scores = np.concatenate([one.scores[one.of(group)] for one in self.found])
        if len(scores) >= self.k:
            self.floor_G[group] = np.partition(scores, len(scores) - self.k)[len(scores) - self.k]

    def _rank(self, group: int, hits: Hits, query_GK: np.ndarray) -> None:
        some = [(one.scores[one.of(group)], one.rows[one.of(group)], one.queries[one.of(group)]) for one in self.found]
        scores, rows, queries = (np.concatenate(column) for column in zip(*some, strict=True))
        best, ids = top_k(scores, self.k, lambda at: self.scan.cold.pair_ids_of(rows[at]))
        hits.scores[group, : len(best)], hits.pair_ids[group, : len(best)] = scores[best], ids
        query_GK[group, : len(best)] = group if self.alone else queries[best]
