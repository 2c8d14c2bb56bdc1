"""Puts gated blocks before the last blocks of an open_clip image tower, which must have `transformer.resblocks`.

The host blocks stay as they are: a forward pre-hook runs the gated block on their input, so that state-dict names are
those of the released checkpoints (`visual.transformer.resblocks.{i}.gated_attn_block.*`) and open_clip needs no change.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn

from react_ray.clip.image_tower import image_blocks
from react_ray.errors import BackboneError
from react_ray.gated.block import GatedBlock

NAME = "gated_attn_block"


def attach_gated_blocks(
    model: nn.Module,
    last_k: int,
    init: Literal["random", "copy"] = "random",
    generator: torch.Generator | None = None,
) -> None:
    """Adds a gated block before each of the last `last_k` image blocks, gates at zero: outputs stay bit-identical.

    init: "random" is PyTorch's default, as in REACT; "copy" starts each block as a copy of its host.
    generator: source of the random start, None = torch's global one. The MLP ratio is 4 whatever the host has.
    Raises BackboneError if the tower has no such blocks, has too few of them, or has gated blocks already.
    """
    blocks = image_blocks(model)
    if not 1 <= last_k <= len(blocks):
        raise BackboneError(
            f"last_k_layers={last_k}, but the image tower has {len(blocks)} blocks; choose 1 to {len(blocks)}"
        )
    if gated_layers(model):
        raise BackboneError("the image tower has gated blocks already; load the plain backbone first")
    with torch.random.fork_rng(devices=[], enabled=generator is not None):
        if generator is not None:
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator, device=generator.device)))
        for host in blocks[len(blocks) - last_k :]:
            _attach(host, init)


def _attach(host: Any, init: str) -> None:
    weight = host.mlp.c_fc.weight
    block = GatedBlock(
        d_model=weight.shape[1],
        n_head=host.attn.num_heads,
        act_layer=type(host.mlp.gelu),
        norm_layer=type(host.ln_1),
        batch_first=getattr(host.attn, "batch_first", True),
    ).to(weight.device, weight.dtype)
    if init == "copy":
        own = block.state_dict()
        theirs = host.state_dict()
        for name in own.keys() - {"alpha_attn", "alpha_dense"}:
            if name not in theirs or theirs[name].shape != own[name].shape:
                raise BackboneError(f"init=copy: the host block has no {name} {list(own[name].shape)}; use init=random")
            own[name].copy_(theirs[name])
    block.train(host.training)
    host.add_module(NAME, block)
    host.register_forward_pre_hook(_run_gated_block)


def _run_gated_block(host: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return (host.get_submodule(NAME)(args[0]), *args[1:])


def gated_layers(model: nn.Module) -> list[int]:
    """Indices of the image blocks that have a gated block before them."""
    return [i for i, block in enumerate(image_blocks(model)) if hasattr(block, NAME)]


def gates(model: nn.Module) -> dict[str, float]:
    """tanh of every gate, by layer: {"06.attn": 0.01, "06.dense": ...}; they show the health of a training."""
    out = {}
    for i in gated_layers(model):
        block: Any = image_blocks(model)[i].get_submodule(NAME)
        out[f"{i:02d}.attn"] = torch.tanh(block.alpha_attn.detach()).item()
        out[f"{i:02d}.dense"] = torch.tanh(block.alpha_dense.detach()).item()
    return out
