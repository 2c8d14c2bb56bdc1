"""Gather: the rows of all ranks, in their order, with the gradient that data-parallel averaging needs.

Takes a tensor of which every rank has equally many rows, gives all of them. Next: training/loss.py.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.distributed as dist
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


def default_gather() -> Gather | None:
    """Over the default process group if it is larger than one process."""
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
        # The gradient of my rows is the sum of what every rank's loss says about them.
        total = grads[0].contiguous()
        dist.all_reduce(total)
        return total[dist.get_rank() * ctx.num_rows :][: ctx.num_rows]
