"""ClassSearch: the pairs that a retrieval would select for some classes, in memory.

The rounds, the choice and the checks are those of selection/, as in stages/retrieval/search_rounds.py and
select_pairs.py; only the hits come from the groups of this server.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from react_ray import schema
from react_ray.clip.queries import Query
from react_ray.index.class_hits import Classes, class_blocks
from react_ray.index.config import FLAT
from react_ray.search.key_search import KeySearch
from react_ray.selection.best_class import best_classes
from react_ray.selection.claims import Claims, Scales
from react_ray.selection.config import MARGIN, RetrieveConfig
from react_ray.selection.hit_columns import AskedClasses, first_of_name
from react_ray.selection.image_agreement import ImageAgreement, image_scores
from react_ray.selection.key_scales import key_scales
from react_ray.selection.rounds import Rounds
from react_ray.selection.select import choose, choose_screened, chosen_pairs, with_matches
from react_ray.selection.settled import Settled, settles
from react_ray.serving.finding import Finder
from react_ray.serving.refusal import Refused
from react_ray.serving.screening import Screening

QUERIES_AT_ONCE, HITS_AT_ONCE = 1024, 1 << 22  # of one search: others wait for its end
MOST_HITS = 1 << 24  # of a round: half a gigabyte
FIRST_ROUND = 0.5  # of the time of the request, in which the first round has to end
LAST_ROUND = 0.8  # of it, in which a further round has to end: what was found has to be described as well
SETTLED_BYTES = 1 << 30  # of vectors of a database, up to which pairs are compared with all classes


class TooSlow(Exception):
    """The first round would not end in time."""

    def __init__(self, share: float) -> None:
        """share: of the queries, for which there is time."""
        super().__init__(share)
        self.share = share


class ClassSearch:
    def __init__(
        self,
        finder: Finder,
        config: RetrieveConfig,
        asked: Sequence[Query],
        queries_QD: np.ndarray,
        screening: Screening,
        can_shrink: bool,
    ) -> None:
        """asked: ordered by class. queries: float32 [Q, D]. can_shrink: `chosen` raises TooSlow where it would be."""
        self.can_shrink = can_shrink
        self.finder, self.config, self.queries_QD, self.screening = finder, config, queries_QD, screening
        names = ("class_id", "task", "class_name", "prompt", "modality")
        columns = {name: [getattr(query, name) for query in asked] for name in names}
        self.queries = pa.table({"query_id": range(len(asked)), **columns})
        self.class_Q = first_of_name(self.queries)  # of classes of one name, the first
        self.first_of_class = dict(zip(columns["class_id"], self.class_Q.tolist(), strict=True))
        self.differs: list[str] = []
        self._hits: list[pa.Table] = []  # of the last round of each query
        self._rounds: Rounds
        least = config.min_image_score
        self._agreement = None if least == -1 else ImageAgreement(least, self._image_scores)

    async def chosen(self) -> pa.Table:
        """select.MATCHED."""
        in_thread = self.finder.service.in_thread
        rounds = self._rounds = await in_thread(self._made_rounds)
        each = 0.0  # share of the time for a hit of a query, in the last round
        while (rows := np.flatnonzero(rounds.again)).size:
            sources = len(np.unique(self.class_Q[rows])) if self.config.by_class else len(rows)
            num = sources * min(rounds.depth, self._num_pairs) * len(self.config.keys)
            if num > MOST_HITS and not self._hits:
                said = f"these classes have {num:,} hits, more than the {MOST_HITS:,} of one request"
                raise Refused(f"{said}; ask for fewer classes or pairs of each", field="classes")
            began = self.finder.share_of_time
            if self._hits and (num > MOST_HITS or began + each * len(rows) * rounds.depth > LAST_ROUND):
                told = "`retrieve` searches deeper for classes that are short of pairs"
                self.differs.append(f"{told}; ask for fewer classes to see it.")
                break
            found = await self._search(rows, rounds.depth)
            each = (self.finder.share_of_time - began) / (len(rows) * rounds.depth)
            others = (table.filter(pa.array(~rounds.again[table["query_id"].to_numpy()])) for table in self._hits)
            self._hits = [*(table for table in others if table.num_rows), *found]
            await in_thread(rounds.add, found)
        return await in_thread(self._matched, rounds.chosen)

    @cached_property
    def classes_hit(self) -> set[int]:
        """The classes that anything was found for."""
        queries = [table["query_id"].to_numpy() for table in self._hits]
        return set(self.class_Q[np.concatenate(queries)].tolist()) if queries else set()

    def without(self, classes: Collection[int]) -> pa.Table:
        """As `chosen`, if these classes get no pairs."""
        claims = self._rounds.claims
        chosen, _ = self._choose(claims.take(np.flatnonzero(~np.isin(claims.class_id, list(classes)))))
        return self._matched(chosen_pairs(chosen, self.config), classes)

    def spare(self, chosen: pa.Table, left_out: Collection[int] = ()) -> pa.Table:
        """select.MATCHED: what comes next in each class, where pairs of `chosen` are rejected."""
        most = math.ceil(MARGIN * self.config.pairs_per_class) - self.config.pairs_per_class
        wider = self.config.model_copy(update={"pairs_per_class": most, "max_pairs": 0})
        claims = self._rounds.claims
        others = ~np.isin(claims.class_id, list(left_out)) & ~np.isin(claims.pair_id, chosen["pair_id"].to_numpy())
        next_ones = choose(claims.take(np.flatnonzero(others)), wider, self.screening.last, self._agreement)
        return self._matched(chosen_pairs(next_ones, wider), left_out)

    @property
    def _num_pairs(self) -> int:
        return self.finder.view.database.pairs_artifact.rows

    def _made_rounds(self) -> Rounds:
        database, config = self.finder.view.database, self.config
        is_exact = database.index is None or database.index.facts.kind == FLAT
        is_small = 2 * database.embeddings.rows * database.embeddings.facts.dim <= SETTLED_BYTES
        if is_exact and not is_small and settles(config):
            self.differs.append("`retrieve` compares each pair with all classes, not only with those that found it.")
        settled = Settled(config, is_exact and is_small, self._nearest)
        scales = self._scales() if config.fusion == "z-score" else None
        return Rounds(self.queries, config, self._num_pairs, settled, self._choose, scales)

    def _scales(self) -> Scales:
        database, left_out = self.finder.view.database, self.finder.left_out
        searches = {key: KeySearch(database.embeddings, None, key, left_out) for key in self.config.keys}
        return key_scales({"text": self.queries_QD}, {key: one.sample_ND for key, one in searches.items()})

    def _choose(self, claims: Claims) -> tuple[Claims, dict[str, int]]:
        screening = self.screening if self.screening.columns else None
        return choose_screened(claims, self.config, screening, self._agreement)

    def _image_scores(self, pair_id: np.ndarray, class_id: np.ndarray) -> np.ndarray:
        order = np.argsort(self.class_Q, kind="stable")
        image_ND = self.finder.view.records.vectors(pair_id, "image")
        return image_scores(image_ND, class_id, self.queries_QD[order], self.class_Q[order])

    def _nearest(self, pair_ids: np.ndarray) -> np.ndarray:
        """int64 [N], the class with the best cosine of all."""
        vectors: dict[str, np.ndarray] = {
            key: self.finder.view.records.vectors(pair_ids, key) for key in self.config.keys
        }
        return best_classes(vectors, self.queries_QD, self.class_Q, np.ones(len(self.class_Q), bool))

    def _matched(self, chosen: pa.Table, left_out: Collection[int] = ()) -> pa.Table:
        others = ~np.isin(self.class_Q, list(left_out))
        tables = (table.filter(pa.array(others[table["query_id"].to_numpy()])) for table in self._hits)
        return with_matches(chosen, tables, AskedClasses(self.queries), self.config)

    async def _search(self, rows: np.ndarray, depth: int) -> list[pa.Table]:
        """schema.HITS of these queries in tables of whole classes: the best of each class and key, or of each query."""
        rows = rows[np.argsort(self.class_Q[rows], kind="stable")]
        tables, finder, began = [], self.finder, self.finder.share_of_time
        most = min(HITS_AT_ONCE, QUERIES_AT_ONCE * depth)
        for block in class_blocks(self.class_Q[rows], depth, most):
            some = rows[block]
            # One after the other: each takes all cores, and hundreds of megabytes.
            if self.config.by_class:
                asked = self.queries_QD[some], Classes(some, self.class_Q[some]), depth
                found: list[Any] = [await finder.search_classes(key, *asked) for key in self.config.keys]
            else:
                found = [await finder.search(key, self.queries_QD[some], depth) for key in self.config.keys]
            tables.append(await finder.service.in_thread(self._table, some, found))
            if self.can_shrink and not self._hits and len(tables) == 1:
                self._check_pace(began, len(some) / len(rows))
        return tables

    def _check_pace(self, began: float, done: float) -> None:
        """began: the share of the time that had passed before the first round. done: of its queries, the share that is
        answered."""
        now = self.finder.share_of_time
        needed = (now - began) / done
        if done < 1 and began + needed > FIRST_ROUND:
            raise TooSlow(max(FIRST_ROUND - now, 0.0) / needed)

    def _table(self, rows: np.ndarray, found: Sequence[Any]) -> pa.Table:
        tables = [schema.HITS.empty_table()]
        for key, hits in zip(self.config.keys, found, strict=True):
            if self.config.by_class:
                query, pair_id, score, rank = hits.query, hits.pair_id, hits.score, hits.place
            else:
                row, pair_id, score, rank = hits.rows()
                query = rows[row]
            columns: dict[str, Any] = {"query_id": query, "pair_id": pair_id, "score": score}
            columns |= {"rank": rank, "key": [key] * len(query)}
            tables.append(schema.conform(pa.table(columns), schema.HITS))
        return pa.concat_tables(tables)
