"""Allowed: which pairs may be hit, one bit each, and searches that give k hits of these, not k minus the others.

Takes a bool per row of each part; answers for any pair_ids. 100 million pairs are 13 MB. Next: merge.py.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from react_ray.index.merge import NO_PAIR, Hits, best, check_k, no_hits
from react_ray.index.ordering import distinct
from react_ray.pair_id import part_of, row_of

SPARE = 32
HITS_AT_ONCE = 1 << 22  # hits that one search may return: 50 MB

Search = Callable[[np.ndarray, int], Hits]


class Allowed:
    """Bits by part; a part that was never added allows nothing. Adding is done before searching starts."""

    def __init__(self) -> None:
        self._bits: dict[int, np.ndarray] = {}
        self._num_rows: dict[int, int] = {}
        self.count = 0

    def add(self, part: int, mask: np.ndarray) -> None:
        """mask: bool [rows of the part]."""
        self._bits[part], self._num_rows[part] = np.packbits(mask), len(mask)
        self.count += int(mask.sum())

    @property
    def num_rows(self) -> int:
        return sum(self._num_rows.values())

    def rows(self, part: int) -> np.ndarray:
        """bool [rows of the part]."""
        return np.unpackbits(self._bits[part], count=self._num_rows[part]).astype(bool)

    def contains(self, pair_ids: np.ndarray) -> np.ndarray:
        """bool, of the shape of pair_ids; -1 is not contained."""
        flat = np.asarray(pair_ids, dtype=np.int64).ravel()
        out = np.zeros(len(flat), dtype=bool)
        parts, rows = part_of(flat), row_of(flat)
        for part in distinct(parts[flat >= 0]).tolist():
            if part in self._bits:
                here = np.flatnonzero((parts == part) & (flat >= 0) & (rows < self._num_rows[part]))
                at = rows[here]
                out[here] = (self._bits[part][at >> 3] >> (7 - (at & 7)).astype(np.uint8)) & 1
        return out.reshape(np.shape(pair_ids))


def visiting_more(search: Search, queries_QD: np.ndarray, enough: int, nprobe: int, num_lists: int) -> Hits:
    """What `search(queries, nprobe)` finds; queries with fewer than `enough` hits visit four times as many lists, up to all."""
    hits = search(queries_QD, nprobe)
    short = np.flatnonzero(~hits.valid[:, enough - 1])
    while len(short) and nprobe < num_lists:
        nprobe = min(4 * nprobe, num_lists)
        more = search(queries_QD[short], nprobe)
        hits.scores[short], hits.pair_ids[short] = more.scores, more.pair_ids
        short = short[~more.valid[:, enough - 1]]
    return hits


def search_allowed(search: Search, queries_QD: np.ndarray, k: int, allowed: Allowed, num_vectors: int) -> Hits:
    """The k best allowed hits of each query [Q, k], whatever `search(queries, k)` does: it is asked for more until k are
    allowed or it has no more. Exact where `search` is.

    num_vectors: how many the search can return at most. The first request is sized by the share that is allowed.
    """
    check_k(k)
    hits = no_hits(len(queries_QD), k)
    unsettled = np.arange(len(queries_QD))
    share = max(allowed.count / max(allowed.num_rows, 1), k / max(num_vectors, k))
    fetch = min(int(1.2 * k / share) + SPARE, num_vectors)
    while len(unsettled) and fetch > 0:
        left = []
        step = max(1, HITS_AT_ONCE // fetch)
        for start in range(0, len(unsettled), step):
            rows = unsettled[start : start + step]
            found = search(queries_QD[rows], fetch)
            kept = best(found.scores, np.where(allowed.contains(found.pair_ids), found.pair_ids, NO_PAIR), k)
            settled = kept.valid[:, -1] | ~found.valid[:, -1] | (fetch >= num_vectors)
            hits.scores[rows[settled]], hits.pair_ids[rows[settled]] = kept.scores[settled], kept.pair_ids[settled]
            left.append(rows[~settled])
        unsettled, fetch = np.concatenate(left), min(4 * fetch, num_vectors)
    return hits
