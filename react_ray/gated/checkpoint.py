"""Stores a customised model as a file with only the trained tensors, gated.safetensors, and loads it.

The bytes are the same for the same tensors. The file holds the digest of the frozen tensors, so that it can only be
loaded onto the backbone that it was trained on. State dicts in the released layout, with all tensors, are loaded here
too.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn

from react_ray.clip.image_tower import image_blocks
from react_ray.clip.weights import (
    at_the_edge,
    load_strict,
    read_info,
    read_weights,
    weights_bytes,
    weights_sha256,
    write_whole,
)
from react_ray.errors import BackboneError
from react_ray.gated.attach import NAME, attach_gated_blocks, gated_layers
from react_ray.gated.lora import is_lora, lora_modules, lora_state, merged
from react_ray.gated.method import frozen_sha256

GATED_KEY = re.compile(rf"visual\.transformer\.resblocks\.(\d+)\.{NAME}\.")


def gated_state(model: nn.Module) -> dict[str, Tensor]:
    """CPU copies of the trained tensors, by name; gates and logit_scale are scalars, LoRA's updates beside their
    matrices.
    """
    return _for_a_file(model, {name: value for name, value in model.named_parameters() if value.requires_grad})


def _for_a_file(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    updates = lora_modules(model)
    state = {name: at_the_edge(name, value) for name, value in state.items()}
    return lora_state(state, updates[0].scale) if updates else state


def gated_bytes(
    model: nn.Module,
    info: dict[str, Any],
    state: dict[str, Tensor] | None = None,
    dtype: torch.dtype | None = None,
    frozen: str = "",
) -> bytes:
    """The file gated.safetensors. info: plain JSON that `load_gated` returns.

    state: other values of the trained tensors, an average for example; None = the model's. dtype: None = as they are.
    frozen: digest of the frozen tensors, needed if the model's text tower was dropped; "" = computed here.
    """
    info = info | {"frozen_sha256": frozen or frozen_sha256(model)}
    return weights_bytes(gated_state(model) if state is None else _for_a_file(model, state), info, dtype)


def save_gated(model: nn.Module, path: str, info: dict[str, Any]) -> None:
    """`gated_bytes` as a local file, written whole or not at all."""
    write_whole(path, gated_bytes(model, info))


def load_gated(model: nn.Module, path: str, check_backbone: bool = True) -> dict[str, Any]:
    """Loads a file of `gated_bytes` into the backbone that it was trained on, and returns its info.

    Gated blocks are attached if the file has them. Raises BackboneError if a tensor is missing, unknown or of another
    shape, or (check_backbone) if the rest of the model is not, bit for bit, what the file was trained on.
    """
    state, info = read_weights(path), read_info(path)
    if is_lora(state):
        return _load_lora(model, state, info, path, check_backbone)
    _attach_as_in(model, state, path)
    layers = [f"visual.transformer.resblocks.{i}.{NAME}." for i in gated_layers(model)] if _layers(state) else []
    expected = {name for name in model.state_dict() if any(name.startswith(layer) for layer in layers)}
    unknown = set(state) - set(model.state_dict())
    load_strict(model, state, path, names=(expected | set(state)) - unknown)
    if check_backbone:
        _check_frozen({name: value for name, value in model.state_dict().items() if name not in state}, info, path)
    return info


def _load_lora(
    model: nn.Module, state: dict[str, Tensor], info: dict[str, Any], path: str, check_backbone: bool
) -> dict[str, Any]:
    """The updated matrices are part of the frozen digest, so the digest is compared before they are changed."""
    if check_backbone:
        _check_frozen({name: value for name, value in model.state_dict().items() if name not in state}, info, path)
    whole = merged(model, state, path)
    load_strict(model, whole, path, names=whole)
    return info


def _check_frozen(frozen: dict[str, Tensor], info: dict[str, Any], path: str) -> None:
    if info.get("frozen_sha256", weights_sha256(frozen)) != weights_sha256(frozen):
        raise BackboneError(
            f"{path} was trained on another backbone; load the one named in it: {info.get('backbone', '?')}"
        )


def load_official(model: nn.Module, state: dict[str, Tensor], origin: str = "the state dict") -> None:
    """Loads a full state dict; gated blocks are attached if it has them."""
    _attach_as_in(model, state, origin)
    load_strict(model, dict(state), origin)


def _layers(state: dict[str, Tensor]) -> list[int]:
    return sorted({int(match[1]) for name in state if (match := GATED_KEY.match(name))})


def _attach_as_in(model: nn.Module, state: dict[str, Tensor], origin: str) -> None:
    layers = _layers(state)
    if not layers:
        return
    num_blocks = len(image_blocks(model))
    if layers != list(range(num_blocks - len(layers), num_blocks)):
        raise BackboneError(
            f"{origin} has gated blocks {layers} of {num_blocks}, not the last ones; name its own model"
        )
    present = gated_layers(model)
    if not present:
        # Every value is overwritten: a fixed start leaves torch's global random state alone.
        attach_gated_blocks(model, len(layers), generator=torch.Generator().manual_seed(0))
    elif present != layers:
        raise BackboneError(f"{origin} has gated blocks {layers}, the model {present}; set last_k_layers={len(layers)}")
