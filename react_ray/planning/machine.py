"""What this machine has: cores, free memory, free disk and a GPU, as far as a recipe may use them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import psutil
import torch

from react_ray.recipe import ClusterConfig
from react_ray.uri import is_local


@dataclass(frozen=True)
class Machine:
    cores: int
    memory: float  # bytes, of all
    free_memory: float  # bytes that a plan may use
    gpu: str = ""  # its name, "" without one
    gpu_memory: float = 0.0  # bytes of one GPU
    num_gpus: int = 0

    def device(self, gpus: float) -> str:
        """Where a process computes that asks for so many GPUs."""
        return "cuda" if gpus and self.gpu else "cpu"

    def at_once(self, processes: int, threads: int, gpus: float) -> int:
        """How many seconds of a core, or of a GPU, so many processes have in a second."""
        return processes if self.device(gpus) == "cuda" else max(1, min(self.cores, processes * threads))

    def text(self) -> str:
        gb = f"{self.memory / 2**30:.1f} GB of memory, {self.free_memory / 2**30:.1f} GB of it free"
        gpus = f"{self.num_gpus} x {self.gpu} of {self.gpu_memory / 2**30:.0f} GB" if self.gpu else "no GPU"
        return f"{self.cores} cores, {gb}, {gpus}"


def this_machine(config: ClusterConfig) -> Machine:
    memory = psutil.virtual_memory()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gpus: dict[str, Any] = {}
    if torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        gpus = {"gpu": torch.cuda.get_device_name(), "gpu_memory": total, "num_gpus": torch.cuda.device_count()}
    free = config.memory_gb * 2**30 or memory.available
    return Machine(min(config.num_cpus or cores, cores), memory.total, free, **gpus)


def is_elsewhere(config: ClusterConfig) -> bool:
    """True if the work is that of a cluster's nodes."""
    return bool(config.address) or config.roles


def free_disk(uri: str) -> tuple[str, int] | None:
    """(the file system that holds a place, its free bytes); None for an object store, which has no end."""
    if not is_local(uri):
        return None
    place = existing(uri)
    return f"{os.stat(place).st_dev}", psutil.disk_usage(place).free


def existing(path: str) -> str:
    """The nearest folder above a path that is there."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path
