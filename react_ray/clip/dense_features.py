"""Computes a vector in the space of CLIP's texts for each patch of an image, in the way of MaskCLIP (arXiv 2112.01071).

Takes a CLIP and float images [B, 3, S, S], S a multiple of the patch size, gives unit vectors [B, D, S/P, S/P]. In the
last block each token attends to itself alone, so that its value, and not a mixture of all values, passes the output
projection; the rest of the block, the last norm and the projection stay. Gated blocks run before their hosts, as ever.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from react_ray.clip.image_tower import is_plain_vit
from react_ray.errors import BackboneError, ConfigError


def check_dense(model: nn.Module, size: int) -> None:
    """BackboneError for a tower without patches, ConfigError for a size that is not made of whole patches."""
    visual: Any = model.visual
    if not is_plain_vit(visual):
        raise BackboneError(
            f"a {type(visual).__name__} has no patch tokens; leave evaluate.segmentation and evaluate.detection empty"
        )
    if size % visual.patch_size[0]:
        patch = visual.patch_size[0]
        raise ConfigError(
            f"evaluate.dense_size={size} is no multiple of the patch size {patch}; set {max(1, size // patch) * patch}"
        )


@torch.no_grad()
def dense_features(model: nn.Module, image_BCHW: Tensor) -> Tensor:
    """Returns float32 [B, D, h, w]. For another size than the model's its position embeddings are interpolated."""
    visual: Any = model.visual
    map_BWhw = visual.conv1(image_BCHW)
    x_BND = map_BWhw.flatten(2).transpose(1, 2)
    first_B1D = visual.class_embedding.to(x_BND.dtype).expand(len(x_BND), 1, -1)
    x_BND = torch.cat([first_B1D, x_BND], dim=1) + _positions(visual, map_BWhw.shape[-2:]).to(x_BND.dtype)
    x_BND = visual.ln_pre(x_BND)
    *before, last = visual.transformer.resblocks
    for block in before:
        x_BND = block(x_BND)
    x_BND = visual.ln_post(_each_token_alone(last, x_BND)[:, 1:])
    x_BND = x_BND if visual.proj is None else x_BND @ visual.proj
    return F.normalize(x_BND.float(), dim=-1).transpose(1, 2).unflatten(2, map_BWhw.shape[-2:])


def _each_token_alone(block: Any, x_BND: Tensor) -> Tensor:
    """The block if every token attended to itself alone: the softmax over one token is 1."""
    for hook in block._forward_pre_hooks.values():
        changed = hook(block, (x_BND,))
        if changed is not None:
            (x_BND,) = changed
    attention, dim = block.attn, x_BND.shape[-1]
    value_BND = F.linear(block.ln_1(x_BND), attention.in_proj_weight[2 * dim :], attention.in_proj_bias[2 * dim :])
    x_BND = x_BND + block.ls_1(attention.out_proj(value_BND))
    return x_BND + block.ls_2(block.mlp(block.ln_2(x_BND)))


def _positions(visual: Any, grid: tuple[int, int]) -> Tensor:
    """The position embeddings [1 + h * w, W] of a grid of patches; those of patches are resized as open_clip does."""
    positions_NW = visual.positional_embedding
    if tuple(grid) == tuple(visual.grid_size):
        return positions_NW
    map_1Whw = positions_NW[None, 1:].transpose(1, 2).unflatten(2, visual.grid_size).float()
    resized_1Whw = F.interpolate(map_1Whw, size=tuple(grid), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([positions_NW[:1], resized_1Whw.flatten(2)[0].T.to(positions_NW)])
