"""Symmetric InfoNCE over the global batch, with the gradient of the global mean at any number of ranks.

Each rank passes the rows of its images and captions and gets a scalar. Averaged over ranks, as DDP and DeepSpeed do,
the gradient equals that of one process that holds the whole batch. A rank computes the logits of its own images, a
chunk of rows at a time, so memory grows with the batch and not with its square. No image feature leaves its rank: ranks
exchange captions and one number per column.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from react_ray.training.gather import Gather, default_gather

LOGITS_AT_ONCE = 1 << 24  # 64 MB of float32: the rows of a whole batch of 4096 on one worker


def contrastive_loss(
    image_BD: Tensor,
    text_BD: Tensor,
    logit_scale: Tensor,
    *,
    gather: Gather | None = None,
    caption_ids: Tensor | None = None,
    weights: Tensor | None = None,
    chunk_rows: int = 0,
) -> Tensor:
    """Mean over the global batch of (cross entropy of rows + cross entropy of columns) / 2.

    image_BD, text_BD: features of the local pairs, of any length; they are normalised here, in float32. logit_scale:
    the parameter itself, a logarithm. gather: None = the default process group if it has more than one process.
    caption_ids: int64 [B], 0 or more; pairs with equal ids are no negatives of each other. None = all other pairs are.
    weights: float32 [B], factors of the pairs' terms; None = 1. chunk_rows: number of images whose logits exist at
    once; 0 = as many as fit in 64 MB. Results differ by rounding alone.
    """
    gather = gather or default_gather()
    with torch.autocast(image_BD.device.type, enabled=False):
        image_BD = F.normalize(image_BD.float(), dim=-1)
        text_ND = gather_rows(F.normalize(text_BD.float(), dim=-1), gather)
        num_local, rank = len(image_BD), 0 if gather is None else gather.rank
        own_B = torch.arange(num_local, device=image_BD.device) + rank * num_local
        caption_N = None if caption_ids is None else gather_rows(caption_ids, gather)
        weight_N = image_BD.new_ones(len(text_ND)) if weights is None else gather_rows(weights.float(), gather)
        rows = chunk_rows or max(1, LOGITS_AT_ONCE // len(text_ND))
        return _InfoNCE.apply(image_BD, text_ND, logit_scale.float(), own_B, caption_N, weight_N, gather, rows)


class _InfoNCE(torch.autograd.Function):
    """The loss together with its gradient: what is kept for backward are vectors, never logits.

    own_B: int64, the column of each local image's own caption. caption_N: int64 ids of all captions, or None.
    """

    @staticmethod
    def forward(
        ctx: Any,
        image_BD: Tensor,
        text_ND: Tensor,
        logit_scale: Tensor,
        own_B: Tensor,
        caption_N: Tensor | None,
        weight_N: Tensor,
        gather: Gather | None,
        chunk_rows: int,
    ) -> Tensor:
        scale, num_local = logit_scale.exp(), len(image_BD)
        chunks = [slice(start, start + chunk_rows) for start in range(0, num_local, chunk_rows)]
        row_lse_B, row_hit_B = image_BD.new_empty(num_local), image_BD.new_empty(num_local)
        column_lse_N, column_hit_N = image_BD.new_full((len(text_ND),), -torch.inf), image_BD.new_zeros(len(text_ND))
        kept = None
        for rows in chunks:
            logits = _logits(image_BD[rows] * scale, text_ND, own_B[rows], caption_N)
            row_lse_B[rows] = logits.logsumexp(1)
            column_lse_N = torch.logaddexp(column_lse_N, logits.logsumexp(0))
            row_hit_B[rows] = hits = logits.gather(1, own_B[rows, None])[:, 0]
            column_hit_N[own_B[rows]] = hits
            kept = logits if len(chunks) == 1 else None
        if gather is not None:
            both_W2N = gather(torch.stack([column_lse_N, column_hit_N])[None])
            column_lse_N, column_hit_N = both_W2N[:, 0].logsumexp(0), both_W2N[:, 1].sum(0)
        terms_B = row_lse_B - row_hit_B + (column_lse_N - column_hit_N)[own_B]
        loss = (weight_N[own_B] * terms_B).sum() / (2 * num_local)
        if any(ctx.needs_input_grad[:3]):
            columns = (column_lse_N, weight_N, caption_N)
            grads = _gradients(image_BD, text_ND, scale, own_B, row_lse_B, columns, chunks, kept, ctx.needs_input_grad)
            ctx.save_for_backward(*grads)
            ctx.scale_shape = logit_scale.shape
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        image_BD, text_ND, logit_scale = ctx.saved_tensors
        upstream, needs = grads[0], ctx.needs_input_grad
        return (
            image_BD * upstream if needs[0] else None,
            text_ND * upstream if needs[1] else None,
            (logit_scale * upstream).reshape(ctx.scale_shape) if needs[2] else None,
            *[None] * 5,
        )


def _gradients(
    image_BD: Tensor,
    text_ND: Tensor,
    scale: Tensor,
    own_B: Tensor,
    row_lse_B: Tensor,
    columns: tuple[Tensor, Tensor, Tensor | None],
    chunks: list[slice],
    kept: Tensor | None,
    needs: tuple[bool, ...],
) -> tuple[Tensor, Tensor, Tensor]:
    """Of images, texts and log scale; a gradient that is not needed is empty.

    d loss / d logit = softmax - target, by row and by column. columns: lse, weights and caption ids, [N] each.
    """
    column_lse_N, weight_N, caption_N = columns
    image_grad = torch.empty_like(image_BD) if needs[0] else image_BD.new_empty(0)
    text_grad = torch.zeros_like(text_ND) if needs[1] else text_ND.new_empty(0)
    scale_grad = image_BD.new_zeros(())
    for rows in chunks:
        scaled_BD, own = image_BD[rows] * scale, own_B[rows]
        logits = _logits(scaled_BD, text_ND, own, caption_N) if kept is None else kept
        weight_B1 = weight_N[own][:, None]
        grad = torch.exp(logits - row_lse_B[rows, None]).mul_(weight_B1)
        grad.addcmul_(torch.exp(logits - column_lse_N), weight_N.expand(len(own), -1))
        grad[torch.arange(len(own), device=grad.device), own] -= 2 * weight_B1[:, 0]
        grad /= 2 * len(image_BD)
        scale_grad += (grad * logits.masked_fill(grad == 0, 0)).sum()
        if needs[0]:
            image_grad[rows] = scale * (grad @ text_ND)
        if needs[1]:
            text_grad.addmm_(grad.T, scaled_BD)
    return image_grad, text_grad, scale_grad


def _logits(scaled_BD: Tensor, text_ND: Tensor, own_B: Tensor, caption_N: Tensor | None) -> Tensor:
    """float32 [rows, N]; -inf where another pair has the same caption."""
    logits = scaled_BD @ text_ND.T
    if caption_N is None:
        return logits
    same = caption_N[own_B][:, None] == caption_N
    same[torch.arange(len(own_B), device=same.device), own_B] = False
    return logits.masked_fill_(same, -torch.inf)


def gather_rows(rows: Tensor, gather: Gather | None) -> Tensor:
    """The rows of all ranks; None = these are all."""
    return rows if gather is None else gather(rows)
