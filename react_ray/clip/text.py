"""Computes text features without the padding after the end token.

A causal text tower whose output is read at the end token does not depend on later tokens. Takes int64 tokens [B, T]
from the tokenizer, gives features [B, D] equal to `model.encode_text` up to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

TEXT_PARTS = ("token_embedding", "transformer", "ln_final", "positional_embedding", "text_projection", "attn_mask")


def text_features(model: nn.Module, text_BT: Tensor, length: int | None = None) -> Tensor:
    """Returns `model.encode_text(text_BT)`, not normalised, from the tokens up to the last end token of the batch.

    length: number of those tokens, if the caller knows it: to read it from an accelerator would wait for its queue.
    """
    if not can_truncate(model):
        return model.encode_text(text_BT)  # type: ignore[operator]
    tower: Any = text_tower(model)
    length = int(text_BT.argmax(dim=-1).max()) + 1 if length is None else length
    text_BT = text_BT[:, :length]
    dtype = tower.transformer.get_cast_dtype()
    x_BTW = tower.token_embedding(text_BT).to(dtype) + tower.positional_embedding[:length].to(dtype)
    x_BTW = tower.transformer(x_BTW, attn_mask=tower.attn_mask[:length, :length])
    rows_B = torch.arange(len(text_BT), device=text_BT.device)
    x_BW = tower.ln_final(x_BTW[rows_B, text_BT.argmax(dim=-1)])
    if isinstance(tower.text_projection, nn.Linear):
        return tower.text_projection(x_BW)
    return x_BW if tower.text_projection is None else x_BW @ tower.text_projection


def text_tower(model: nn.Module) -> nn.Module:
    """Returns the text tower: CLIP keeps it at top level, CustomTextCLIP under `text`."""
    return model if hasattr(model, "token_embedding") else model.get_submodule("text")


def drop_text_tower(model: nn.Module) -> None:
    """Frees the text tower for a training that reads the captions' vectors; image tower and logit_scale stay."""
    if not hasattr(model, "token_embedding"):
        model.text = None  # type: ignore[assignment]
        return
    for name in TEXT_PARTS:
        if hasattr(model, name):
            setattr(model, name, None)


def can_truncate(model: nn.Module) -> bool:
    """Returns True if attention is causal and the feature is read at the end token, the largest id of its row."""
    tower = text_tower(model)
    return (
        getattr(tower, "attn_mask", None) is not None
        and getattr(tower, "text_pool_type", getattr(tower, "pool_type", "")) == "argmax"
        and getattr(tower, "cls_emb", None) is None
        and not getattr(tower, "use_pad_mask", False)
        and not getattr(tower, "output_tokens", False)
    )
