"""Finds pretrained weights: an open_clip tag, a repository on the Hugging Face hub, or a file by its URI.

Takes the model name and the tag or file of a BackboneConfig, gives a local path; whatever the hub has is downloaded
once.
"""

from __future__ import annotations

import difflib
from typing import Any

import open_clip
from open_clip.pretrained import download_pretrained_from_hf

from react_ray.clip.config import BackboneConfig
from react_ray.clip.identity import WEIGHT_FILES
from react_ray.errors import BackboneError
from react_ray.storage import local_file

HUB = "hf-hub:"


def tag_config(name: str, pretrained: str) -> dict[str, Any]:
    """Returns open_clip's entry for a tag of this model (URL, normalisation, activation), {} if it has no such tag."""
    if not pretrained or name.startswith(HUB) or name.endswith(".json"):
        return {}
    return open_clip.get_pretrained_cfg(name, pretrained)


def local_weights(config: BackboneConfig, override: bool) -> str:
    """Returns the local path of the weights, "" for random weights.

    override: config.pretrained also takes the place of the weights that a hub repository comes with.
    """
    name, pretrained = config.name, config.pretrained
    if name.startswith(HUB) and not override:
        return hub_file(name.removeprefix(HUB))
    if not pretrained:
        return ""
    tag = tag_config(name, pretrained)
    return _download(tag, name, pretrained) if tag else _weights_file(name, pretrained)


def hub_file(repository: str, filename: str | None = None, cache_dir: str | None = None) -> str:
    """Returns the local path of a file on the Hugging Face hub. None: the file with the weights, whatever its name."""
    try:
        wanted = {} if filename is None else {"filename": filename}
        return download_pretrained_from_hf(repository, cache_dir=cache_dir, **wanted)
    except Exception as error:  # whatever the hub's client raises, the answer is the same
        raise BackboneError(
            f"{filename or 'the weights'} of {repository} could not be downloaded ({str(error).splitlines()[0]}); "
            "go online once, or name a local file"
        ) from error


def _download(tag: dict[str, Any], name: str, pretrained: str) -> str:
    try:
        return open_clip.download_pretrained(tag)
    except Exception as error:  # as above
        raise BackboneError(
            f"backbone.pretrained={pretrained}: the weights of {name} could not be downloaded "
            f"({str(error).splitlines()[0]}); go online once, or name a local file"
        ) from error


def _weights_file(name: str, pretrained: str) -> str:
    if pretrained.endswith(WEIGHT_FILES) or "/" in pretrained:
        return local_file(pretrained)
    tags = [] if name.endswith(".json") else open_clip.list_pretrained_tags_by_model(name)
    near = difflib.get_close_matches(pretrained, tags, n=3, cutoff=0.3) or tags[:3]
    hint = f"did you mean {' or '.join(near)}?" if near else "name a .safetensors or .pt file"
    raise BackboneError(f"backbone.pretrained={pretrained}: neither a tag of {name} nor a file of weights; {hint}")
