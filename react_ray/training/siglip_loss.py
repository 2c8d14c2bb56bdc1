"""SigLIP's sigmoid loss over the global batch, at any number of ranks (Zhai et al. 2023, arXiv 2303.15343, section 3).

Every pair of an image and a caption is a yes-or-no question of its own. Models with a `logit_bias` were trained by it:
SigLIP, SigLIP 2. As in loss.py, each rank passes its own rows, and the gradients, averaged over ranks, are those of one
process that holds the whole batch; ranks exchange captions alone, and no table of all logits is kept.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from react_ray.training.gather import Gather, default_gather
from react_ray.training.loss import LOGITS_AT_ONCE, gather_rows


def sigmoid_loss(
    image_BD: Tensor,
    text_BD: Tensor,
    logit_scale: Tensor,
    logit_bias: Tensor,
    *,
    gather: Gather | None = None,
    caption_ids: Tensor | None = None,
    weights: Tensor | None = None,
    chunk_rows: int = 0,
) -> Tensor:
    """Mean over the images of the sum over all captions of -log sigmoid(y (e^logit_scale cos + logit_bias)).

    y = 1 for an image and its own caption, else -1. Arguments are those of loss.contrastive_loss. caption_ids: the
    questions about captions with equal ids are left out, but for an image's own. weights: the question of image i and
    caption j weighs (w_i + w_j) / 2, so that a pair weighs alike as image and as caption.
    """
    gather = gather or default_gather()
    with torch.autocast(image_BD.device.type, enabled=False):
        image_BD = F.normalize(image_BD.float(), dim=-1)
        text_ND = gather_rows(F.normalize(text_BD.float(), dim=-1), gather)
        own_B = torch.arange(len(image_BD), device=image_BD.device)
        own_B = own_B + (0 if gather is None else gather.rank * len(image_BD))
        caption_N = None if caption_ids is None else gather_rows(caption_ids, gather)
        weight_N = None if weights is None else gather_rows(weights.float(), gather)
        rows = chunk_rows or max(1, LOGITS_AT_ONCE // len(text_ND))
        return _Sigmoid.apply(
            image_BD, text_ND, logit_scale.float(), logit_bias.float(), own_B, caption_N, weight_N, rows
        )


class _Sigmoid(torch.autograd.Function):
    """The loss together with its gradient, a chunk of images at a time: d loss / d logit = -y sigmoid(-y logit)."""

    @staticmethod
    def forward(
        ctx: Any,
        image_BD: Tensor,
        text_ND: Tensor,
        logit_scale: Tensor,
        logit_bias: Tensor,
        own_B: Tensor,
        caption_N: Tensor | None,
        weight_N: Tensor | None,
        chunk_rows: int,
    ) -> Tensor:
        scale, loss = logit_scale.exp(), image_BD.new_zeros(())
        image_grad, text_grad = torch.zeros_like(image_BD), torch.zeros_like(text_ND)
        scale_grad, bias_grad = image_BD.new_zeros(()), image_BD.new_zeros(())
        for start in range(0, len(image_BD), chunk_rows):
            rows = slice(start, start + chunk_rows)
            scaled_BD, own = image_BD[rows] * scale, own_B[rows]
            cosines = scaled_BD @ text_ND.T  # times the scale
            at = torch.arange(len(own), device=own.device), own
            sign = torch.full_like(cosines, -1.0)
            sign[at] = 1.0
            factor = _factors(own, at, caption_N, weight_N)
            answers = sign * (cosines + logit_bias)
            loss -= (F.logsigmoid(answers) if factor is None else F.logsigmoid(answers) * factor).sum()
            grad = -sign * torch.sigmoid(-answers)
            grad = grad if factor is None else grad * factor
            image_grad[rows] = scale * (grad @ text_ND)
            if ctx.needs_input_grad[1]:
                text_grad.addmm_(grad.T, scaled_BD)
            scale_grad += (grad * cosines).sum()
            bias_grad += grad.sum()
        ctx.save_for_backward(*(one / len(image_BD) for one in (image_grad, text_grad, scale_grad, bias_grad)))
        ctx.shapes = logit_scale.shape, logit_bias.shape
        return loss / len(image_BD)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        image_BD, text_ND, scale, bias = (one * grads[0] for one in ctx.saved_tensors)
        found = image_BD, text_ND, scale.reshape(ctx.shapes[0]), bias.reshape(ctx.shapes[1])
        kept = (one if needs else None for one, needs in zip(found, ctx.needs_input_grad[:4], strict=True))
        return (*kept, *[None] * 4)


def _factors(
    own_B: Tensor, at: tuple[Tensor, Tensor], caption_N: Tensor | None, weight_N: Tensor | None
) -> Tensor | None:
    """What each question of these images counts, float32 [B, N]; None = 1."""
    factor = None
    if weight_N is not None:
        factor = (weight_N[own_B][:, None] + weight_N) / 2
    if caption_N is not None:
        other = caption_N[own_B][:, None] != caption_N
        other[at] = True
        factor = other.float() if factor is None else factor * other
    return factor
