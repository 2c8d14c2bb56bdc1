"""The artifacts of a database that a retrieval reads, opened once for all its steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from react_ray.artifact import Artifact
from react_ray.errors import ArtifactMissing, RetrievalError
from react_ray.index.deleted import deleted_pairs
from react_ray.kinds import EMBEDDINGS, PAIRS, EmbeddingsFacts, NoFacts, PairsFacts
from react_ray.recipe import Recipe
from react_ray.runtime.layout import Layout
from react_ray.selection.excluded import excluded_pairs

SMALL_BYTES = 1 << 30


@dataclass(frozen=True)
class Database:
    pairs: Artifact[PairsFacts]
    embeddings: Artifact[EmbeddingsFacts]
    images: Artifact[NoFacts] | None  # None where download fetches only the images of retrieved pairs
    deleted: np.ndarray  # int64, sorted: pairs that nothing may find, because they were deleted or are excluded

    @property
    def is_small(self) -> bool:
        """True if one process reads what a retrieval needs of it sooner than Ray starts."""
        return sum(artifact.manifest.bytes for artifact in self.artifacts().values()) <= SMALL_BYTES

    def artifacts(self) -> dict[str, Artifact[Any]]:
        """By the names that they have as parents of other artifacts."""
        found: dict[str, Artifact[Any]] = {"pairs": self.pairs, "embeddings": self.embeddings}
        return found if self.images is None else found | {"images": self.images}


def open_database(recipe: Recipe) -> Database:
    """ArtifactMissing if the database is not there, or if it has pairs that were not embedded yet.

    RetrievalError if it is empty.
    """
    layout = Layout(recipe)
    embeddings, pairs = layout.open_database(EMBEDDINGS), layout.open_database(PAIRS)
    if embeddings.num_parts < pairs.num_parts:
        raise ArtifactMissing(
            f"{embeddings.uri} has {embeddings.num_parts} parts, {pairs.uri} {pairs.num_parts}: pairs were added; run "
            "`react-ray embed RECIPE` and `react-ray index RECIPE` first"
        )
    if not embeddings.rows:
        raise RetrievalError(
            f"{embeddings.uri} is empty, so nothing can be retrieved; run `react-ray ingest` with a source that has "
            "pairs"
        )
    images = layout.open_images() if recipe.download.of == "pairs" else None
    left_out = np.union1d(deleted_pairs(recipe.database), excluded_pairs(recipe.retrieve.exclude))
    return Database(pairs, embeddings, images, left_out)
