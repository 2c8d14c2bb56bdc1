"""ClassSearch: the best pairs of each class, by the rules of a retrieval, in memory.

As stages/retrieval/search_rounds.py: a class that is short of pairs is searched deeper. As settle.py: where the search
is exact and a pair counts for one class, it counts for the nearest of all classes, whether that class found it or not.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from react_ray import schema
from react_ray.clip.queries import Query
from react_ray.index.config import FLAT, Key
from react_ray.index.ordering import distinct
from react_ray.selection.best_class import best_classes
from react_ray.selection.class_hits import reduce_hits
from react_ray.selection.config import DEEPER, MARGIN, RetrieveConfig
from react_ray.selection.hit_columns import first_of_name
from react_ray.selection.select import select
from react_ray.serving.finding import Finder

QUERIES_AT_ONCE = 1024
GROWTH = 4  # how much deeper each further round goes
SETTLED_BYTES = 1 << 30  # of vectors of a database, up to which pairs are compared with all classes


class ClassSearch:
    def __init__(
        self,
        finder: Finder,
        keys: Sequence[Key],
        asked: Sequence[Query],
        queries_QD: np.ndarray,
        pool: int,
        exclusive: bool,
    ) -> None:
        """asked: ordered by class. queries: float32 [Q, D]. pool: pairs of each class at most."""
        self.finder, self.keys, self.queries_QD, self.pool = finder, keys, queries_QD, pool
        names = ("class_id", "task", "class_name", "prompt", "modality")
        columns = {name: [getattr(query, name) for query in asked] for name in names}
        self.queries = pa.table({"query_id": range(len(asked)), **columns})
        self.class_Q = first_of_name(self.queries)
        self.config = RetrieveConfig(keys=list(keys), pairs_per_class=pool, exclusive=exclusive)
        database = finder.view.database
        is_exact = database.index is None or database.index.facts.kind == FLAT
        is_small = 2 * database.embeddings.rows * database.embeddings.facts.dim <= SETTLED_BYTES
        self.settles = is_exact and is_small and exclusive
        self._known: dict[int, int] = {}  # pair_id -> its nearest class

    async def chosen(self) -> pa.Table:
        """select.MATCHED, at most `pool` pairs of each class."""
        first = math.ceil(MARGIN * self.pool)
        depth, deepest = first, min(DEEPER * first, self.finder.view.database.embeddings.rows)
        again, hits = np.ones(len(self.class_Q), bool), schema.HITS.empty_table()
        while True:
            kept = ~again[hits["query_id"].to_numpy()]
            hits = pa.concat_tables([hits.filter(pa.array(kept)), await self._hits(np.flatnonzero(again), depth)])
            chosen = await self.finder.service.in_thread(self._select, hits)
            again &= np.isin(self.class_Q, self._short(chosen, hits, depth))
            if not again.any() or depth >= deepest:
                return chosen
            depth = min(GROWTH * depth, deepest)

    async def _hits(self, rows: np.ndarray, most: int) -> pa.Table:
        """schema.HITS: the `most` best pairs of each class of these queries, on each key."""
        class_Q = self.class_Q[rows]
        order = np.argsort(class_Q, kind="stable")
        rows, class_Q = rows[order], class_Q[order]
        ends = [*np.flatnonzero(np.diff(class_Q)).tolist(), len(class_Q) - 1]
        tables, first = [schema.HITS.empty_table()], 0
        for number, end in enumerate(ends):  # whole classes, each with all its queries
            if end + 1 - first < QUERIES_AT_ONCE and number < len(ends) - 1:
                continue
            some, of_class, first = rows[first : end + 1], class_Q[first : end + 1], end + 1
            found = await asyncio.gather(*(self.finder.search(k, self.queries_QD[some], most) for k in self.keys))
            for key, hits in zip(self.keys, found, strict=True):
                best = await self.finder.service.in_thread(reduce_hits, hits, some, of_class, most)
                columns: dict[str, Any] = {"query_id": best.query, "pair_id": best.pair_id, "score": best.score}
                columns |= {"rank": best.place, "key": [key] * len(best.query)}
                tables.append(schema.conform(pa.table(columns), schema.HITS))
        return pa.concat_tables(tables)

    def _select(self, hits: pa.Table) -> pa.Table:
        if self.settles:
            pairs = hits["pair_id"].to_numpy()
            new = np.array([pair for pair in distinct(pairs).tolist() if pair not in self._known], np.int64)
            if len(new):
                self._known.update(zip(new.tolist(), self._nearest(new).tolist(), strict=True))
            nearest = np.array([self._known[pair] for pair in pairs.tolist()], np.int64)
            hits = hits.filter(pa.array(self.class_Q[hits["query_id"].to_numpy()] == nearest))
        return select(hits, self.queries, self.config)

    def _nearest(self, pair_ids: np.ndarray) -> np.ndarray:
        """int64 [N], the class with the best cosine of all."""
        vectors: dict[str, np.ndarray] = {key: self.finder.view.records.vectors(pair_ids, key) for key in self.keys}
        is_text = np.ones(len(self.class_Q), bool)
        return best_classes(vectors, self.queries_QD, self.class_Q, is_text)

    def _short(self, chosen: pa.Table, hits: pa.Table, depth: int) -> np.ndarray:
        """The classes with fewer pairs than wanted that got as many hits on some key as they asked for."""
        full = distinct(self.class_Q[hits["query_id"].to_numpy()[hits["rank"].to_numpy() == depth - 1]])
        counts = np.bincount(chosen["class_id"].to_numpy(), minlength=int(self.class_Q.max()) + 1)
        return full[counts[full] < self.pool]
