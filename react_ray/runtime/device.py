"""worker_device: what the process of a task or an actor computes on."""

from __future__ import annotations

import ray
import torch


def worker_device() -> str:
    """ "cuda" where this process asked Ray for a GPU. One that asked for none may see those of others, and leaves them alone."""
    return "cuda" if torch.cuda.is_available() and ray.get_gpu_ids() else "cpu"
