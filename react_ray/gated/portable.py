"""Converts a gated model to an ordinary ViT with more blocks, which open_clip and everything built on it can load.

A gated block is a pre-norm block whose two branches are multiplied by tanh(gate). Each branch ends in a linear map, so
the factor goes into that map, and each of the last k blocks becomes two. A narrower MLP (bigG's) is padded with zeros,
which give act(0) = 0. Outputs equal those of the gated model up to rounding.
"""

from __future__ import annotations

import copy
import re
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from react_ray.clip.image_tower import image_blocks
from react_ray.clip.weights import official_state_dict
from react_ray.errors import BackboneError
from react_ray.gated.attach import NAME, gated_layers

HOST = re.compile(r"(visual\.transformer\.resblocks\.)(\d+)\.(.*)")
GATES = ("alpha_attn", "alpha_dense")


def portable_config(model: nn.Module, model_cfg: dict[str, Any]) -> dict[str, Any]:
    """open_clip's `model_cfg`, with the gated blocks counted as layers."""
    out = copy.deepcopy(model_cfg)
    out["vision_cfg"]["layers"] = len(image_blocks(model)) + len(gated_layers(model))
    return out


def portable_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """Weights for a model with `portable_config`: CPU copies in the model's own dtype."""
    state = official_state_dict(model)
    layers = gated_layers(model)
    if not layers:
        return state
    if any("ls_1" in name for name in state):
        raise BackboneError("a tower with LayerScale has no portable form; export --layout official")
    width = state["visual.transformer.resblocks.0.mlp.c_fc.weight"].shape[0]
    out = {}
    for name, value in state.items():
        if not (match := HOST.fullmatch(name)):
            out[name] = value
            continue
        prefix, layer, rest = match[1], int(match[2]), match[3]
        place = layer + sum(1 for gated in layers if gated < layer)
        if not rest.startswith(f"{NAME}."):
            out[f"{prefix}{place + (layer in layers)}.{rest}"] = value
            continue
        own = rest.removeprefix(f"{NAME}.")
        if own not in GATES:
            block = f"{prefix}{layer}.{NAME}."
            out[f"{prefix}{place}.{own}"] = _widened(own, _scaled(own, value, state, block), width)
    return out


def _scaled(name: str, value: Tensor, state: dict[str, Tensor], block: str) -> Tensor:
    gate = {"attn.out_proj": GATES[0], "mlp.c_proj": GATES[1]}.get(name.rpartition(".")[0])
    return value if gate is None else (value.double() * torch.tanh(state[block + gate].double())).to(value.dtype)


def _widened(name: str, value: Tensor, width: int) -> Tensor:
    """The MLP of a gated block has ratio 4; its host's MLP may be wider."""
    if not name.startswith("mlp."):
        return value
    missing = width - value.shape[0 if name.startswith("mlp.c_fc") else -1]
    if name == "mlp.c_proj.bias" or missing == 0:
        return value
    if missing < 0:
        raise BackboneError("the host's MLP is narrower than the gated one; export --layout official")
    if name == "mlp.c_proj.weight":
        return F.pad(value, (0, missing))
    return F.pad(value, (0, 0, 0, missing) if value.ndim == 2 else (0, missing))
