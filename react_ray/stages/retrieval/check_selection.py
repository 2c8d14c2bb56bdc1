"""Checks that a selection can find what its recipe asks for, before anything is searched."""

from __future__ import annotations

import logging

from react_ray.artifact import Artifact
from react_ray.clip.identity import same_image_tower
from react_ray.errors import ArtifactMismatch, ConfigError
from react_ray.kinds import QueriesFacts
from react_ray.selection.config import RetrieveConfig
from react_ray.stages.retrieval.database import Database
from react_ray.stages.retrieval.screen_pairs import OTHER_IMAGES

logger = logging.getLogger(__name__)


def check_selection(
    config: RetrieveConfig, has_seed_images: bool, database: Database, queries: Artifact[QueriesFacts]
) -> None:
    """ConfigError for a selection that would find nothing. Says what an older recipe no longer needs."""
    if config.pairs_per_class and config.k and config.max_k:
        logger.warning(
            "retrieve.pairs_per_class needs neither k nor max_k: leave both out, and each class is searched as deep as "
            "it needs"
        )
    embeddings = database.embeddings
    for key in config.keys:
        side = {"image": "images", "text": "captions"}[key]
        if config.selection == "hits" and not embeddings.manifest.config.get(side, True):
            raise ConfigError(
                f"retrieve.keys has {key}, but embed.{side}=false leaves no vectors of them; take {key} out of "
                "retrieve.keys"
            )
    if config.image_share and config.selection == "hits":
        if len(set(config.keys)) < 2:
            raise ConfigError(
                "retrieve.image_share divides a class's pairs between two keys; set retrieve.keys=[image, text], or "
                "retrieve.image_share=0"
            )
        if not (config.pairs_per_class or config.max_pairs):
            raise ConfigError(
                "retrieve.image_share divides a number of pairs, and there is no limit; set retrieve.pairs_per_class, "
                "or retrieve.image_share=0"
            )
    if has_seed_images and "image" not in config.keys:
        raise ConfigError("tasks.seed_images are compared with images; add image to retrieve.keys")
    if has_seed_images and not same_image_tower(embeddings.facts.backbone, queries.facts.backbone):
        raise ArtifactMismatch(OTHER_IMAGES.format(embeddings.uri, "tasks.seed_images"))
