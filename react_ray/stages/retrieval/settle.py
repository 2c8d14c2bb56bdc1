"""Compares pairs with all queries where their vectors lie, for selection/settled.py: here, or by the workers."""

from __future__ import annotations

import time
from collections.abc import Sequence
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
from react_ray.selection.config import RetrieveConfig
from react_ray.selection.settled import Settled
from react_ray.stages.retrieval.asked_queries import AskedQueries
from react_ray.stages.retrieval.searchers import SearchPlan
from react_ray.storage import join, open_storage
from react_ray.vectors import from_vectors

PAIRS_PER_PART = 1 << 16


def settled_where_they_lie(
    place: str, asked: Artifact[QueriesFacts], keys: Sequence[Key], config: RetrieveConfig, plan: SearchPlan
) -> Settled:
    """place: URI of a folder that is emptied at each comparison."""
    is_exact = plan.index is None or plan.index.facts.kind == FLAT
    return Settled(config, is_exact, lambda pair_ids: _compare(place, pair_ids, asked, keys, plan))


def _compare(
    place: str, pair_ids: np.ndarray, asked: Artifact[QueriesFacts], keys: Sequence[Key], plan: SearchPlan
) -> np.ndarray:
    """Returns int64 [N], the best class of each pair."""
    database = plan.database
    compare = Compare(database.embeddings, asked, keys)
    starts = range(0, len(pair_ids), PAIRS_PER_PART)
    if database.is_small:
        compare.setup()
        return np.concatenate([compare.classes(pair_ids[i : i + PAIRS_PER_PART]) for i in starts])
    open_storage(place).delete_all()  # what an interrupted run left
    draft = create(join(place, "asked"), CANDIDATES, {}, {}, len(starts))
    for part, first in enumerate(starts):
        draft.commit(part, pa.table({"pair_id": pair_ids[first : first + PAIRS_PER_PART]}), 0.0)
    candidates = draft.seal()
    compare.found = create(join(place, "facts"), CANDIDATE_FACTS, {}, {"asked": candidates}, len(starts))
    stage = MapStage("compare", ReadPart(candidates), compare, retries=plan.cluster.part_retries)
    map_parts(stage, compare.found.pending(), len(starts))
    class_ids: np.ndarray = pa.concat_tables(compare.found.seal().tables(["class_id"]))["class_id"].to_numpy()
    open_storage(place).delete_all()
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
