"""Gated-image tuning written out in plain PyTorch, from a state dict: no open_clip, no code of the package."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]
BLOCK = "visual.transformer.resblocks."


def attention(x: Tensor, state: State, prefix: str, heads: int) -> Tensor:
    batch, tokens, width = x.shape
    qkv = x @ state[f"{prefix}in_proj_weight"].T + state[f"{prefix}in_proj_bias"]
    q, k, v = (part.view(batch, tokens, heads, -1).transpose(1, 2) for part in qkv.split(width, dim=-1))
    weights = (q @ k.transpose(-1, -2) / math.sqrt(width // heads)).softmax(-1)
    mixed = (weights @ v).transpose(1, 2).reshape(batch, tokens, width)
    return mixed @ state[f"{prefix}out_proj.weight"].T + state[f"{prefix}out_proj.bias"]


def norm(x: Tensor, state: State, prefix: str) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], state[f"{prefix}weight"], state[f"{prefix}bias"], 1e-5)


def mlp(x: Tensor, state: State, prefix: str) -> Tensor:
    hidden = F.gelu(x @ state[f"{prefix}c_fc.weight"].T + state[f"{prefix}c_fc.bias"])
    return hidden @ state[f"{prefix}c_proj.weight"].T + state[f"{prefix}c_proj.bias"]


def encode_image(image: Tensor, state: State, heads: int) -> Tensor:
    patches = F.conv2d(image, state["visual.conv1.weight"], stride=state["visual.conv1.weight"].shape[-1])
    x = patches.flatten(2).transpose(1, 2)
    x = torch.cat([state["visual.class_embedding"].expand(len(x), 1, -1), x], 1) + state["visual.positional_embedding"]
    x = norm(x, state, "visual.ln_pre.")
    for layer in range(1 + max(int(name.split(".")[3]) for name in state if name.startswith(BLOCK))):
        own, new = f"{BLOCK}{layer}.", f"{BLOCK}{layer}.gated_attn_block."
        if f"{new}alpha_attn" in state:
            x = x + state[f"{new}alpha_attn"].tanh() * attention(
                norm(x, state, f"{new}ln_1."), state, f"{new}attn.", heads
            )
            x = x + state[f"{new}alpha_dense"].tanh() * mlp(norm(x, state, f"{new}ln_2."), state, f"{new}mlp.")
        x = x + attention(norm(x, state, f"{own}ln_1."), state, f"{own}attn.", heads)
        x = x + mlp(norm(x, state, f"{own}ln_2."), state, f"{own}mlp.")
    return norm(x[:, 0], state, "visual.ln_post.") @ state["visual.proj"]


def info_nce(image: Tensor, text: Tensor, logit_scale: Tensor) -> Tensor:
    logits = logit_scale.exp() * F.normalize(image, dim=1) @ F.normalize(text, dim=1).T
    target = torch.arange(len(logits))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def adamw(
    state: State,
    grads: State,
    moments: dict[str, list[Tensor]],
    step: int,
    lr: float,
    decay: float,
    beta1: float,
    beta2: float,
    eps: float,
) -> None:
    """In place, step counted from 1; no decay for fewer than two dimensions, as in REACT."""
    for name, grad in grads.items():
        first, second = moments.setdefault(name, [torch.zeros_like(grad), torch.zeros_like(grad)])
        first.mul_(beta1).add_(grad, alpha=1 - beta1)
        second.mul_(beta2).add_(grad * grad, alpha=1 - beta2)
        value = state[name]
        if value.ndim >= 2:
            value.mul_(1 - lr * decay)
        value.sub_(lr * (first / (1 - beta1**step)) / ((second / (1 - beta2**step)).sqrt() + eps))
    state["logit_scale"].clamp_(0, math.log(100))
