"""Gathers the rows of all ranks, in the order of ranks, with the gradient that data-parallel averaging needs."""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor


class Gather(Protocol):
    """Joins the rows of all ranks, in the order of ranks; every rank has the same number of rows."""

    rank: int

    def __call__(self, rows: Tensor) -> Tensor: ...


class ProcessGroupGather:
    """Gathers over torch.distributed's default group, and passes gradients back to rows that need them."""

    def __init__(self) -> None:
        self.rank = dist.get_rank()

    def __call__(self, rows: Tensor) -> Tensor:
        return _AllGather.apply(rows)


def default_gather() -> Gather | None:
    """A gather over the default process group; None if there is none, or only one process in it."""
    parallel = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    return ProcessGroupGather() if parallel else None


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.num_rows = len(rows)
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        # The gradient of this rank's rows is the sum of their gradients in the losses of all ranks.
        total = grads[0].contiguous()
        dist.all_reduce(total)
        return total[dist.get_rank() * ctx.num_rows :][: ctx.num_rows]
