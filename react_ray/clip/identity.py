"""Identifies the model that made some vectors, and decides whether another model's vectors may be compared with them.

Takes and gives the plain dicts that `Backbone.describe` returns and manifests keep. Published vectors come without a
hash of the weights; only the name and the tag of the recipe identify their model.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from react_ray.clip.config import BackboneConfig

WEIGHT_FILES = (".pt", ".pth", ".bin", ".safetensors")
CONFIG_FILE = "open_clip_config.json"
LOCAL_DIR = "local-dir:"


def tag_of(config: BackboneConfig) -> str:
    """Returns open_clip's tag, or the name of the weights file or folder without the path to it, which may change."""
    is_file = config.pretrained.endswith(WEIGHT_FILES) or "/" in config.pretrained
    return PurePosixPath(config.pretrained).name if is_file else config.pretrained


def short_name(config: BackboneConfig) -> str:
    """Returns the name to show to people: a file, a folder or a repository without the path to it."""
    path = PurePosixPath(config.name.removeprefix(LOCAL_DIR))
    return (path.parent if path.name == CONFIG_FILE else path).name.removesuffix(".json")


def published(config: BackboneConfig, dim: int) -> dict[str, Any]:
    """Returns the facts of a model whose published vectors are used; the recipe is taken at its word."""
    return {"name": config.name, "tag": tag_of(config), "weights_sha256": "", "text_sha256": "", "dim": dim}


def same_text_tower(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Returns True if the texts of both models lie in one space.

    Weights are compared where both are known, otherwise names, tags and dimensions. The image towers may differ: the
    vectors of a gated model can be searched with queries of its base.
    """
    if one.get("text_sha256") and other.get("text_sha256"):
        return bool(one["text_sha256"] == other["text_sha256"])
    return all(_plain(one.get(key, "")) == _plain(other.get(key, "")) for key in ("name", "tag", "dim"))


def same_image_tower(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Returns True if the images of both models lie in one space; compared as in `same_text_tower`."""
    if one.get("weights_sha256") and other.get("weights_sha256"):
        return bool(one["weights_sha256"] == other["weights_sha256"])
    return not (one.get("gated") or other.get("gated")) and same_text_tower(one, other)


def _plain(value: Any) -> str:
    return str(value).removesuffix("-quickgelu").replace("/", "-")
