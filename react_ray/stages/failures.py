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


def own_error(error: BaseException) -> ReactRayError | None:
    """The user's own mistake, however deep Ray has wrapped it."""
    seen: set[int] = set()
    queue: list[Any] = [error]
    while queue:
        one = queue.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, ReactRayError):
            return one
        queue += [one.__cause__, one.__context__, getattr(one, "cause", None)]
        failures = getattr(one, "worker_failures", None)
        if isinstance(failures, dict):
            queue += list(failures.values())
    return None
