"""Settles which class each chosen pair belongs to, where a pair counts for one class only and the search is exact.

Of each class, a search knows the best pairs. A pair that is chosen for one of the classes that found it may lie nearer
to a class with so many better pairs that it is not among them: it is that class's pair, as if each class had been
searched through the whole database. Chosen pairs are therefore compared with all queries, where their vectors lie.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from react_ray.artifact import Artifact
from react_ray.draft import Draft, create
from react_ray.index.config import FLAT, Key
from react_ray.kinds import CANDIDATE_FACTS, CANDIDATES, EmbeddingsFacts, NoFacts, QueriesFacts
from react_ray.manifest import Receipt
from react_ray.runtime.map_parts import MapStage, ReadPart, Work, map_parts
from react_ray.search.gather import gather
from react_ray.selection.best_class import best_classes
from react_ray.selection.claims import Claims
from react_ray.selection.config import RetrieveConfig
from react_ray.stages.retrieval.asked_queries import AskedQueries
from react_ray.stages.retrieval.searchers import SearchPlan
from react_ray.storage import join, open_storage
from react_ray.vectors import from_vectors

PAIRS_PER_PART = 1 << 16

Choose = Callable[[Claims], tuple[pa.Table, dict[str, int]]]  # -> (select.CHOSEN, what was left after each step)


class Settled:
    """Remembers the best class of each pair that was compared with all of them."""

    def __init__(
        self,
        place: str,
        asked: Artifact[QueriesFacts],
        keys: Sequence[Key],
        config: RetrieveConfig,
        plan: SearchPlan,
    ) -> None:
        """place: URI of a folder that is emptied at each comparison."""
        self.place, self.asked, self.keys, self.config, self.plan = place, asked, keys, config, plan
        is_exact = plan.index is None or plan.index.facts.kind == FLAT
        self.needed = is_exact and config.by_class and config.exclusive and config.fusion == "score"
        self.pair_ids, self.class_ids = np.empty(0, np.int64), np.empty(0, np.int64)

    def choose(self, claims: Claims, choose: Choose) -> tuple[pa.Table, dict[str, int]]:
        """Chooses again until every chosen pair is chosen for its best class."""
        if not self.needed:
            return choose(claims)
        while True:
            chosen, counts = choose(claims.take(np.flatnonzero(self._may_be_chosen(claims))))
            new = np.setdiff1d(self._claimed(chosen, claims), self.pair_ids)
            if not len(new):
                return chosen, counts
            pair_ids = np.concatenate([self.pair_ids, new])
            class_ids = np.concatenate([self.class_ids, self._compare(new)])
            order = np.argsort(pair_ids)
            self.pair_ids, self.class_ids = pair_ids[order], class_ids[order]

    def _claimed(self, chosen: pa.Table, claims: Claims) -> np.ndarray:
        """Returns the chosen pairs, and all pairs that short classes found: one by one, a class whose pairs all belong
        to another would take as many comparisons as it has pairs."""
        counts = np.bincount(chosen["class_id"].to_numpy(), minlength=int(claims.class_id.max(initial=0)) + 1)
        short = counts[claims.class_id] < self.config.pairs_per_class
        return np.concatenate([chosen["pair_id"].to_numpy(), claims.pair_id[short]])

    def _may_be_chosen(self, claims: Claims) -> np.ndarray:
        """Returns bool [N], False for claims on pairs whose best class is known and has not found them."""
        if not len(self.pair_ids):
            return np.ones(len(claims.pair_id), dtype=bool)
        at = np.minimum(np.searchsorted(self.pair_ids, claims.pair_id), len(self.pair_ids) - 1)
        known = self.pair_ids[at] == claims.pair_id
        by_best = known & (claims.class_id == self.class_ids[at])
        found = np.zeros(len(self.pair_ids), dtype=bool)
        found[at[by_best]] = True
        return ~known | found[at]

    def _compare(self, pair_ids: np.ndarray) -> np.ndarray:
        """Returns int64 [N], the best class of each pair."""
        database = self.plan.database
        compare = Compare(database.embeddings, self.asked, self.keys)
        starts = range(0, len(pair_ids), PAIRS_PER_PART)
        if database.is_small:
            compare.setup()
            return np.concatenate([compare.classes(pair_ids[i : i + PAIRS_PER_PART]) for i in starts])
        open_storage(self.place).delete_all()  # what an interrupted run left
        asked = create(join(self.place, "asked"), CANDIDATES, {}, {}, len(starts))
        for part, first in enumerate(starts):
            asked.commit(part, pa.table({"pair_id": pair_ids[first : first + PAIRS_PER_PART]}), 0.0)
        candidates = asked.seal()
        compare.found = create(join(self.place, "facts"), CANDIDATE_FACTS, {}, {"asked": candidates}, len(starts))
        stage = MapStage("compare", ReadPart(candidates), compare, retries=self.plan.cluster.part_retries)
        map_parts(stage, compare.found.pending(), len(starts))
        class_ids: np.ndarray = pa.concat_tables(compare.found.seal().tables(["class_id"]))["class_id"].to_numpy()
        open_storage(self.place).delete_all()
        return class_ids


class Compare(Work):
    def __init__(
        self, embeddings: Artifact[EmbeddingsFacts], asked: Artifact[QueriesFacts], keys: Sequence[Key]
    ) -> None:
        self.embeddings, self.asked, self.keys = embeddings, asked, keys
        self.found: Draft[NoFacts] | None = None

    def setup(self) -> None:
        self.queries = AskedQueries.read(self.asked)

    def classes(self, pair_ids: np.ndarray) -> np.ndarray:
        table = gather(self.embeddings, pair_ids, ["pair_id", *self.keys])
        vectors: dict[str, Any] = {key: from_vectors(table[key]) for key in self.keys}
        return best_classes(vectors, self.queries.vectors_QD, self.queries.class_Q, self.queries.text_Q)

    def __call__(self, part: int, table: pa.Table) -> Receipt:
        began = time.monotonic()
        assert self.found is not None
        class_ids = self.classes(table["pair_id"].to_numpy())
        return self.found.commit(part, table.append_column("class_id", pa.array(class_ids)), time.monotonic() - began)
