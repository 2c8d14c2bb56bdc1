"""Builds a CLIP that is small enough for tests, by open_clip from a JSON like any other."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

from react_ray.clip.backbone import Backbone
from react_ray.clip.config import RANDOM, BackboneConfig
from react_ray.clip.weights import official_state_dict, weights_bytes, write_whole
from react_ray.gated.load import load_backbone

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)


def tiny_config(
    folder: Path, vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None, siglip: bool = False
) -> str:
    """Writes a model configuration and returns its path: 32 px, patches of 8, width 32, 3 + 2 blocks, 16 dimensions.

    siglip: with the scale and the bias with which SigLIP begins.
    """
    spec = {
        "model_cfg": {
            "embed_dim": 16,
            "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "head_width": 16, "layers": 3}
            | (vision or {}),
            "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
            | (text or {}),
        }
        | ({"init_logit_scale": math.log(10), "init_logit_bias": -10} if siglip else {}),
        "preprocess_cfg": {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "shortest"},
    }
    path = Path(folder, "tiny.json")
    path.write_text(json.dumps(spec))
    return str(path)


def tiny_backbone(
    folder: Path,
    vision: dict[str, Any] | None = None,
    seed: int = 0,
    vocab_size: int = 49408,
    siglip: bool = False,
    **config: Any,
) -> Backbone:
    """Its weights are random unless `config` names others. A small vocab_size is faster, and enough without texts."""
    name = tiny_config(folder, vision, {"vocab_size": vocab_size}, siglip)
    return load_backbone(BackboneConfig.model_validate({"name": name, "pretrained": RANDOM, **config}), seed=seed)


def save_backbone(model: nn.Module, path: str, dtype: torch.dtype = torch.float16) -> None:
    """Writes all weights as .safetensors in the released layout."""
    write_whole(path, weights_bytes(official_state_dict(model), {}, dtype))


def images(count: int = 3) -> torch.Tensor:
    """float32 [count, 3, 32, 32], the same at each call."""
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(5))


def open_gates(model: nn.Module) -> None:
    """Opens the gates of all gated blocks, so that the blocks change the output."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "alpha" in name:
                parameter.fill_(0.7)
