"""Decides whether an error of a training worker ends the run or lets Ray Train start the workers again.

A worker turns its error into a WorkerFailed; the controller of Ray Train shows it to EndOfRun, a callback, which ends
the run with the error that the user should read. Lost workers and preempted nodes are counted by Ray Train itself.
"""

from __future__ import annotations

import traceback
from typing import Any

import ray
from ray.train import UserCallback

from react_ray.errors import ArtifactCorrupt, PartFailed, ReactRayError, StorageError

PASSING = (ArtifactCorrupt, StorageError)  # the storage may answer the next time
COLLECTIVES = ("gloo", "DistBackendError", "DistNetworkError")
AGAIN = "run the same command again"


STARTS_IN_VAIN = 3  # at least, before an elastic training ends: nodes may be lost in a row


def check_getting_on(starts_in_vain: int, step: int, retries: int) -> None:
    """PartFailed if an elastic training, whose lost workers are not counted, gets no further from start to start."""
    if starts_in_vain >= max(retries, STARTS_IN_VAIN):
        raise PartFailed(
            f"the training workers were lost in {starts_in_vain} starts in a row before step {step + 1}: killed, most "
            f"often for want of memory, or by a row of that step; lower customize.batch_size or mend the rows, and "
            f"{AGAIN} to go on from the last checkpoint"
        )


class WorkerFailed(Exception):
    """An error of one worker, for the controller."""

    def __init__(self, told: ReactRayError, passes: bool, start: str) -> None:
        """told: the error as the user should read it. passes: whether another start may succeed. start: names this
        one."""
        super().__init__(told, passes, start)
        self.told, self.passes, self.start = told, passes, start

    def __str__(self) -> str:
        return str(self.told)


class EndOfRun(UserCallback):
    """Ends the run at the first error that would come again, and at any other error after `retries` more starts."""

    def __init__(self, retries: int) -> None:
        self._retries = retries
        self._failed_starts: set[str] = set()

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Raises the error that is told: an exception in a callback is the way to end a run without another start."""
        for _, error in sorted(worker_exceptions.items()):
            if isinstance(error, WorkerFailed):
                self._failed_starts.add(error.start)
                if not error.passes or len(self._failed_starts) > self._retries:
                    raise error.told


def failure(error: Exception, start: str) -> Exception:
    """What a worker raises for `error`. The loss of another process is no error of this worker and stays as it is."""
    known = getattr(error, "cause", None) or error  # as it was before it came through Ray
    if _another_was_lost(known):
        return error
    passes = not isinstance(known, ReactRayError) or isinstance(known, PASSING)
    return WorkerFailed(_told(known), passes, start)


def reason(error: Exception) -> ReactRayError | None:
    """The error of ours that ended a run of Ray Train; None if the run ended because workers were lost."""
    ended_by = getattr(error, "controller_failure", None)
    if isinstance(ended_by, ReactRayError):
        return ended_by
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    return next((failed.told for _, failed in sorted(failures.items()) if isinstance(failed, WorkerFailed)), None)


def lost(error: Exception) -> str:
    """One line that names the workers whose loss ended the run, without those that only heard of it."""
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    ranks = [
        str(rank) for rank, failed in sorted(failures.items()) if not any(name in str(failed) for name in COLLECTIVES)
    ]
    if isinstance(error, ray.exceptions.RayActorError):
        return "the controller of Ray Train was lost: killed, most often for want of memory, or with its machine"
    if not ranks:
        return " ".join(str(error).split())
    those = f"worker {ranks[0]} was" if len(ranks) == 1 else f"workers {', '.join(ranks)} were"
    return (
        f"{those} lost once more than cluster.part_retries allows: killed, most often for want of memory, "
        "or with their machine"
    )


def _another_was_lost(error: BaseException) -> bool:
    """Ray has types for the loss of a process, torch has one with NCCL, and gloo has only a text."""
    from torch.distributed import DistError

    return isinstance(error, (ray.exceptions.RayError, DistError)) or (
        isinstance(error, RuntimeError) and "gloo" in str(error)
    )


def _told(error: BaseException) -> ReactRayError:
    """The error in one line that ends with what to do; an unexpected error also names the place that a report needs."""
    if isinstance(error, PASSING):
        return error if AGAIN in str(error) else type(error)(f"{error}; then {AGAIN} to go on from the last checkpoint")
    if isinstance(error, ReactRayError):
        return error
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    said = " ".join(str(error).split())
    return PartFailed(
        f"a training worker failed at every try: {type(error).__name__}: {said}{place}; mend that and {AGAIN} to go on "
        "from the last checkpoint"
    )
