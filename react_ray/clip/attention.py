"""Replaces torch's MultiheadAttention with self-attention that makes fewer copies; parameters, names and values stay.

torch's module copies the projected queries, keys and values into a layout of its own, and back, at every call.
SelfAttention hands views of one projection to scaled_dot_product_attention. clip/architecture.py builds every model
with it. The gain is small: of ViT-B-32's processor seconds (fp32, one thread) it saves 2 % of the image tower's
forward pass and 5 % of the text tower's forward and backward; the image tower's backward and the text tower's forward
are within 1 % of torch's (`python -m tests.benchmark.bench_attention`). Vectors differ from torch's in their last
bits, so that a change of this file changes the content hashes of artifacts.
"""

from __future__ import annotations

import logging
from functools import cache
from importlib.metadata import version
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

logger = logging.getLogger(__name__)


class SelfAttention(nn.MultiheadAttention):
    """Self-attention on [B, N, D] without dropout, padding mask and returned weights; torch's forward does the rest."""

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        special = need_weights or key_padding_mask is not None or kwargs or self.dropout or not self.batch_first
        if special or query is not key or key is not value or query.ndim != 3 or self.bias_k is not None:
            return super().forward(query, key, value, key_padding_mask, need_weights, attn_mask, **kwargs)
        batch, num_tokens, dim = query.shape
        qkv_BN3HE = F.linear(query, self.in_proj_weight, self.in_proj_bias).view(
            batch, num_tokens, 3, self.num_heads, -1
        )
        q_BHNE, k_BHNE, v_BHNE = (part.transpose(1, 2) for part in qkv_BN3HE.unbind(2))
        mask = (
            attn_mask
            if attn_mask is None or attn_mask.ndim == 2
            else attn_mask.view(batch, self.num_heads, *attn_mask.shape[1:])
        )
        mixed_BHNE = F.scaled_dot_product_attention(q_BHNE, k_BHNE, v_BHNE, attn_mask=_as(mask, q_BHNE))
        return self.out_proj(mixed_BHNE.transpose(1, 2).reshape(batch, num_tokens, dim)), None


def _as(mask: Tensor | None, like: Tensor) -> Tensor | None:
    return mask.to(like.dtype) if mask is not None and mask.is_floating_point() else mask


def use_self_attention(model: nn.Module) -> int:
    """Turns every nn.MultiheadAttention of the model into SelfAttention and returns how many there were.

    Where there was none and the model has attention of another class, a warning says so, once per class and process:
    that is what becomes of open_clip's own models in its version 4.
    """
    num_replaced, others = 0, set()
    for module in model.modules():
        if type(module) is nn.MultiheadAttention and module.in_proj_weight is not None:
            module.__class__ = SelfAttention
            num_replaced += 1
        elif getattr(module, "in_proj_weight", None) is not None:
            others.add(f"{type(module).__module__}.{type(module).__qualname__}")
    if not num_replaced:
        for name in sorted(others):
            _warn_once(name)
    return num_replaced


@cache
def _warn_once(attention: str) -> None:
    logger.warning(
        "the fast self-attention applies to no module of this model, whose attention is %s (open_clip_torch %s): "
        "the model runs slower, and its vectors may differ in their last bits; install open_clip_torch>=3.3,<4",
        attention,
        version("open_clip_torch"),
    )
