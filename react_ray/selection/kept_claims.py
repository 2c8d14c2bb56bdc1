"""KeptClaims: of all hits of a search by classes, the claims that a selection can still use.

Takes the hits of each round, block by block of whole classes. Of a class, the strongest claims over all keys are kept,
as many as it was searched deep, so that memory grows with the classes and neither with their queries nor with their
keys; with image_share, all that each key found. A search by queries, of which some may be asked again without the
others of their class, keeps every hit. Says which classes are still short of pairs.

Down to the last score that both the search and this cut left complete, a class chooses of the kept claims as of all
hits; with image_share, up to the turn of the first pair of a key that is not known.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from react_ray import schema
from react_ray.selection.claims import Claims, Scales, best_of_each_class, claims_of, in_turns, joined
from react_ray.selection.config import RetrieveConfig
from react_ray.selection.hit_columns import AskedClasses, HitColumns, counted, first_of_name


class KeptClaims:
    """`add` the hits of a round; `claims` are those to choose from; `short` asks for another round."""

    def __init__(self, queries: pa.Table, config: RetrieveConfig, scales: Scales | None = None) -> None:
        """queries: query_id, class_id, task, class_name and prompt. scales: as in claims_of."""
        self.config, self.scales = config, scales
        self._asked = AskedClasses(queries)
        self._query_Q, self._class_Q = queries["query_id"].to_numpy(), first_of_name(queries)
        num_classes = int(self._class_Q.max(initial=-1)) + 1
        self._class_of = np.zeros(int(self._query_Q.max(initial=-1)) + 1, np.int64)
        self._class_of[self._query_Q] = self._class_Q
        self._more_Q = np.zeros(len(self._query_Q), dtype=bool)  # there may be more hits than it received
        self._more_CK = np.zeros((num_classes, 2), dtype=bool)  # by image, by caption
        self._floor_C = np.full(num_classes, -np.inf, np.float32)  # pairs above it are all known
        self._blocks: list[Claims] = []
        self._hits = schema.HITS.empty_table()  # of a search by queries

    @property
    def claims(self) -> Claims:
        self._blocks = [joined(self._blocks)]  # instead of the blocks, so that memory holds the claims once
        return self._blocks[0]

    def add(self, hits: Iterable[pa.Table], again_Q: np.ndarray, depth: int) -> None:
        """Replaces the hits of these queries, bool [Q], by those of a search of this depth: tables of schema.HITS, each
        of whole classes."""
        again = np.unique(self._class_Q[again_Q])
        self._more_Q[again_Q] = False
        self._more_CK[again] = False
        self._floor_C[again] = -np.inf
        if self.config.by_class:
            left = (one.take(np.flatnonzero(~np.isin(one.class_id, again))) for one in self._blocks)
            self._blocks = [one for one in left if len(one.pair_id)]
        else:
            others = ~np.isin(self._hits["query_id"].to_numpy(), self._query_Q[again_Q])
            self._hits = self._hits.filter(pa.array(others))
        for table in hits:
            self._mark_last(table, depth)
            if self.config.by_class:
                self._blocks.append(self._strongest(self._claims(table), depth))
            else:
                self._hits = pa.concat_tables([self._hits, table])
        if not self.config.by_class:
            self._blocks = [self._claims(self._hits)]

    def short(self, chosen: Claims) -> np.ndarray:
        """chosen: of select.choose. Returns bool [Q], True where the query's class has fewer than pairs_per_class pairs
        and there may be more."""
        if not self.config.pairs_per_class:
            return np.zeros(len(self._query_Q), dtype=bool)
        is_short_Q = self._counts(chosen)[self._class_Q] < self.config.pairs_per_class
        more_C = np.asarray(self._more_CK.any(axis=1))
        return is_short_Q & (more_C[self._class_Q] if self.config.by_class else self._more_Q)

    def _claims(self, hits: pa.Table) -> Claims:
        columns = HitColumns.read(hits, self._asked, self.config)
        return claims_of(columns, self._asked, self.config, self.scales)

    def _mark_last(self, hits: pa.Table, depth: int) -> None:
        """A query, or a class that is searched as one, may have more hits if it received all that it asked for, down to
        a score that counts: a deeper search may find pairs up to the last score of any key."""
        last = (hits["rank"].to_numpy() == depth - 1) & counted(hits, self.config)
        query_id, score = hits["query_id"].to_numpy()[last], hits["score"].to_numpy()[last]
        self._more_Q |= np.isin(self._query_Q, query_id)
        if not self.config.by_class:
            return
        is_text = pc.equal(hits["key"], "text").to_numpy()[last]
        self._more_CK[self._class_of[query_id], is_text.view(np.int8)] = True
        if self.config.fusion == "score" and not self.config.image_share:
            np.maximum.at(self._floor_C, self._class_of[query_id], score)

    def _strongest(self, claims: Claims, most: int) -> Claims:
        """Returns the `most` strongest claims of each class; with image_share all, which are so many of each key."""
        if self.config.image_share:
            return claims
        rows = best_of_each_class(claims, most)
        left_out = np.ones(len(claims.pair_id), dtype=bool)
        left_out[rows] = False
        self._more_CK[claims.class_id[left_out]] = True
        if self.config.fusion == "score":
            np.maximum.at(self._floor_C, claims.class_id[left_out], claims.score[left_out])
        return claims.take(rows)

    def _counts(self, chosen: Claims) -> np.ndarray:
        """Returns int64 [classes], the number of chosen claims of each class that no deeper search can change."""
        known = (chosen.score > self._floor_C[chosen.class_id]) & self._in_time(chosen)
        return np.bincount(chosen.class_id[known], minlength=len(self._floor_C))

    def _in_time(self, chosen: Claims) -> np.ndarray:
        """Returns bool [N], True for the claims of a class that have their turns before any pair of a key that only a
        deeper search finds: if these turns come, all known pairs of that key are among `chosen`."""
        if chosen.of_key is None:
            return np.ones(len(chosen.pair_id), dtype=bool)
        image_share = self.config.image_share
        first_C = np.full(len(self._more_CK), np.inf)
        for key, share in enumerate((image_share, 1 - image_share)):
            known_C = np.bincount(chosen.class_id[chosen.of_key[:, key] > -np.inf], minlength=len(first_C))
            unknown_C = np.where(self._more_CK[:, key], (known_C + 1) / share, np.inf)
            first_C = np.minimum(first_C, unknown_C)
        in_time: np.ndarray = -in_turns(chosen, image_share).strength < first_C[chosen.class_id]
        return in_time
