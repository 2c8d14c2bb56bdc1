"""Loads a model by its BackboneConfig: a plain CLIP, or one with gated blocks or low-rank updates. All stages use
this."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from react_ray.clip.backbone import Backbone, make_backbone
from react_ray.clip.config import BackboneConfig
from react_ray.clip.weights import read_info
from react_ray.gated.attach import attach_gated_blocks, gated_layers
from react_ray.gated.checkpoint import load_gated, load_official
from react_ray.storage import local_file


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
