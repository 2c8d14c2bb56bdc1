"""What all workers of a training agree on: the step to start from, the loss of a step, and what to do after it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def least(step: int, device: torch.device) -> int:
    """The smallest step of all workers: a checkpoint that one of them has just seen may not be seen by another yet."""
    value = torch.tensor(step, device=device)
    torch.distributed.all_reduce(value, op=torch.distributed.ReduceOp.MIN)
    return int(value)


def mean_loss(loss: Tensor, *flags: bool) -> tuple[float, list[bool]]:
    """(the mean loss of all workers, not finite if one is not; each flag, True if it is set on any worker)"""
    share = loss.detach().double() / torch.distributed.get_world_size()
    values = torch.stack([share, *(loss.new_tensor(flag, dtype=torch.float64) for flag in flags)])
    torch.distributed.all_reduce(values)
    mean, *counts = values.tolist()
    return mean, [count > 0 for count in counts]


def of_all_workers(pair_id_B: np.ndarray, device: torch.device) -> np.ndarray:
    """The pairs of the global batch, by rank."""
    mine = torch.tensor(pair_id_B, device=device)
    of_all = [torch.empty_like(mine) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(of_all, mine)
    return torch.cat(of_all).cpu().numpy()
