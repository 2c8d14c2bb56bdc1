"""Hits: the result of a search, and the one order in which hits are ranked.

Takes the hits of several disjoint shards, gives the hits of their union. A higher score is better; equal scores are
ranked by the smaller pair_id, so that a result does not depend on how pairs were spread over shards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from react_ray.errors import RetrievalError
from react_ray.index.ordering import descending

NO_PAIR = -1
LOWEST = np.finfo(np.float32).min  # -inf is no score
FEW = 512  # hits that are sorted sooner by np.lexsort than by the steps that pay for many
QUERIES_AT_ONCE = 4096  # bounds the memory of sorting: 80,000 queries x 1,600 candidates would need gigabytes


@dataclass(frozen=True)
class Hits:
    """scores float32 [Q, k] and pair_ids int64 [Q, k], best first.

    A row with fewer than k hits ends with pair_id -1 and score -inf. `rows()` leaves these out.
    """

    scores: np.ndarray
    pair_ids: np.ndarray

    @property
    def valid(self) -> np.ndarray:
        """bool [Q, k]: True where there is a hit."""
        return self.pair_ids != NO_PAIR

    def rows(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Returns one row per hit, query by query: (query int32 position, pair_id int64, score float32, rank int32 from
        0)."""
        if self.valid.all():
            num, k = self.scores.shape
            every, place = np.arange(num, dtype=np.int32), np.arange(k, dtype=np.int32)
            return np.repeat(every, k), self.pair_ids.ravel(), self.scores.ravel(), np.tile(place, num)
        query, rank = np.nonzero(self.valid)
        return query.astype(np.int32), self.pair_ids[query, rank], self.scores[query, rank], rank.astype(np.int32)


def merge(hits: list[Hits], k: int) -> Hits:
    """Merges the hits of disjoint shards into the exact top-k of their union.

    hits: one per shard, scores float32 [Q, k_i] best first, pair_ids int64 [Q, k_i], all for the same queries.
    Returns Hits [Q, k]; rows are short where all shards together hold fewer than k.
    """
    if not hits:
        raise RetrievalError("no shard answered, so there is nothing to merge; check that the index has shards")
    lengths = sorted({len(one.scores) for one in hits})
    assert len(lengths) == 1, f"shards answered different numbers of queries: {lengths}"
    if len(hits) == 1 and hits[0].scores.shape[1] == k:
        return hits[0]  # ranked already
    scores = np.concatenate([one.scores for one in hits], axis=1)
    pair_ids = np.concatenate([one.pair_ids for one in hits], axis=1)
    return best(scores, pair_ids, k)


def best(scores: np.ndarray, pair_ids: np.ndarray, k: int) -> Hits:
    """Returns the k best of each row of candidates in any order: scores float32 [Q, n], pair_ids int64 [Q, n], -1 =
    none."""
    check_k(k)
    found = no_hits(len(scores), k)
    width = min(k, scores.shape[1])
    for start in range(0, len(scores), QUERIES_AT_ONCE):
        block = slice(start, start + QUERIES_AT_ONCE)
        score = np.where(pair_ids[block] == NO_PAIR, -np.inf, scores[block]).astype(np.float32)
        order = np.lexsort((pair_ids[block], -score), axis=1)[:, :width]
        found.scores[block, :width] = np.take_along_axis(score, order, axis=1)
        found.pair_ids[block, :width] = np.take_along_axis(pair_ids[block], order, axis=1)
    return found


def top_k(scores: np.ndarray, k: int, pair_ids: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns (places, pair_ids), int64, of the k best candidates of a query, best first, or of all if they are fewer.

    scores: float32 [n], in any order, -inf = no candidate; pair_ids(places) looks up the int64 ids of those candidates
    that may be among the k best.
    """
    floor = np.partition(scores, len(scores) - k)[len(scores) - k] if len(scores) > k else -np.inf
    at = np.flatnonzero(scores >= max(floor, LOWEST))  # more than k where the k-th score ties
    kept = scores[at]
    if len(at) <= FEW:
        found = pair_ids(at)
        order = np.lexsort((found, -kept))[:k]
        return at[order], found[order]
    packed = descending(kept).astype(np.uint64) << np.uint64(32) | np.arange(len(at), dtype=np.uint64)
    packed.sort()
    order = (packed & np.uint64((1 << 32) - 1)).astype(np.int64)
    kept, at = kept[order], at[order]
    found = pair_ids(at)
    equal = np.zeros(len(order) + 1, dtype=bool)
    equal[1:-1] = kept[1:] == kept[:-1]
    tied = np.flatnonzero(equal[1:] | equal[:-1])
    by_id = tied[np.lexsort((found[tied], -kept[tied]))]
    at[tied], found[tied] = at[by_id], found[by_id]
    return at[:k], found[:k]


def keep_best(
    hits: Hits, query: np.ndarray, scores: np.ndarray, pair_ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Overwrites the hits of these queries with the k best of these rows, which come in any order. query: rows of
    `hits`.

    Returns what was kept: its place in hits (row and rank) and in these rows, int64.
    """
    order = ranking(query, scores, pair_ids)
    query, scores, pair_ids = query[order], scores[order], pair_ids[order]
    first = np.flatnonzero(np.diff(query.astype(np.int64), prepend=-1))
    rank = np.arange(len(query)) - np.repeat(first, np.diff(first, append=len(query)))
    kept = rank < hits.scores.shape[1]
    query, rank = query[kept], rank[kept]
    hits.scores[query, rank] = scores[kept]
    hits.pair_ids[query, rank] = pair_ids[kept]
    return query, rank, order[kept]


def ranking(group: np.ndarray, scores: np.ndarray, tie: np.ndarray) -> np.ndarray:
    """Returns the order of rows by group, then score (best first), then `tie`, several times faster than np.lexsort.

    group: integers below 2**32; scores: float32. Group and score are sorted as one uint64; only rows that are equal in
    both are compared by `tie`.
    """
    both = group.astype(np.uint64) << np.uint64(32) | descending(scores).astype(np.uint64)
    order = np.argsort(both)
    both = both[order]
    equal = np.zeros(len(order) + 1, dtype=bool)
    equal[1:-1] = both[1:] == both[:-1]
    tied = np.flatnonzero(equal[1:] | equal[:-1])
    order[tied] = order[tied][np.lexsort((tie[order[tied]], both[tied]))]
    return order


def no_hits(num_queries: int, k: int) -> Hits:
    """Returns Hits [Q, k] without any hit."""
    return Hits(
        scores=np.full((num_queries, k), -np.inf, dtype=np.float32),
        pair_ids=np.full((num_queries, k), NO_PAIR, dtype=np.int64),
    )


def check_k(k: int) -> None:
    if k < 1:
        raise RetrievalError(f"k is {k}, but a search returns at least one hit per query; ask for k >= 1")
