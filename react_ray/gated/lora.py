"""Adds low-rank updates (LoRA, arXiv 2106.09685) to the last blocks of an image tower: a baseline beside gated blocks.

Each matrix W of a block becomes W + alpha / rank * B A, with B at zero, so that outputs stay as they are. The updates
are torch parametrizations, because attention reads `in_proj_weight` as a tensor: peft, which replaces modules, would
write that frozen matrix anew in every step, changed by rounding. A file holds A and B, which are added to the matrices
when it is loaded.
"""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from react_ray.clip.image_tower import image_blocks
from react_ray.errors import BackboneError

MATRICES = (("attn", "in_proj_weight"), ("attn.out_proj", "weight"), ("mlp.c_fc", "weight"), ("mlp.c_proj", "weight"))
PARAMETER = re.compile(r"(.+)\.parametrizations\.(\w+)\.0\.(lora_[AB])")
UPDATES = (".lora_A", ".lora_B")


class LowRank(nn.Module):
    """W -> W + alpha / rank * B A."""

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        self.lora_A = nn.Parameter(torch.empty(rank, weight.shape[1], dtype=weight.dtype, device=weight.device))
        self.lora_B = nn.Parameter(torch.zeros(weight.shape[0], rank, dtype=weight.dtype, device=weight.device))
        self.scale = alpha / rank
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.scale * (self.lora_B @ self.lora_A)


def attach_lora(model: nn.Module, last_k: int, rank: int, alpha: float, seed: int = 0) -> None:
    """Adds updates to the four matrices of each of the last `last_k` image blocks; outputs stay bit-identical."""
    blocks = image_blocks(model)
    if not 1 <= last_k <= len(blocks):
        raise BackboneError(
            f"last_k_layers={last_k}, but the image tower has {len(blocks)} blocks; choose 1 to {len(blocks)}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for block in blocks[len(blocks) - last_k :]:
            for path, name in MATRICES:
                module = block.get_submodule(path)
                update = LowRank(module.get_parameter(name), rank, alpha)
                parametrize.register_parametrization(module, name, update)


def lora_state(state: dict[str, Tensor], scale: float) -> dict[str, Tensor]:
    """The tensors of a file: updates are named for their matrices, `....in_proj_weight.lora_A`, and B holds the
    factor."""
    out = {}
    for name, value in state.items():
        match = PARAMETER.fullmatch(name)
        if match is None:
            out[name] = value
        else:
            out[f"{match[1]}.{match[2]}.{match[3]}"] = value * scale if match[3] == "lora_B" else value
    return out


def is_lora(state: dict[str, Tensor]) -> bool:
    return any(name.endswith(UPDATES) for name in state)


def merged(model: nn.Module, state: dict[str, Tensor], origin: str) -> dict[str, Tensor]:
    """`state` with the plain model's whole matrices W + B A instead of A and B."""
    own, out = model.state_dict(), {}
    for name, value in state.items():
        if not name.endswith(UPDATES):
            out[name] = value
            continue
        matrix = name.rpartition(".")[0]
        pair = [state.get(f"{matrix}{end}") for end in UPDATES]
        if matrix not in own or pair[0] is None or pair[1] is None or own[matrix].ndim != 2:
            raise BackboneError(
                f"{origin} does not fit the model: no matrix {matrix} or half of its update; name the model that it "
                "was made for"
            )
        update = pair[1].float() @ pair[0].float()
        if update.shape != own[matrix].shape:
            raise BackboneError(
                f"{origin}: {matrix} is {list(update.shape)}, the model has {list(own[matrix].shape)}; name the model "
                "that it was made for"
            )
        out[matrix] = own[matrix] + update.to(own[matrix])
    return out


def plain_name(name: str) -> str:
    """The name that a frozen tensor has in a model without updates, for digests of the backbone."""
    return re.sub(r"\.parametrizations\.(\w+)\.original$", r".\1", name)


def lora_modules(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, LowRank)]
