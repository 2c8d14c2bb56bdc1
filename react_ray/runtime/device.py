"""The device on which the process of a task or an actor computes."""

from __future__ import annotations

import ray
import torch


def worker_device() -> str:
    """Return "cuda" if this process asked Ray for a GPU, else "cpu": the GPUs that it sees then belong to others."""
    return "cuda" if torch.cuda.is_available() and ray.get_gpu_ids() else "cpu"
