"""RunningSample: a random sample of the vectors of all parts, for training and for calibration.

Takes float16 vectors of any number of parts, in any order and split; gives float32 [size, D].
"""

from __future__ import annotations

import numpy as np

from react_ray.errors import RetrievalError
from react_ray.index.exact import finite_rows


class RunningSample:
    """A uniform random sample of `size` vectors that does not depend on the order or the split of the parts.

    Every pair gets a random number from its id and the seed; the pairs with the smallest numbers are the sample.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.seed = seed
        self._draws: list[np.ndarray] = []
        self._pair_ids: list[np.ndarray] = []
        self._vectors: list[np.ndarray] = []
        self._highest = np.uint64(2**64 - 1)  # the largest number that may still enter

    def update(self, pair_ids: np.ndarray, vectors_ND: np.ndarray) -> None:
        pair_ids = np.asarray(pair_ids, dtype=np.int64)
        draws = _draw(pair_ids, self.seed)
        few = np.flatnonzero(draws <= self._highest)
        if len(few) > self.size:
            pair_ids, vectors_ND = finite_rows(pair_ids, vectors_ND)
            draws = _draw(pair_ids, self.seed)
            few = np.lexsort((pair_ids, draws))[: self.size]
        if len(few) < len(pair_ids):
            pair_ids, vectors_ND = pair_ids[few], vectors_ND[few]
        found, vectors_FD = finite_rows(pair_ids, vectors_ND)
        self._draws.append(_draw(found, self.seed))
        self._pair_ids.append(found)
        self._vectors.append(vectors_FD)
        if sum(map(len, self._draws)) > 2 * self.size:
            self._shrink()

    def result(self) -> np.ndarray:
        """float32 [min(size, seen), D], ordered by pair_id."""
        return self.rows()[1]

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """(pair_ids int64 [n], vectors float32 [n, D]), ordered by pair_id."""
        if not self._vectors:
            raise RetrievalError("no embeddings to sample from; run the embed stage on at least one part")
        self._shrink()
        pair_ids = np.concatenate(self._pair_ids)
        order = np.argsort(pair_ids, kind="stable")
        return pair_ids[order], np.concatenate(self._vectors)[order].astype(np.float32)

    def _shrink(self) -> None:
        """Drops rows that can no longer be in the sample. Pieces are not joined, because copying vectors takes most of
        the time."""
        draws, pair_ids = np.concatenate(self._draws), np.concatenate(self._pair_ids)
        order = np.lexsort((pair_ids, draws))[: self.size]
        kept = np.zeros(len(draws), bool)
        kept[order] = True
        of_pieces = np.split(kept, np.cumsum([len(piece) for piece in self._draws])[:-1])
        for pieces in (self._draws, self._pair_ids, self._vectors):
            pieces[:] = [piece if some.all() else piece[some] for piece, some in zip(pieces, of_pieces, strict=True)]
        if len(order) == self.size:
            self._highest = draws[order[-1]]


def _draw(pair_ids: np.ndarray, seed: int) -> np.ndarray:
    """Returns a random uint64 for each pair_id by the finaliser of splitmix64 (Steele et al. 2014)."""
    z = pair_ids.astype(np.uint64) + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
    return z ^ (z >> np.uint64(31))
