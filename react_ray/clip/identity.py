"""Which model made some vectors: what manifests say of it, and whether queries of another one may meet them.

Takes and gives plain dicts as `Backbone.describe` makes them; published vectors have no hash of weights, only the name and the
tag that the recipe gives. Next: embedder.py.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from react_ray.clip.config import BackboneConfig

WEIGHT_FILES = (".pt", ".pth", ".bin", ".safetensors")


def tag_of(config: BackboneConfig) -> str:
    """open_clip's tag, or the name of the file of weights without its folder, which may be another tomorrow."""
    is_file = config.pretrained.endswith(WEIGHT_FILES)
    return PurePosixPath(config.pretrained).name if is_file else config.pretrained


def short_name(config: BackboneConfig) -> str:
    """For people: a file or a repository without its folders."""
    return PurePosixPath(config.name).name.removesuffix(".json")


def published(config: BackboneConfig, dim: int) -> dict[str, Any]:
    """Of vectors that somebody else made: the model is taken at the recipe's word."""
    return {"name": config.name, "tag": tag_of(config), "weights_sha256": "", "text_sha256": "", "dim": dim}


def same_text_tower(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """True if texts of both lie in one space: equal weights where both are known, else equal names, tags and dimensions.

    The image tower may differ: a gated model answers the queries of its own base.
    """
    if one.get("text_sha256") and other.get("text_sha256"):
        return bool(one["text_sha256"] == other["text_sha256"])
    return all(_plain(one.get(key, "")) == _plain(other.get(key, "")) for key in ("name", "tag", "dim"))


def same_image_tower(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """True if images of both lie in one space: equal weights where both are known, else equal names, tags and dimensions."""
    if one.get("weights_sha256") and other.get("weights_sha256"):
        return bool(one["weights_sha256"] == other["weights_sha256"])
    return not (one.get("gated") or other.get("gated")) and same_text_tower(one, other)


def _plain(value: Any) -> str:
    return str(value).removesuffix("-quickgelu").replace("/", "-")
