"""What an error of a training worker means: the end of the run, or another start of the workers. Next: train_worker.py."""

from __future__ import annotations

import traceback
from typing import Any

import ray

from react_ray.errors import (
    ArtifactCorrupt,
    ArtifactMismatch,
    PartFailed,
    ReactRayError,
    StorageError,
    TrainingDiverged,
)

ALIKE = (ArtifactMismatch, TrainingDiverged)  # all workers meet them at the same place
PASSING = (ArtifactCorrupt, StorageError)  # storage may answer the next time
COLLECTIVES = ("gloo", "DistBackendError", "DistNetworkError")
AGAIN = "run the same command again"


def answer(error: Exception, board: Any, start: str, retries: int) -> None:
    """Tells the ProgressBoard, which ends the run: an error of ours would come again at every try; any other ends it after `retries`.

    start: names this start of the workers. Raises the error where the other workers may wait for this one: without it they end,
    and the next start finds what was told. That another process was lost is no error of this one: Ray Train counts those.
    """
    known = getattr(error, "cause", None) or error  # as it was before it came through Ray
    if _another_was_lost(known):
        raise error
    passing = not isinstance(known, ReactRayError) or isinstance(known, PASSING)
    ray.get(board.stop.remote(_told(known), start, retries if passing else 0))
    if not isinstance(known, ALIKE):
        raise error


def lost(error: Exception) -> str:
    """What Ray Train ended with, in one line: which workers it lost, the others only heard of it."""
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    ranks = [
        str(rank) for rank, failure in sorted(failures.items()) if not any(name in str(failure) for name in COLLECTIVES)
    ]
    if not ranks:
        return " ".join(str(error).split())
    those = f"worker {ranks[0]} was" if len(ranks) == 1 else f"workers {', '.join(ranks)} were"
    return f"{those} lost once more than cluster.part_retries allows: killed, most often for want of memory, or with their machine"


def _another_was_lost(error: BaseException) -> bool:
    """By Ray, or by what a collective raises then: torch has a type for it with NCCL, and only a text with gloo."""
    from torch.distributed import DistError

    return isinstance(error, (ray.exceptions.RayError, DistError)) or (
        isinstance(error, RuntimeError) and "gloo" in str(error)
    )


def _told(error: BaseException) -> ReactRayError:
    """In one line, that ends with what to do; of an error that is not ours with the place that a report of it needs."""
    if isinstance(error, PASSING):
        return error if AGAIN in str(error) else type(error)(f"{error}; then {AGAIN} to go on from the last checkpoint")
    if isinstance(error, ReactRayError):
        return error
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    said = " ".join(str(error).split())
    return PartFailed(
        f"a training worker failed at every try: {type(error).__name__}: {said}{place}; mend that and {AGAIN} to go on from the last checkpoint"
    )
