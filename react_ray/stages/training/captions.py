"""Decides where the text vectors of a training come from: the retrieved set, or the text tower in each step."""

from __future__ import annotations

from typing import Any

from react_ray.artifact import Artifact
from react_ray.clip.identity import same_text_tower, short_name
from react_ray.errors import ArtifactMismatch
from react_ray.gated.config import CustomizeConfig, needs_text_tower
from react_ray.kinds import RetrievedFacts


def with_captions(
    config: CustomizeConfig, retrieved: Artifact[RetrievedFacts], backbone: dict[str, Any], has_vectors: bool = True
) -> CustomizeConfig:
    """Returns `config`, with live_text where `customize.backbone` cannot use the stored vectors, or where there are
    none.

    Raises ArtifactMismatch if stored vectors are needed and another model made them.
    """
    made_by = retrieved.facts.backbone
    same = same_text_tower(made_by, backbone)
    if config.backbone.name and not (same and has_vectors):
        config = config.model_copy(update={"live_text": True})
    if not needs_text_tower(config) and not same:
        names = ("name", "tag", "dim", "text_sha256")
        differing = [name for name in names if made_by.get(name) != backbone.get(name)]
        shown = ", ".join(
            f"{name} {_short(made_by.get(name))} there, {_short(backbone.get(name))} here" for name in differing
        )
        raise ArtifactMismatch(
            f"the captions of {retrieved.uri} were embedded by another text tower ({shown}); set "
            "customize.live_text=true, or embed and retrieve with this backbone"
        )
    return config


def told_of_backbone(config: CustomizeConfig) -> str:
    """Where the captions' vectors of `customize.backbone` come from, for the user; "" for the recipe's own backbone."""
    if not config.backbone.name:
        return ""
    captions = (
        "its text tower runs in each step"
        if needs_text_tower(config)
        else "captions are the stored vectors, its text tower made them"
    )
    return f"customises {short_name(config.backbone)}: {captions}"


def _short(value: Any) -> str:
    return str(value)[:12]
