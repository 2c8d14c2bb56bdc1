"""Makes batches in processes beside a training worker, on any node that has CPUs to spare.

The batches and their order are those of `Batches`, whichever process makes them. A process that dies is started again,
but not without end.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import ray
import torch

from react_ray.errors import PartFailed
from react_ray.training.batches import Batch, Batches

AHEAD = 2  # batches per process that are made, or being made, while one is used
RETRIES = 3  # of a batch whose process died


class Loader:
    """The actor that makes batches."""

    def __init__(self, batches: Batches) -> None:
        torch.set_num_threads(1)
        self.batches = batches

    def batch(self, step: int) -> tuple[Batch, int, int]:
        """(the batch, the number of images decoded for it, the number of those that could not be decoded)"""
        before = self.batches.num_decoded, self.batches.num_undecodable
        batch = self.batches.batch(step)
        return batch, self.batches.num_decoded - before[0], self.batches.num_undecodable - before[1]


class _Coming:
    def __init__(self, step: int, answer: Any, batches: Batches) -> None:
        self.step, self.answer, self.batches = step, answer, batches

    def result(self) -> Batch:
        try:
            batch, decoded, undecodable = ray.get(self.answer)
        except ray.exceptions.RayActorError as error:
            raise PartFailed(
                f"the process that makes the batch of step {self.step} died {RETRIES + 1} times: killed, most often "
                "for want of memory, or by a damaged image; lower customize.window_parts or data_workers, then run the "
                "same command again to go on from the last checkpoint"
            ) from error
        self.batches.num_decoded += decoded
        self.batches.num_undecodable += undecodable
        return batch


def iterate(batches: Batches, start: int, stop: int, num_loaders: int, options: dict[str, Any]) -> Iterator[Batch]:
    """As `batches.iterate(start, stop)`, with batches made by `num_loaders` actors; 0 = by a thread of this process."""
    if not num_loaders:
        yield from batches.iterate(start, stop)
        return
    warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # it lies in the object store
    make: Any = ray.remote(Loader).options(max_restarts=-1, max_task_retries=RETRIES, **options)
    loaders = [make.remote(batches) for _ in range(num_loaders)]

    def begin(step: int) -> _Coming:
        return _Coming(step, loaders[step % num_loaders].batch.remote(step), batches)

    try:
        yield from batches.iterate(start, stop, begin, AHEAD * num_loaders)
    finally:
        for loader in loaders:
            ray.kill(loader)
