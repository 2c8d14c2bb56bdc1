"""Finds pretrained weights: an open_clip tag, a repository on the Hugging Face hub, a folder, or a file by its URI.

Takes the model name and the tag or file of a BackboneConfig, gives a local path; whatever the hub has is downloaded
once. Weights are random only if the recipe says `pretrained: random`.
"""

from __future__ import annotations

import difflib
from typing import Any

import open_clip
from open_clip.pretrained import download_pretrained_from_hf

from react_ray.clip.config import RANDOM, BackboneConfig
from react_ray.clip.identity import WEIGHT_FILES
from react_ray.clip.model_folder import find_config, find_folder, weights_beside, weights_in
from react_ray.errors import BackboneError
from react_ray.storage import local_file

HUB = "hf-hub:"
NUM_SHOWN = 8  # tags in a message


def is_built_in(name: str) -> bool:
    return name in open_clip.list_models()


def tag_config(name: str, pretrained: str) -> dict[str, Any]:
    """Returns open_clip's entry for a tag of this model (URL, normalisation, activation), {} if it has no such tag."""
    return open_clip.get_pretrained_cfg(name, pretrained) if pretrained and is_built_in(name) else {}


def local_weights(config: BackboneConfig) -> str:
    """Returns the local path of the weights, "" for random weights.

    Raises BackboneError if the weights cannot be found, or if none are named and the model comes without any.
    """
    name, pretrained = config.name, config.pretrained
    if pretrained == RANDOM:
        return ""
    if pretrained:
        tag = tag_config(name, pretrained)
        return _download(tag, name, pretrained) if tag else _weights_file(name, pretrained)
    if name.startswith(HUB):
        return hub_file(name.removeprefix(HUB))
    if not is_built_in(name) and (config_uri := find_config(name)):
        return weights_beside(config_uri)
    tags = open_clip.list_pretrained_tags_by_model(name)
    more = " or another of its tags" if len(tags) > NUM_SHOWN else ""
    raise BackboneError(
        f"backbone.pretrained is empty, and {name} alone has no weights; set it to "
        + (f"{', '.join(tags[:NUM_SHOWN])}{more}, " if tags else "")
        + "the URI of a file or folder of weights, or to random"
    )


def hub_file(repository: str, filename: str | None = None, cache_dir: str | None = None) -> str:
    """Returns the local path of a file on the Hugging Face hub. None: the file with the weights, whatever its name."""
    try:
        wanted = {} if filename is None else {"filename": filename}
        return download_pretrained_from_hf(repository, cache_dir=cache_dir, **wanted)
    except Exception as error:  # whatever the hub's client raises, the answer is the same
        raise BackboneError(
            f"{filename or 'the weights'} of {repository} could not be downloaded ({_reason(error)}); "
            "go online once, or name a local file or folder"
        ) from error


def _download(tag: dict[str, Any], name: str, pretrained: str) -> str:
    try:
        return open_clip.download_pretrained(tag)
    except Exception as error:  # as above
        raise BackboneError(
            f"backbone.pretrained={pretrained}: the weights of {name} could not be downloaded ({_reason(error)}); "
            "go online once, or name a local file or folder"
        ) from error


def _weights_file(name: str, pretrained: str) -> str:
    if folder := find_folder(pretrained):
        return weights_in(folder)
    if pretrained.endswith(WEIGHT_FILES) or "/" in pretrained:
        return local_file(pretrained)
    tags = open_clip.list_pretrained_tags_by_model(name) if is_built_in(name) else []
    near = difflib.get_close_matches(pretrained, tags, n=3, cutoff=0.3) or tags[:3]
    hint = f"did you mean {' or '.join(near)}?" if near else "name a .safetensors or .pt file"
    raise BackboneError(f"backbone.pretrained={pretrained}: neither a tag of {name} nor a file of weights; {hint}")


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
