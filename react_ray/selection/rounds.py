"""Rounds: which queries are searched how deep until every class has its pairs.

All queries are searched first; then, deeper, those of classes that are still short because they lost pairs: to another
class that claims them more strongly, to a duplicate, to a test set. Whoever searches, stored or in memory, asks `again`
and `depth` and adds the hits.

Next: select.py chooses, kept_claims.py says which classes are short.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from react_ray.selection.claims import NONE, Scales
from react_ray.selection.config import RetrieveConfig
from react_ray.selection.kept_claims import KeptClaims
from react_ray.selection.select import CHOSEN, chosen_pairs
from react_ray.selection.settled import Choose, Settled

GROWTH = 4  # how much deeper each further round goes


class Rounds:
    """`while rounds.again.any(): rounds.add(hits of the queries `rounds.again`, `rounds.depth` deep)`; then `chosen`
    (select.CHOSEN) is the selection, of `claims`, and `counts` is what each step left."""

    def __init__(
        self,
        queries: pa.Table,
        config: RetrieveConfig,
        num_pairs: int,
        settled: Settled,
        choose: Choose,
        scales: Scales | None = None,
    ) -> None:
        """queries: query_id, class_id, task, class_name and prompt. num_pairs: of the database. scales: as in
        claims_of."""
        self.depth, self._deepest = (min(depth, num_pairs) for depth in (config.first_k, config.deepest_k))
        self.again = np.ones(queries.num_rows, dtype=bool)
        self._depth_Q = np.zeros(queries.num_rows, np.int64)
        self._config, self._settled, self._choose = config, settled, choose
        self._kept = KeptClaims(queries, config, scales)
        self.claims, self.chosen, self.counts = NONE, CHOSEN.empty_table(), dict[str, int]()

    def add(self, hits: Iterable[pa.Table]) -> None:
        """hits: tables of schema.HITS, each of whole classes."""
        self._depth_Q[self.again] = self.depth
        self._kept.add(hits, self.again, self.depth)
        claims = self._kept.claims
        chosen, self.counts = self._settled.choose(claims, self._choose)
        self.chosen = chosen_pairs(chosen, self._config)
        self.claims = self._settled.narrowed(claims)
        self.again = self._kept.short(chosen) & (self._depth_Q < self._deepest)
        if self.again.any():
            self.depth = min(GROWTH * int(self._depth_Q[self.again].min()), self._deepest)
            self.again &= self._depth_Q < self.depth  # those that were as deep already may need the round after
