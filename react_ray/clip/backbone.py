"""Backbone: the frozen CLIP with its tokenizer, its preprocessing and the facts that manifests keep of it.

Takes a BackboneConfig and a function that puts the weights into the model, gives a Backbone in eval mode.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from open_clip.convert import convert_state_dict
from open_clip.model import convert_to_custom_text_state_dict
from open_clip.transform import PreprocessCfg, image_transform_v2
from torch import Tensor, nn

from react_ray.clip.architecture import architecture, build_model, context_length, load_tokenizer, settled
from react_ray.clip.config import BackboneConfig
from react_ray.clip.identity import tag_of
from react_ray.clip.pretrained import local_weights
from react_ray.clip.weights import read_weights, weights_sha256
from react_ray.errors import BackboneError
from react_ray.pairs.image import CropMode, Interpolation
from react_ray.progress import say

# (model, state dict or None for random weights, the path that it was read from)
LoadWeights = Callable[[nn.Module, dict[str, Tensor] | None, str], None]


@dataclass
class Backbone:
    model: nn.Module
    tokenizer: Callable[[list[str]], Tensor]  # texts -> int64 [N, context_length]
    image_size: int  # pixels, of a square
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dim: int
    context_length: int
    weights_sha256: str  # digest of the names and raw bytes of all tensors
    text_sha256: str  # the same digest over the tensors of the text tower
    config: BackboneConfig
    preprocess: dict[str, Any]
    model_cfg: dict[str, Any]  # in the layout of open_clip's files, with the activation that the weights need

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def crop(self) -> CropMode:
        """How an image becomes a square: the way that the weights were trained with (SigLIP squashes, CLIP crops)."""
        return "squash" if self.preprocess["resize_mode"] == "squash" else "center_crop"

    def squashing(self) -> Backbone:
        """The same model, whose images become a square whatever their shape."""
        return replace(self, preprocess=self.preprocess | {"resize_mode": "squash"})

    @property
    def interpolation(self) -> Interpolation:
        return "bilinear" if self.preprocess["interpolation"] == "bilinear" else "bicubic"

    def normalize(self, image_BCHW: Tensor, size: int = 0) -> Tensor:
        """uint8 or float images in [0, 255], already size x size -> float32 on the model's device.

        size: 0 = image_size, which is what every tower takes.
        """
        size = size or self.image_size
        if image_BCHW.shape[1:] != (3, size, size):
            raise ValueError(f"images are {list(image_BCHW.shape)}, not [B, 3, {size}, {size}]; resize them first")
        mean, std = (torch.tensor(v, device=self.device).view(1, 3, 1, 1) * 255 for v in (self.mean, self.std))
        return (image_BCHW.to(self.device).float() - mean) / std

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16")

    def describe(self) -> dict[str, Any]:
        """Returns the facts that a manifest keeps of the model that made its artifact."""
        return {
            "name": self.config.name,
            "tag": tag_of(self.config),
            "weights_sha256": self.weights_sha256,
            "text_sha256": self.text_sha256,
            "image_size": self.image_size,
            "mean": list(self.mean),
            "std": list(self.std),
            "crop": self.crop,
            "interpolation": self.interpolation,
            "dim": self.dim,
            "precision": self.config.precision,
        }


def make_backbone(
    config: BackboneConfig, load: LoadWeights, device: str | torch.device = "cpu", seed: int = 0, weights: str = ""
) -> Backbone:
    """Builds the model in eval mode with float32 parameters. seed: draws random weights.

    load: puts the weights into the model and attaches whatever else belongs to it, as `load_backbone` in gated/load.py.
    weights: tag or file to read in place of config.pretrained, which still defines activation and preprocessing.
    """
    config = settled(config)
    spec, preprocess = architecture(config)
    config = config.model_copy(update={"pretrained": weights or config.pretrained})
    path = local_weights(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(spec)
    state = read_weights(path) if path else None
    if state is not None:
        state = convert_state_dict(model, state)  # released by others than open_clip, but known to it
        if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
            state = convert_to_custom_text_state_dict(state)
    load(model, state, path)
    model.eval().to(device)
    model.visual.preprocess_cfg = preprocess
    return Backbone(
        model=model,
        tokenizer=load_tokenizer(config.name, spec),
        image_size=_side(preprocess["size"]),
        mean=tuple(preprocess["mean"]),
        std=tuple(preprocess["std"]),
        dim=int(spec["embed_dim"]),
        context_length=context_length(spec),
        weights_sha256=weights_sha256(model.state_dict()),
        text_sha256=weights_sha256(_text_weights(model.state_dict())),
        config=config,
        preprocess=preprocess,
        model_cfg={k: v for k, v in spec.items() if k != "_name"},
    )


def check_weights(config: BackboneConfig) -> None:
    """Raises BackboneError, before hours of work, if the model or its weights are not there; says if they are random.

    Whatever the hub or a storage has of them is downloaded.
    """
    config = settled(config)
    architecture(config)
    if not local_weights(config):
        say(f"{config.name} has random weights, since the recipe asks for `pretrained: random`")


def transforms(backbone: Backbone) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """Returns open_clip's (train, val) transforms of PIL images for this model."""
    config = PreprocessCfg(**backbone.preprocess)
    return image_transform_v2(config, is_train=True), image_transform_v2(config, is_train=False)


def _text_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns what a text's unit vector depends on: neither the image tower nor the temperature."""
    return {name: value for name, value in state.items() if not name.startswith(("visual.", "logit_"))}


def _side(size: int | list[int] | tuple[int, ...]) -> int:
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) != 1:
        raise BackboneError(f"the image tower takes {size} pixels; choose one with square images")
    return int(sides.pop())
