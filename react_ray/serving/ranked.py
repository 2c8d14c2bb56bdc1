"""Ranked: the hits of one query as columns, because ten thousand objects would take longer than to search for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from react_ray.search.database import best_of_keys
from react_ray.selection.duplicates import NONE, near_vectors

if TYPE_CHECKING:
    from react_ray.serving.view import View


@dataclass(frozen=True)
class Ranked:
    """Best first: pair_ids int64 [N], scores float32 [N], z float32 [N], NaN where it is not known; the key of all of
    them, or of each; the pairs that repeat each, if duplicates were folded."""

    pair_ids: np.ndarray
    scores: np.ndarray
    z: np.ndarray
    key: str | list[str]
    same: dict[int, list[int]] = field(default_factory=dict)  # pair_id -> those that repeat it

    @property
    def keys(self) -> list[str]:
        return [self.key] * len(self.pair_ids) if isinstance(self.key, str) else self.key

    def take(self, rows: np.ndarray) -> Ranked:
        keys = self.key if isinstance(self.key, str) else [self.key[row] for row in rows.tolist()]
        return Ranked(self.pair_ids[rows], self.scores[rows], self.z[rows], keys, self.same)

    def first(self, k: int) -> Ranked:
        return self.take(np.arange(min(k, len(self.pair_ids))))

    def folded(self, view: View, cosine: float) -> Ranked:
        """Of hits whose image vectors have at least this cosine, the best stays."""
        kept = fold(view, self.pair_ids, cosine)
        some = self.take(np.array(list(kept), np.int64))
        return Ranked(
            some.pair_ids, some.scores, some.z, some.key, dict(zip(some.pair_ids.tolist(), kept.values(), strict=True))
        )


NOTHING = Ranked(np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.float32), "text")


def fold(view: View, pair_ids: np.ndarray, cosine: float) -> dict[int, list[int]]:
    """pair_ids: int64 [N], best first. Returns the rows that stay, each with the pairs that repeat it."""
    if not len(pair_ids):
        return {}
    kept: dict[int, list[int]] = {}
    original = near_vectors(view.records.vectors(pair_ids, "image"), cosine)
    for row, (pair, of) in enumerate(zip(pair_ids.tolist(), original.tolist(), strict=True)):
        if of == NONE:
            kept[row] = []
        else:
            kept[of].append(pair)
    return kept


def fused(of_keys: Sequence[Ranked], k: int) -> Ranked:
    """The k best of the hits of several keys, as OpenDatabase ranks them."""
    pair_ids, scores, z = (
        np.concatenate(columns) for columns in zip(*((one.pair_ids, one.scores, one.z) for one in of_keys), strict=True)
    )
    every = Ranked(pair_ids, scores, z, [key for one in of_keys for key in one.keys])
    return every.take(best_of_keys(pair_ids, z, [len(one.pair_ids) for one in of_keys], k))
