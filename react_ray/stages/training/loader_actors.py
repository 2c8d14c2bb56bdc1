"""Makes batches in processes beside a training worker, on any node that has CPUs to spare.

Each process fills its own slots of every batch, so that it reads only what its slots need; the batches are those of one
`Batches`. A process that dies is started again, but not without end.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import ray
import torch

from react_ray.errors import PartFailed
from react_ray.training.batches import Batch, Batches, join

AHEAD = 4  # batches that are made, or being made, while one is used
RETRIES = 3  # of a batch whose process died


class Loader:
    """The actor that makes its part of each batch."""

    def __init__(self, batches: Batches) -> None:
        torch.set_num_threads(1)
        self.batches = batches

    def batch(self, step: int) -> tuple[Batch, int, int]:
        """(its part of the batch, number of images decoded for it, number of those that could not be decoded)"""
        before = self.batches.num_decoded, self.batches.num_undecodable
        batch = self.batches.batch(step)
        return batch, self.batches.num_decoded - before[0], self.batches.num_undecodable - before[1]


class _Coming:
    def __init__(self, step: int, answers: list[Any], batches: Batches) -> None:
        self.step, self.answers, self.batches = step, answers, batches

    def result(self) -> Batch:
        try:
            made = ray.get(self.answers)
        except ray.exceptions.RayActorError as error:
            raise PartFailed(
                f"a process that makes the batch of step {self.step} died {RETRIES + 1} times: killed, most often "
                "for want of memory, or by a damaged image; lower customize.streams or data_workers, then run the "
                "same command again to go on from the last checkpoint"
            ) from error
        self.batches.num_decoded += sum(decoded for _, decoded, _ in made)
        self.batches.num_undecodable += sum(undecodable for _, _, undecodable in made)
        return join([piece for piece, _, _ in made])


def iterate(batches: Batches, start: int, stop: int, num_loaders: int, options: dict[str, Any]) -> Iterator[Batch]:
    """As `batches.iterate(start, stop)`, with batches made by `num_loaders` actors; 0 = by a thread of this process."""
    if not num_loaders:
        yield from batches.iterate(start, stop)
        return
    warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # it lies in the object store
    make: Any = ray.remote(Loader).options(max_restarts=-1, max_task_retries=RETRIES, **options)
    loaders = [make.remote(share) for share in batches.split(num_loaders)]

    def begin(step: int) -> _Coming:
        return _Coming(step, [loader.batch.remote(step) for loader in loaders], batches)

    try:
        yield from batches.iterate(start, stop, begin, AHEAD)
    finally:
        for loader in loaders:
            ray.kill(loader)
