"""Loads a model by its BackboneConfig: a plain CLIP, or one with gated blocks or low-rank updates. All stages use
this. A model that a run has trained is loaded by the URI of the run, at the weight with which its table was scored.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from react_ray.clip.backbone import Backbone, make_backbone
from react_ray.clip.config import RANDOM, BackboneConfig
from react_ray.clip.weights import read_info
from react_ray.errors import ConfigError
from react_ray.gated.attach import attach_gated_blocks, gated_layers
from react_ray.gated.checkpoint import load_gated, load_official
from react_ray.gated.trained import GATED_FILE, find_trained, require_clip
from react_ray.gated.wise_ft import interpolate
from react_ray.storage import join, local_file


def load_backbone(
    config: BackboneConfig, device: str | torch.device = "cpu", seed: int = 0, weights: str = ""
) -> Backbone:
    """The model in eval mode, all parameters float32. seed: of random weights and of gated blocks that are in no file.

    If config.gated names the seed of the random weights that it was trained on, that seed is used.
    weights: tag or file to read instead of config.pretrained, which still decides activation and preprocessing.
    """
    gated = local_file(config.gated) if config.gated else ""

    def load(model: nn.Module, state: dict[str, Tensor] | None, path: str) -> None:
        if state is not None:
            load_official(model, state, path)
        if config.last_k_layers and not gated_layers(model):
            attach_gated_blocks(model, config.last_k_layers, generator=torch.Generator().manual_seed(seed))
        if gated:
            load_gated(model, gated)

    return make_backbone(config, load, device, read_info(gated).get("seed", seed), weights)


def load_customised(
    uri: str, wise_ft: float | None = None, arm: str = "", device: str | torch.device = "cpu", base: str = ""
) -> Backbone:
    """The customised model on the backbone that its file names, or an interpolation between the two.

    uri: as in `find_trained`, or a gated.safetensors, which is loaded as it was trained unless wise_ft says otherwise.
    base: tag or file of the backbone's weights, where they are no longer at the place that the file names.
    """
    path, weight = weights_of(uri, wise_ft, arm)
    info = read_info(path)
    config = backbone_of(info, uri)
    backbone = load_backbone(config.model_copy(update={"gated": path}), device, weights=base)
    if weight != 1:
        if config.pretrained == RANDOM and "seed" not in info and not base:
            raise ConfigError(
                f"{uri} was trained on random weights of a seed that it does not say; leave wise_ft at 1, or run "
                "customize again"
            )
        interpolate(load_backbone(config, seed=info.get("seed", 0), weights=base).model, backbone.model, weight)
    return backbone


def weights_of(uri: str, wise_ft: float | None, arm: str) -> tuple[str, float]:
    """(local path of the trained weights, the WiSE-FT weight at which they are used)"""
    if uri.endswith(".safetensors"):
        if arm:
            raise ConfigError(
                f"{uri} is one file of weights, which has no arm {arm}; name the run, or leave the arm out"
            )
        return local_file(uri), 1.0 if wise_ft is None else wise_ft
    found = find_trained(uri, arm, wise_ft)
    require_clip(found)
    return local_file(join(found.uri, GATED_FILE)), found.tower_wise_ft


def backbone_of(info: dict[str, Any], uri: str) -> BackboneConfig:
    """The backbone that a file of trained weights names. info: as `read_info` returns it."""
    if "backbone_config" not in info:
        raise ConfigError(
            f"{uri} does not say which backbone it was trained on; load it with create_model_and_transforms(base=...)"
        )
    return BackboneConfig.model_validate(info["backbone_config"])
