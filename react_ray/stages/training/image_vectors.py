"""The image vectors of the retrieved pairs, of which the methods that run no model (linear, cache, knn) are made.

They are looked up in the database. Where it has none (embed.images=false), the retrieved images are embedded, which are
few beside a database: into `image_vectors/` beside `retrieved/`, once for all arms that train on these pairs. Next:
stored_vectors.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from react_ray.artifact import Artifact
from react_ray.draft import create
from react_ray.gated.load import load_backbone
from react_ray.kinds import EMBEDDINGS, EmbeddingsFacts
from react_ray.recipe import Recipe
from react_ray.runtime.layout import Layout
from react_ray.runtime.map_parts import MapStage, map_parts
from react_ray.runtime.placement import actor_pool, is_soonest_here, num_threads
from react_ray.search.gather import gather
from react_ray.stages.embedding.embed_part import EmbedPart, embedding_backbone
from react_ray.stages.embedding.read_rows import ReadRows
from react_ray.storage import join


@dataclass(frozen=True)
class ImageVectors:
    """embeddings: of the database, or of the retrieved pairs, in their order."""

    embeddings: Artifact[EmbeddingsFacts]
    of_database: bool

    def of_part(self, part: int, pair_ids: np.ndarray) -> pa.ChunkedArray:
        """schema.vector(D) of each pair of a part of `retrieved`; null where the pair has no vector."""
        if self.of_database:
            return gather(self.embeddings, pair_ids, ["pair_id", "image"])["image"]
        table = self.embeddings.read(part, ["pair_id", "image"])
        assert (table["pair_id"].to_numpy() == pair_ids).all(), "image_vectors has other rows than retrieved"
        return table["image"]


def image_vectors(recipe: Recipe, arm: str, images: Artifact[Any]) -> ImageVectors:
    """Embeds the retrieved images where the database has no image vectors. images: of the pairs that the arm retrieved,
    in their order."""
    embeddings = Layout(recipe, arm).open_database(EMBEDDINGS)
    if _has_images(embeddings):
        return ImageVectors(embeddings, of_database=True)
    return _embedded(recipe, Layout(recipe, arm).image_vectors(), images)


def labelled_vectors(recipe: Recipe, arm: str, images: Artifact[Any]) -> ImageVectors:
    """Embeds the labelled images that an arm trains on, by the model of the database. images: labelled_pairs.py's."""
    return _embedded(recipe, join(Layout(recipe, arm).labelled_root(), "image_vectors"), images)


def _embedded(recipe: Recipe, place: str, images: Artifact[Any]) -> ImageVectors:
    config, backbone_config = recipe.embed.of_images(), embedding_backbone(recipe)
    backbone = load_backbone(backbone_config, seed=recipe.seed).describe()
    vectors = create(place, EMBEDDINGS, {"backbone": backbone}, {"images": images}, images.num_parts)
    if not vectors.sealed:
        here = is_soonest_here(recipe.cluster, images.rows)
        stage = MapStage(
            "embed",
            ReadRows(images, with_urls=False),
            EmbedPart(backbone_config, config, recipe.seed, num_threads(recipe.cluster, here), vectors),
            noun="images",
            options=actor_pool(recipe.cluster, "embed"),
            retries=recipe.cluster.part_retries,
            here=here,
        )
        map_parts(stage, vectors.pending(), images.num_parts)
    return ImageVectors(vectors.seal(EmbeddingsFacts(backbone, backbone["dim"])), of_database=False)


def _has_images(embeddings: Artifact[EmbeddingsFacts]) -> bool:
    """True if the database has vectors of images, by its first part: published vectors may be of captions alone."""
    if not embeddings.manifest.config.get("images", True):
        return False
    vectors = embeddings.read(0, ["image"])["image"]
    return vectors.null_count < len(vectors)
