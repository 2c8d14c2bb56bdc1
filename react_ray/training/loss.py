"""Symmetric InfoNCE over the global batch, with the gradient of the global mean at any number of ranks.

Takes the local rows of images and captions, gives a scalar whose gradient, AVERAGED over ranks (as DDP and DeepSpeed
do), equals that of one process holding the whole batch. A rank holds its images' rows of the logits, a chunk of rows at a
time: memory grows with the batch, not with its square, and no image feature ever leaves its rank; what ranks exchange
are captions and one number per column. Next: training/step.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from react_ray.training.gather import Gather, default_gather

LOGITS_AT_ONCE = 1 << 24  # 64 MB of float32: the rows of a whole batch of 4096 on one worker


@dataclass(frozen=True)
class Bank:
    """Captions without an image in the batch: negatives of every image."""

    text_MD: Tensor  # features of any length; constants, the same on every rank
    caption_ids: Tensor | None = None  # int64 [M]: with them and the pairs' own, an image's own caption is no negative
    class_ids: Tensor | None = None  # int64 [M], -1 = none


def contrastive_loss(
    image_BD: Tensor,
    text_BD: Tensor,
    logit_scale: Tensor,
    *,
    gather: Gather | None = None,
    caption_ids: Tensor | None = None,
    class_ids: Tensor | None = None,
    weights: Tensor | None = None,
    mask_duplicates: bool = False,
    mask_classes: bool = False,
    positives: Literal["pair", "class"] = "pair",
    bank: Bank | None = None,
    chunk_rows: int = 0,
) -> Tensor:
    """Mean over the global batch of (cross entropy of rows + cross entropy of columns) / 2.

    image_BD, text_BD: features of the local pairs, of any length (normalised here, in float32).
    logit_scale: the parameter itself, a logarithm.
    gather: None = the default process group if it is larger than one.
    caption_ids: int64 [B]; with mask_duplicates another pair with the same caption is no negative.
    class_ids: int64 [B], -1 is a pair without class; with mask_classes another pair of the same class is no negative.
    weights: float32 [B], factors of the pairs' terms; None = 1.
    bank: more captions that every image is compared with; they answer for no column of their own. With mask_classes or
    positives="class" those of an image's own class, where the bank knows it, are left out.
    chunk_rows: images whose logits exist at once; 0 = as many as fit in 64 MB. Results differ by rounding alone.
    With positives="class" the target of a row is uniform over all pairs of its class, as in UniCL
    (arXiv 2204.03610, eq. 4).
    """
    gather = gather or default_gather()
    _require(caption_ids, mask_duplicates, "mask_duplicates needs caption_ids")
    _require(class_ids, mask_classes or positives == "class", "mask_classes and positives='class' need class_ids")
    mask_bank = bank is not None and bank.caption_ids is not None
    _require(caption_ids, mask_bank, "a bank with caption_ids needs those of the pairs")
    with torch.autocast(image_BD.device.type, enabled=False):
        image_BD = F.normalize(image_BD.float(), dim=-1)
        text_ND = _all(F.normalize(text_BD.float(), dim=-1), gather)
        num_pairs = len(text_ND)
        if bank is not None:
            text_ND = torch.cat([text_ND, F.normalize(bank.text_MD.float(), dim=-1)])
        num_local, rank = len(image_BD), 0 if gather is None else gather.rank
        relations = _Relations(
            own_B=torch.arange(num_local, device=image_BD.device) + rank * num_local,
            num_pairs=num_pairs,
            num_texts=len(text_ND),
            caption_N=_ids(caption_ids, bank, "caption_ids", gather) if mask_duplicates or mask_bank else None,
            class_N=_ids(class_ids, bank, "class_ids", gather) if mask_classes or positives == "class" else None,
            mask_captions=mask_duplicates,
            mask_classes=mask_classes,
            class_positives=positives == "class",
        )
        weight_N = image_BD.new_ones(num_pairs) if weights is None else _all(weights.float(), gather)
        rows = chunk_rows or max(1, LOGITS_AT_ONCE // len(text_ND))
        return _InfoNCE.apply(image_BD, text_ND, logit_scale.float(), relations, weight_N, gather, rows)


def class_loss(
    image_BD: Tensor,
    class_CD: Tensor,
    logit_scale: Tensor,
    class_id_B: Tensor,
    weights: Tensor | None = None,
) -> Tensor:
    """Cross entropy of images against the prompts of all classes, summed over rows with a class (>= 0), divided by B.

    A retrieved pair knows which class asked for it, so the class's own prompt is a second text of the pair, and the
    other classes are its hard negatives. class_CD: one vector per class, its prompts averaged. weights: float32 [B].
    Averaged over ranks the gradient is that of the global batch. With class_id as target it needs no other rank.
    """
    with torch.autocast(image_BD.device.type, enabled=False):
        logits_BC = logit_scale.float().exp() * F.normalize(image_BD.float(), dim=-1) @ F.normalize(class_CD, dim=-1).T
        loss_B = F.cross_entropy(logits_BC, class_id_B, ignore_index=-1, reduction="none")
        return (loss_B if weights is None else loss_B * weights).sum() / len(image_BD)


@dataclass(frozen=True)
class _Relations:
    """Which text is whose positive, and which is nobody's negative; by rows of the local images."""

    own_B: Tensor  # int64: the column of each local image's own caption
    num_pairs: int  # columns that are captions of the batch; the rest is the bank
    num_texts: int
    caption_N: Tensor | None
    class_N: Tensor | None
    mask_captions: bool  # among the batch's own; the bank's always where ids are known
    mask_classes: bool
    class_positives: bool

    @property
    def plain(self) -> bool:
        return self.caption_N is None and self.class_N is None

    def positive(self, rows: slice) -> Tensor:
        """bool [rows, num_texts]; a bank's caption is never one."""
        own_B = self.own_B[rows]
        out = torch.zeros(len(own_B), self.num_texts, dtype=torch.bool, device=own_B.device)
        if self.class_positives:
            assert self.class_N is not None
            out[:, : self.num_pairs] = _same(self.class_N[own_B], self.class_N[: self.num_pairs])
        return out.scatter_(1, own_B[:, None], True)

    def ignored(self, rows: slice, positive: Tensor) -> Tensor | None:
        """bool [rows, num_texts]: texts that say the same and are no positives."""
        own_B = self.own_B[rows]
        out = None
        if self.caption_N is not None:
            out = _same(self.caption_N[own_B], self.caption_N)
            if not self.mask_captions:
                out[:, : self.num_pairs] = False
        if self.mask_classes or (self.class_positives and self.num_texts > self.num_pairs):
            assert self.class_N is not None
            same = _same(self.class_N[own_B], self.class_N)
            if not self.mask_classes:  # a bank's caption of the image's own class alone
                same[:, : self.num_pairs] = False
            out = same if out is None else out | same
        return None if out is None else out & ~positive

    def num_positives(self, device: torch.device) -> Tensor:
        """float32 [num_pairs], of each pair: the relation is symmetric, so it holds for rows and columns."""
        if not self.class_positives:
            return torch.ones(self.num_pairs, device=device)
        assert self.class_N is not None
        class_N = self.class_N[: self.num_pairs]
        _, place_N, count = torch.unique(class_N, return_inverse=True, return_counts=True)
        return torch.where(class_N >= 0, count[place_N], 1).float()


class _InfoNCE(torch.autograd.Function):
    """The loss and, in the same place, its gradient: what backward needs are vectors, never logits."""

    @staticmethod
    def forward(
        ctx: Any,
        image_BD: Tensor,
        text_ND: Tensor,
        logit_scale: Tensor,
        relations: _Relations,
        weight_N: Tensor,
        gather: Gather | None,
        chunk_rows: int,
    ) -> Tensor:
        scale, num_local, num_pairs = logit_scale.exp(), len(image_BD), relations.num_pairs
        chunks = [slice(start, start + chunk_rows) for start in range(0, num_local, chunk_rows)]
        count_N = relations.num_positives(image_BD.device)
        row_lse_B, row_hit_B = image_BD.new_empty(num_local), image_BD.new_empty(num_local)
        column_lse_N, column_hit_N = image_BD.new_full((num_pairs,), -torch.inf), image_BD.new_zeros(num_pairs)
        kept = None
        for rows in chunks:
            logits, positive = _logits(image_BD, text_ND, scale, relations, rows)
            row_lse_B[rows] = logits.logsumexp(1)
            column_lse_N = torch.logaddexp(column_lse_N, logits[:, :num_pairs].logsumexp(0))
            own_B = relations.own_B[rows]
            if positive is None:
                row_hit_B[rows] = hits = logits.gather(1, own_B[:, None])[:, 0]
                column_hit_N[own_B] = hits
            else:
                hits = logits.masked_fill(~positive, 0)
                row_hit_B[rows] = hits.sum(1) / count_N[own_B]
                column_hit_N += hits[:, :num_pairs].sum(0) / count_N
            kept = (logits, positive) if len(chunks) == 1 else None
        if gather is not None:
            both_W2N = gather(torch.stack([column_lse_N, column_hit_N])[None])
            column_lse_N, column_hit_N = both_W2N[:, 0].logsumexp(0), both_W2N[:, 1].sum(0)
        own_B = relations.own_B
        terms_B = row_lse_B - row_hit_B + (column_lse_N - column_hit_N)[own_B]
        loss = (weight_N[own_B] * terms_B).sum() / (2 * num_local)
        if any(ctx.needs_input_grad[:3]):
            columns = (column_lse_N, count_N, weight_N)
            grads = _gradients(
                image_BD, text_ND, scale, relations, row_lse_B, columns, chunks, kept, ctx.needs_input_grad
            )
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
            *[None] * 4,
        )


def _gradients(
    image_BD: Tensor,
    text_ND: Tensor,
    scale: Tensor,
    relations: _Relations,
    row_lse_B: Tensor,
    columns: tuple[Tensor, Tensor, Tensor],
    chunks: list[slice],
    kept: tuple[Tensor, Tensor | None] | None,
    needs: tuple[bool, ...],
) -> tuple[Tensor, Tensor, Tensor]:
    """Of images, texts and log scale; what is not needed is empty. d loss / d logit = softmax - target, by row and column."""
    column_lse_N, count_N, weight_N = columns
    num_pairs = relations.num_pairs
    image_grad = torch.empty_like(image_BD) if needs[0] else image_BD.new_empty(0)
    text_grad = torch.zeros_like(text_ND) if needs[1] else text_ND.new_empty(0)
    scale_grad = image_BD.new_zeros(())
    for rows in chunks:
        logits, positive = kept or _logits(image_BD, text_ND, scale, relations, rows)
        own_B = relations.own_B[rows]
        weight_B1 = weight_N[own_B][:, None]
        grad = torch.exp(logits - row_lse_B[rows, None]).mul_(weight_B1)
        grad[:, :num_pairs].addcmul_(torch.exp(logits[:, :num_pairs] - column_lse_N), weight_N.expand(len(own_B), -1))
        if positive is None:
            grad[torch.arange(len(own_B), device=grad.device), own_B] -= 2 * weight_B1[:, 0]
        else:
            target = weight_B1 / count_N[own_B][:, None] + weight_N / count_N
            grad[:, :num_pairs] -= target.masked_fill_(~positive[:, :num_pairs], 0)
        grad /= 2 * len(image_BD)
        scale_grad += (grad * logits.masked_fill(grad == 0, 0)).sum()
        if needs[0]:
            image_grad[rows] = scale * (grad @ text_ND)
        if needs[1]:
            text_grad.addmm_(grad.T, image_BD[rows] * scale)
    return image_grad, text_grad, scale_grad


def _logits(
    image_BD: Tensor, text_ND: Tensor, scale: Tensor, relations: _Relations, rows: slice
) -> tuple[Tensor, Tensor | None]:
    """float32 [rows, N], -inf where ignored; and where positives are more than the own caption, the bool table of them."""
    logits = (image_BD[rows] * scale) @ text_ND.T
    if relations.plain:
        return logits, None
    positive = relations.positive(rows)
    ignored = relations.ignored(rows, positive)
    if ignored is not None:
        logits.masked_fill_(ignored, -torch.inf)
    return logits, positive


def _all(rows: Tensor, gather: Gather | None) -> Tensor:
    return rows if gather is None else gather(rows)


def _ids(ids_B: Tensor | None, bank: Bank | None, kind: str, gather: Gather | None) -> Tensor:
    """int64 [N] of all texts, the bank's last; -1 where the bank does not know."""
    assert ids_B is not None
    ids_N = _all(ids_B, gather)
    if bank is None:
        return ids_N
    of_bank = getattr(bank, kind)
    return torch.cat([ids_N, ids_N.new_full((len(bank.text_MD),), -1) if of_bank is None else of_bank])


def _same(ids_B: Tensor, ids_N: Tensor) -> Tensor:
    """bool [B, N]; ids below zero equal nothing."""
    return (ids_B[:, None] == ids_N[None, :]) & (ids_B >= 0)[:, None]


def _require(ids: Tensor | None, asked: bool, message: str) -> None:
    if asked and ids is None:
        raise ValueError(f"{message}; pass them")
