"""What an error of a training worker means: the end of the run, or another start of the workers. Next: train_worker.py."""

from __future__ import annotations

from typing import Any

import ray

from react_ray.errors import ArtifactCorrupt, ArtifactMismatch, ReactRayError, StorageError, TrainingDiverged

ALIKE = (ArtifactMismatch, TrainingDiverged)  # all workers meet them at the same place
PASSING = (ArtifactCorrupt, StorageError)  # storage may answer the next time


def answer(error: ReactRayError, board: Any, rank: int, retries: int) -> None:
    """Tells the ProgressBoard, which ends the run: an error of ours would come again at every try; one of storage after `retries`.

    Raises it where the other workers may wait for this one: without it they end, and the next start finds what was told.
    """
    known = getattr(error, "cause", error)  # as it was before it came through Ray
    ray.get(board.stop.remote(known, rank, retries if isinstance(known, PASSING) else 0))
    if not isinstance(known, ALIKE):
        raise error
