"""Which errors of a worker end a training, and which one is told."""

from __future__ import annotations

import pytest
import ray

from react_ray.errors import ArtifactMismatch, ConfigError, PartFailed, ReactRayError, StorageError, TrainingDiverged
from react_ray.stages.failures import answer
from react_ray.stages.progress_board import ProgressBoard

RETRIES = 2


@ray.remote(num_cpus=0)
def fail(error: Exception) -> None:
    raise error


def through_ray(error: Exception) -> ReactRayError:
    """As it comes from a process that makes batches."""
    with pytest.raises(ReactRayError) as met:
        ray.get(fail.remote(error))
    return met.value


def test_an_error_of_ours_ends_the_run_at_once_and_one_of_storage_after_its_retries(local_ray: None) -> None:
    for error in (ArtifactMismatch("a; b"), TrainingDiverged("a; b")):
        board = ray.remote(ProgressBoard).options(num_cpus=0).remote()
        answer(error, board, 0, RETRIES)  # all workers return by themselves
        assert type(ray.get(board.problem.remote())) is type(error)
    board = ray.remote(ProgressBoard).options(num_cpus=0).remote()
    for rank in (1, 0, 1, 0):
        with pytest.raises(StorageError):
            answer(StorageError("no answer; look"), board, rank, RETRIES)
    assert ray.get(board.problem.remote()) is None, "two each"
    for ours in (PartFailed("no image; look"), ConfigError("no column; look")):
        with pytest.raises(type(ours)):  # of one worker alone, perhaps: the others must lose it
            answer(through_ray(ours), board, 1, RETRIES)
    with pytest.raises(StorageError):
        answer(StorageError("no answer; look"), board, 0, RETRIES)
    found = ray.get(board.problem.remote())
    assert type(found) is PartFailed and str(found) == "no image; look", "the first, as it was"
