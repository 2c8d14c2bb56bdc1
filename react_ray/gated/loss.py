"""Symmetric InfoNCE over the global batch, with the gradient of the global mean at any number of ranks.

Takes the local rows of images and captions, gives a scalar whose gradient, AVERAGED over ranks (as DDP and DeepSpeed
do), equals that of one process holding the whole batch. Next: stages/customize.py.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


class Gather(Protocol):
    """Joins the rows of all ranks, in the order of ranks; every rank has equally many."""

    rank: int

    def __call__(self, rows: Tensor) -> Tensor: ...


class ProcessGroupGather:
    """Over torch.distributed's default group; carries gradients where the rows need any."""

    def __init__(self) -> None:
        self.rank = dist.get_rank()

    def __call__(self, rows: Tensor) -> Tensor:
        return _AllGather.apply(rows)


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.num_rows = len(rows)
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        # The gradient of my rows is the sum of what every rank's loss says about them.
        total = grads[0].contiguous()
        dist.all_reduce(total)
        return total[dist.get_rank() * ctx.num_rows :][: ctx.num_rows]


def contrastive_loss(
    image_BD: Tensor,
    text_BD: Tensor,
    logit_scale: Tensor,
    *,
    gather: Gather | None = None,
    caption_ids: Tensor | None = None,
    class_ids: Tensor | None = None,
    mask_duplicates: bool = False,
    mask_classes: bool = False,
    positives: Literal["pair", "class"] = "pair",
) -> Tensor:
    """Mean over the global batch of (cross entropy of rows + cross entropy of columns) / 2.

    image_BD, text_BD: features of the local pairs, of any length (normalised here, in float32).
    logit_scale: the parameter itself, a logarithm.
    gather: None = the default process group if it is larger than one.
    caption_ids: int64 [B]; with mask_duplicates another pair with the same caption is no negative.
    class_ids: int64 [B], -1 is a pair without class; with mask_classes another pair of the same class is no negative.
    With positives="class" the target of a row is uniform over all pairs of its class, as in UniCL
    (arXiv 2204.03610, eq. 4).
    """
    if gather is None and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        gather = ProcessGroupGather()
    with torch.autocast(image_BD.device.type, enabled=False):
        image_BD, text_BD = F.normalize(image_BD.float(), dim=-1), F.normalize(text_BD.float(), dim=-1)
        images_ND, texts_ND = _all(image_BD, gather), _all(text_BD, gather)
        own_B = torch.arange(len(image_BD), device=image_BD.device)
        if gather is not None:
            own_B = own_B + gather.rank * len(image_BD)
        scale = logit_scale.float().exp()
        same_BN = _same(class_ids, gather) if positives == "class" else None
        ignore_BN = _same(caption_ids, gather) if mask_duplicates else None
        if mask_classes:
            same_class_BN = _same(class_ids, gather)
            ignore_BN = same_class_BN if ignore_BN is None else ignore_BN | same_class_BN
        rows = _cross_entropy(scale * image_BD @ texts_ND.T, own_B, same_BN, ignore_BN)
        columns = _cross_entropy(scale * text_BD @ images_ND.T, own_B, same_BN, ignore_BN)
        return (rows + columns) / 2


def class_loss(image_BD: Tensor, class_CD: Tensor, logit_scale: Tensor, class_id_B: Tensor) -> Tensor:
    """Cross entropy of images against the prompts of all classes, summed over rows with a class (>= 0), divided by B.

    A retrieved pair knows which class asked for it, so the class's own prompt is a second text of the pair, and the
    other classes are its hard negatives. class_CD: one vector per class, its prompts averaged. Averaged over ranks the
    gradient is that of the global batch. With class_id as target it needs no other rank.
    """
    with torch.autocast(image_BD.device.type, enabled=False):
        logits_BC = logit_scale.float().exp() * F.normalize(image_BD.float(), dim=-1) @ F.normalize(class_CD, dim=-1).T
        return F.cross_entropy(logits_BC, class_id_B, ignore_index=-1, reduction="sum") / len(image_BD)


def _all(rows: Tensor, gather: Gather | None) -> Tensor:
    return rows if gather is None else gather(rows)


def _same(ids_B: Tensor | None, gather: Gather | None) -> Tensor:
    """True where a pair of the global batch has the same id; ids below zero equal nothing."""
    if ids_B is None:
        raise ValueError(
            "mask_duplicates needs caption_ids, mask_classes and positives='class' need class_ids; pass them"
        )
    return (ids_B[:, None] == _all(ids_B, gather)[None, :]) & (ids_B >= 0)[:, None]


def _cross_entropy(logits_BN: Tensor, own_B: Tensor, same_BN: Tensor | None, ignore_BN: Tensor | None) -> Tensor:
    own_B1 = own_B[:, None]
    if same_BN is None and ignore_BN is None:
        return F.cross_entropy(logits_BN, own_B)
    positive_BN = torch.zeros_like(logits_BN, dtype=torch.bool) if same_BN is None else same_BN.clone()
    positive_BN.scatter_(1, own_B1, True)
    kept_BN = logits_BN if ignore_BN is None else logits_BN.masked_fill(ignore_BN & ~positive_BN, -torch.inf)
    hit_B = logits_BN.masked_fill(~positive_BN, 0).sum(1) / positive_BN.sum(1)
    return (kept_BN.logsumexp(1) - hit_B).mean()
