"""Self-attention without the copies that torch's MultiheadAttention makes.

Takes a model whose attention is nn.MultiheadAttention, leaves its parameters, names and values as they are.
Next: clip/backbone.py, which does this to every model that it loads.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


class SelfAttention(nn.MultiheadAttention):
    """Whatever is not self-attention on [B, N, D] without dropout and weights goes to torch's own."""

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


def use_self_attention(model: nn.Module) -> None:
    for module in model.modules():
        if type(module) is nn.MultiheadAttention and module.in_proj_weight is not None:
            module.__class__ = SelfAttention
