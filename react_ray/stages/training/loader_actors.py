"""Batches made in processes beside a training worker, on whatever nodes have CPUs to spare.

Takes `Batches`, gives the same batches in the same order: which process makes one changes nothing, and one that dies is
started again. Next: train_worker.py.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import ray
import torch

from react_ray.training.batches import Batch, Batches

AHEAD = 2  # batches that each process has made, or is making, while one is used


class Loader:
    """The actor."""

    def __init__(self, batches: Batches) -> None:
        torch.set_num_threads(1)
        self.batches = batches

    def batch(self, step: int) -> tuple[Batch, int, int]:
        """With the images that were decoded for it, and those that could not be."""
        before = self.batches.num_decoded, self.batches.num_undecodable
        batch = self.batches.batch(step)
        return batch, self.batches.num_decoded - before[0], self.batches.num_undecodable - before[1]


class _Coming:
    def __init__(self, answer: Any, batches: Batches) -> None:
        self.answer, self.batches = answer, batches

    def result(self) -> Batch:
        batch, decoded, undecodable = ray.get(self.answer)
        self.batches.num_decoded += decoded
        self.batches.num_undecodable += undecodable
        return batch


def iterate(batches: Batches, start: int, stop: int, num_loaders: int, options: dict[str, Any]) -> Iterator[Batch]:
    """`batches.iterate(start, stop)` by so many actors; 0 = in a thread of this process."""
    if not num_loaders:
        yield from batches.iterate(start, stop)
        return
    warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # of the object store; nobody writes
    make: Any = ray.remote(Loader).options(max_restarts=-1, max_task_retries=-1, **options)
    loaders = [make.remote(batches) for _ in range(num_loaders)]

    def begin(step: int) -> _Coming:
        return _Coming(loaders[step % num_loaders].batch.remote(step), batches)

    try:
        yield from batches.iterate(start, stop, begin, AHEAD * num_loaders)
    finally:
        for loader in loaders:
            ray.kill(loader)
