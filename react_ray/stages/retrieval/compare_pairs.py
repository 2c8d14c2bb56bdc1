"""Compares pairs with the queries where their vectors lie, for selection/settled.py and image_agreement.py."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from react_ray.artifact import Artifact
from react_ray.index.config import FLAT, Key
from react_ray.kinds import EmbeddingsFacts, QueriesFacts
from react_ray.search.gather import gather
from react_ray.selection.best_class import best_classes
from react_ray.selection.config import RetrieveConfig
from react_ray.selection.image_agreement import ImageAgreement, image_scores
from react_ray.selection.settled import Settled
from react_ray.stages.retrieval.asked_queries import AskedQueries
from react_ray.stages.retrieval.over_pairs import over_pairs
from react_ray.stages.retrieval.searchers import SearchPlan
from react_ray.vectors import from_vectors


def settled_where_they_lie(
    place: str, asked: Artifact[QueriesFacts], keys: Sequence[Key], config: RetrieveConfig, plan: SearchPlan
) -> Settled:
    """place: URI of a folder that is emptied at each comparison."""
    is_exact = plan.index is None or plan.index.facts.kind == FLAT
    compare = BestClasses(plan.database.embeddings, asked, keys)

    def best_class(pair_ids: np.ndarray) -> np.ndarray:
        pairs = pa.table({"pair_id": pair_ids})
        found: np.ndarray = over_pairs("compare", place, pairs, compare, plan.database, plan.cluster)[0].to_numpy()
        return found

    return Settled(config, is_exact, best_class)


def agreement_where_they_lie(
    place: str, asked: Artifact[QueriesFacts], config: RetrieveConfig, plan: SearchPlan
) -> ImageAgreement | None:
    """place: URI of a folder that is emptied at each comparison. None if images need not agree."""
    if config.min_image_score == -1:
        return None
    compare = ImageScores(plan.database.embeddings, asked, ["image"])

    def scores(pair_id: np.ndarray, class_id: np.ndarray) -> np.ndarray:
        claims = pa.table({"pair_id": pair_id, "class_id": class_id})
        found: np.ndarray = over_pairs("images", place, claims, compare, plan.database, plan.cluster)[0].to_numpy()
        return found

    return ImageAgreement(config.min_image_score, scores)


class Compare:
    def __init__(
        self, embeddings: Artifact[EmbeddingsFacts], asked: Artifact[QueriesFacts], keys: Sequence[Key]
    ) -> None:
        self.embeddings, self.asked, self.keys = embeddings, asked, keys

    @cached_property
    def queries(self) -> AskedQueries:
        """Read once in each process."""
        return AskedQueries.read(self.asked)

    def vectors(self, pairs: pa.Table) -> dict[str, Any]:
        table = gather(self.embeddings, pairs["pair_id"].to_numpy(), ["pair_id", *self.keys])
        return {key: from_vectors(table[key]) for key in self.keys}


class BestClasses(Compare):
    def __call__(self, pairs: pa.Table) -> pa.Table:
        asked = self.queries
        return pa.table({"class_id": best_classes(self.vectors(pairs), asked.vectors_QD, asked.class_Q, asked.text_Q)})


class ImageScores(Compare):
    def __call__(self, claims: pa.Table) -> pa.Table:
        image_ND, class_N = self.vectors(claims)["image"], claims["class_id"].to_numpy()
        return pa.table({"score": image_scores(image_ND, class_N, self.queries.vectors_QD, self.queries.class_Q)})
