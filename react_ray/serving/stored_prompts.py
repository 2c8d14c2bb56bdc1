"""StoredPrompts: vectors of prompts that a retrieval of the served recipe has embedded, and that need not be again."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow.compute as pc

from react_ray.artifact import Artifact, open_artifact
from react_ray.clip.identity import same_text_tower
from react_ray.errors import ReactRayError
from react_ray.kinds import QUERIES, QueriesFacts
from react_ray.recipe import Recipe
from react_ray.storage import join
from react_ray.vectors import from_vectors


class StoredPrompts:
    def __init__(self, recipe: Recipe) -> None:
        self._uri = join(recipe.out, QUERIES.name)
        self._kept: tuple[str, dict[str, np.ndarray]] = "", {}  # content of the artifact, vectors in it

    def of(self, backbone: dict[str, Any]) -> Mapping[str, np.ndarray]:
        """float16 [D] by sentence; empty if none of this model are there, or if they cannot be read."""
        with suppress(ReactRayError):
            found = open_artifact(self._uri, QUERIES)
            if not same_text_tower(backbone, found.facts.backbone):
                return {}
            kept = self._kept
            if kept[0] != found.content:
                kept = self._kept = found.content, _vectors(found)
            return kept[1]
        return {}


def _vectors(queries: Artifact[QueriesFacts]) -> dict[str, np.ndarray]:
    if queries.manifest.config["prompts"] == "averaged":  # they are stored by class
        return {}
    vectors: dict[str, np.ndarray] = {}
    for table in queries.tables(["prompt", "modality", "embedding"]):
        texts = table.filter(pc.field("modality") == "text")
        vectors |= zip(texts["prompt"].to_pylist(), from_vectors(texts["embedding"]), strict=True)
    return vectors
