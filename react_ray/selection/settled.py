"""Settles which class each chosen pair belongs to, where a pair counts for one class only and the search is exact.

Of each class, a search knows the best pairs. A pair that is chosen for one of the classes that found it may lie nearer
to a class with so many better pairs that it is not among them: it is that class's pair, as if each class had been
searched through the whole database. Chosen pairs are therefore compared with all queries.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from react_ray.selection.claims import Claims
from react_ray.selection.config import RetrieveConfig

Choose = Callable[[Claims], tuple[Claims, dict[str, int]]]  # -> (of select.choose, what was left after each step)


class Settled:
    """Remembers the best class of each pair that was compared with all of them."""

    def __init__(self, config: RetrieveConfig, is_exact: bool, compare: Callable[[np.ndarray], np.ndarray]) -> None:
        """compare: gives int64 [N], the best class of each of these pairs (best_class.py). is_exact: the search is."""
        self.config, self.compare = config, compare
        self.needed = is_exact and settles(config)
        self.pair_ids, self.class_ids = np.empty(0, np.int64), np.empty(0, np.int64)

    def choose(self, claims: Claims, choose: Choose) -> tuple[Claims, dict[str, int]]:
        """Chooses again until every chosen pair is chosen for its best class."""
        if not self.needed:
            return choose(claims)
        while True:
            chosen, counts = choose(self.narrowed(claims))
            new = np.setdiff1d(self._claimed(chosen, claims), self.pair_ids)
            if not len(new):
                return chosen, counts
            pair_ids = np.concatenate([self.pair_ids, new])
            class_ids = np.concatenate([self.class_ids, self.compare(new)])
            order = np.argsort(pair_ids)
            self.pair_ids, self.class_ids = pair_ids[order], class_ids[order]

    def _claimed(self, chosen: Claims, claims: Claims) -> np.ndarray:
        """Returns the chosen pairs, and all pairs that short classes found: one by one, a class whose pairs all belong
        to another would take as many comparisons as it has pairs. With image_share, all: a class that found a pair by
        one key may claim it more strongly by the other."""
        if self.config.image_share:
            return claims.pair_id
        counts = np.bincount(chosen.class_id, minlength=int(claims.class_id.max(initial=0)) + 1)
        short = counts[claims.class_id] < self.config.pairs_per_class
        return np.concatenate([chosen.pair_id, claims.pair_id[short]])

    def narrowed(self, claims: Claims) -> Claims:
        """Without claims on pairs whose best class is known to be another, even if that class found them by its weaker
        key alone, or not at all."""
        if not len(self.pair_ids):
            return claims
        at = np.minimum(np.searchsorted(self.pair_ids, claims.pair_id), len(self.pair_ids) - 1)
        known = self.pair_ids[at] == claims.pair_id
        return claims.take(np.flatnonzero(~known | (claims.class_id == self.class_ids[at])))


def settles(config: RetrieveConfig) -> bool:
    """True if a pair counts for the nearest of all classes, whether that class found it or not."""
    return config.by_class and config.exclusive and config.fusion == "score"
