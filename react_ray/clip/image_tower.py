"""Computes image features of an open_clip model, and skips the work that cannot change them.

Takes a CLIP and float images [B, 3, S, S], gives features [B, D]. Towers without `transformer.resblocks`, such as
timm's, run unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from react_ray.errors import BackboneError


def image_blocks(model: nn.Module) -> nn.ModuleList:
    """Returns the transformer blocks of the image tower, first to last."""
    blocks = getattr(getattr(getattr(model, "visual", None), "transformer", None), "resblocks", None)
    if not isinstance(blocks, nn.ModuleList) or not all(hasattr(getattr(b, "mlp", None), "c_fc") for b in blocks):
        raise BackboneError(
            f"the image tower is a {type(getattr(model, 'visual', model)).__name__} without transformer.resblocks; "
            "use one of open_clip's own ViTs (ViT-B-32, ViT-B-16, ViT-L-14, ViT-H-14, ViT-bigG-14, ...)"
        )
    return blocks


def image_features(model: nn.Module, image_BCHW: Tensor, keep_BP: Tensor | None = None, micro_batch: int = 0) -> Tensor:
    """Returns `model.encode_image(image_BCHW)`, [B, D] not normalised, with less work where that is exact.

    keep_BP: int64, the patches that the tower sees (patch dropout, arXiv 2212.00794), None = all.
    micro_batch: number of images whose activations exist at once; the trainable blocks then run a second time in the
    backward pass. 0 = all images at once, and no second run.

    The layers before the first trainable block run without autograd. The last block computes the class token alone,
    since no other token is read after it; its keys and values are still computed for all tokens.
    """
    visual: Any = model.visual
    if not is_plain_vit(visual):
        assert keep_BP is None, "draw_patches refuses a tower without patches"
        return _in_slices(model.encode_image, image_BCHW, micro_batch)  # type: ignore[arg-type]
    num_frozen = min(_num_frozen(visual), len(visual.transformer.resblocks) - 1)
    if num_frozen == 0:
        keep = [] if keep_BP is None else [keep_BP]
        return _in_slices(lambda x, *keep: _suffix(visual, 0, _stem(visual, x, *keep)), image_BCHW, micro_batch, *keep)
    with torch.no_grad():
        x_BND = _stem(visual, image_BCHW, keep_BP)
        for block in visual.transformer.resblocks[:num_frozen]:
            x_BND = block(x_BND)
    return _in_slices(partial(_suffix, visual, num_frozen), x_BND, micro_batch)


def grid_dim(model: nn.Module, grid: int) -> int:
    """The dimensions that `grid_features` puts behind the D of the image feature; BackboneError if it cannot."""
    visual: Any = model.visual
    if not grid:
        return 0
    if not is_plain_vit(visual):
        raise BackboneError(f"a {type(visual).__name__} has no grid of patch tokens; set customize.head_grid=0")
    if grid > min(visual.grid_size):
        size = " x ".join(map(str, visual.grid_size))
        raise BackboneError(f"{grid} x {grid} cells are more than the {size} patches; lower customize.head_grid")
    return grid * grid * int(visual.positional_embedding.shape[1])


@torch.no_grad()
def grid_features(model: nn.Module, image_BCHW: Tensor, grid: int) -> Tensor:
    """Returns float32 [B, D + grid * grid * W], unit rows: what the image is, and what is where in it.

    The first D are the image feature. Behind them are the patch tokens before the last block, each normalised over its
    W, averaged over grid x grid cells, row by row. Either piece has half of the squared length. Linear heads gain from
    such intermediate features where images differ from those that the tower was trained on (Head2Toe, arXiv
    2201.03529).
    """
    visual: Any = model.visual
    if not grid:
        return F.normalize(image_features(model, image_BCHW).float(), dim=-1)
    x_BND = _stem(visual, image_BCHW)
    for block in visual.transformer.resblocks[:-1]:
        x_BND = block(x_BND)
    feature_BD = _suffix(visual, len(visual.transformer.resblocks) - 1, x_BND).float()
    patch_BPW = F.layer_norm(x_BND[:, 1:].float(), x_BND.shape[-1:])
    map_BWHW = patch_BPW.transpose(1, 2).unflatten(2, visual.grid_size)
    cell_BW = F.adaptive_avg_pool2d(map_BWHW, grid).flatten(2).transpose(1, 2).flatten(1)
    return torch.cat([F.normalize(feature_BD, dim=-1), F.normalize(cell_BW, dim=-1)], dim=1) / 2**0.5


def _in_slices(function: Callable[..., Tensor], x: Tensor, micro_batch: int, *beside: Tensor) -> Tensor:
    """Computes function(x) slice by slice; a slice keeps only its input and is recomputed in the backward pass.

    This is GradCache (arXiv 2101.06983).
    """
    if not micro_batch or len(x) <= micro_batch or not torch.is_grad_enabled():
        return function(x, *beside)
    slices = zip(*(tensor.split(micro_batch) for tensor in (x, *beside)), strict=True)
    return torch.cat([checkpoint(function, *parts, use_reentrant=False) for parts in slices])


def _stem(visual: Any, image_BCHW: Tensor, keep_BP: Tensor | None = None) -> Tensor:
    """Returns the tokens before the first block, [B, N, D]."""
    x_BND = visual._embeds(image_BCHW)
    if keep_BP is None:
        return x_BND
    rows_B1 = torch.arange(len(x_BND), device=x_BND.device)[:, None]
    return torch.cat([x_BND[:, :1], x_BND[rows_B1, keep_BP + 1]], dim=1)


def _suffix(visual: Any, first: int, x_BND: Tensor) -> Tensor:
    """Computes the features, [B, D], from the tokens before block `first`."""
    blocks = visual.transformer.resblocks
    for block in blocks[first:-1]:
        if visual.transformer.grad_checkpointing and torch.is_grad_enabled():
            x_BND = checkpoint(block, x_BND, use_reentrant=False)
        else:
            x_BND = block(x_BND)
    if first < len(blocks):
        x_BND = _class_token_only(blocks[-1], x_BND)
    pooled_BD = visual._pool(x_BND)[0]
    return pooled_BD if visual.proj is None else pooled_BD @ visual.proj


def draw_patches(num_images: int, model: nn.Module, patch_dropout: float, generator: torch.Generator) -> Tensor | None:
    """Draws `keep_BP` for a batch, a share 1 - patch_dropout of each image's patches; None if none are dropped."""
    if not patch_dropout:
        return None
    if not is_plain_vit(model.visual):
        raise BackboneError(f"a {type(model.visual).__name__} has no patches to drop; set customize.patch_dropout=0")
    num_patches = int(model.visual.positional_embedding.shape[0]) - 1  # type: ignore[union-attr,index]
    num_kept = max(1, int(num_patches * (1 - patch_dropout)))
    return torch.rand(num_images, num_patches, generator=generator).argsort(dim=1)[:, :num_kept]


def is_plain_vit(visual: Any) -> bool:
    """Returns True for open_clip's ViT with class-token pooling and ordinary blocks."""
    return (
        getattr(visual, "pool_type", "") == "tok"
        and getattr(visual, "attn_pool", None) is None
        and hasattr(visual, "_embeds")
        and hasattr(visual, "_pool")
        and not visual.output_tokens
        and visual.transformer.batch_first
        and all(hasattr(block, "attention") and not hasattr(block, "ln_1_kv") for block in visual.transformer.resblocks)
    )


def _num_frozen(visual: Any) -> int:
    """Counts the leading blocks that need no autograd; 0 if a layer before them trains."""
    stem = [visual.class_embedding, visual.positional_embedding]
    stem += [*visual.conv1.parameters(), *visual.ln_pre.parameters()]
    if any(p.requires_grad for p in stem):
        return 0
    blocks = visual.transformer.resblocks
    return next((i for i, block in enumerate(blocks) if any(p.requires_grad for p in block.parameters())), len(blocks))


def _class_token_only(block: Any, x_BND: Tensor) -> Tensor:
    """Returns the block's output for token 0, [B, 1, D]. Its forward pre-hooks (gated blocks) see all tokens."""
    for hook in block._forward_pre_hooks.values():
        changed = hook(block, (x_BND,))
        if changed is not None:  # DeepSpeed's hooks change nothing
            (x_BND,) = changed
    kv_BND = block.ln_1(x_BND)
    cls_B1D = x_BND[:, :1] + block.ls_1(block.attention(kv_BND[:, :1], k_x=kv_BND, v_x=kv_BND))
    return cls_B1D + block.ls_2(block.mlp(block.ln_2(cls_B1D)))
