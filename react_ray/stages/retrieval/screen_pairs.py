"""Checks which of the pairs that were hit may be chosen: no duplicates, and nothing near to an evaluation image.

Hashes, hosts and vectors of the pairs are read where they lie, part by part, and come together once, so that memory
grows with the hits and not with the database.
"""

from __future__ import annotations

import numpy as np

from react_ray.artifact import Artifact
from react_ray.clip.identity import same_image_tower
from react_ray.errors import ArtifactMismatch
from react_ray.kinds import NoFacts
from react_ray.recipe import ClusterConfig
from react_ray.selection.config import RetrieveConfig
from react_ray.selection.references import References
from react_ray.selection.screen import Screen, columns_needed, screen
from react_ray.stages.retrieval.candidate_facts import candidate_facts
from react_ray.stages.retrieval.database import Database

OTHER_IMAGES = (
    "images of {} were embedded by another image tower than the recipe's backbone, so {} would compare two spaces; "
    "name the backbone that embedded the database, or leave it out"
)


class Screening:
    """Made once per retrieval, so that the evaluation images are embedded once for all rounds of a search."""

    def __init__(
        self,
        place: str,
        database: Database,
        config: RetrieveConfig,
        references: Artifact[NoFacts] | None,
        seed: int,
        cluster: ClusterConfig,
    ) -> None:
        """place: URI of a folder that is emptied at each call. references: hashes and vectors of evaluation images."""
        self.place, self.database, self.config, self.seed, self.cluster = place, database, config, seed, cluster
        self.columns = columns_needed(config)
        self.references: References | None = None
        if references is not None:
            made_by = references.manifest.config["backbone"]
            if config.decontaminate.cosine and not same_image_tower(database.embeddings.facts.backbone, made_by):
                raise ArtifactMismatch(OTHER_IMAGES.format(database.embeddings.uri, "retrieve.decontaminate.cosine"))
            self.references = References.load(references)

    @property
    def needed(self) -> bool:
        return bool(self.columns)

    def __call__(self, pair_ids: np.ndarray, score: np.ndarray) -> Screen:
        """pair_ids int64 [N] ascending, score float32 [N] of their best hits."""
        if not len(pair_ids):
            return Screen(pair_ids, np.ones(0, bool), *(np.zeros(0, np.int64),) * 2)
        table = candidate_facts(self.place, pair_ids, self.columns, self.database, self.cluster)
        return screen(table, score, self.config, self.references, self.seed)
