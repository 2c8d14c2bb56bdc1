"""Which errors of a worker end a training, and which one is told."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import ray
import ray.train
import torch

from react_ray.errors import ArtifactMismatch, ConfigError, PartFailed, ReactRayError, StorageError, TrainingDiverged
from react_ray.stages.training.failures import answer, lost
from react_ray.stages.training.progress_board import ProgressBoard

RETRIES = 2


@ray.remote(num_cpus=0)
def fail(error: Exception) -> None:
    raise error


def through_ray(error: Exception) -> ReactRayError:
    """As it comes from a process that makes batches."""
    with pytest.raises(ReactRayError) as met:
        ray.get(fail.remote(error))
    return met.value


def of_a_lost_worker() -> RuntimeError:
    """What is raised where two workers add up and one of them is gone."""
    store = torch.distributed.HashStore()
    with ThreadPoolExecutor(2) as both:
        ours, other = both.map(
            lambda rank: torch.distributed.ProcessGroupGloo(store, rank, 2, timedelta(seconds=30)), (0, 1)
        )
    del other
    with pytest.raises(RuntimeError) as met:
        ours.allreduce([torch.ones(1)]).wait()
    return met.value


def a_board() -> Any:
    return ray.remote(ProgressBoard).options(num_cpus=0).remote()


def test_an_error_of_ours_ends_the_run_at_once_and_one_of_storage_after_its_retries(local_ray: None) -> None:
    for error in (ArtifactMismatch("a; b"), TrainingDiverged("a; b")):
        board = a_board()
        answer(error, board, "first", RETRIES)  # all workers return by themselves
        assert type(ray.get(board.problem.remote())) is type(error)
    board = a_board()
    for start in ("first", "first", "first", "second"):  # of three workers, then of one
        with pytest.raises(StorageError):
            answer(StorageError("no answer; look"), board, start, RETRIES)
    assert ray.get(board.problem.remote()) is None, "two starts"
    for ours in (PartFailed("no image; look"), ConfigError("no column; look")):
        with pytest.raises(type(ours)):  # of one worker alone, perhaps: the others must lose it
            answer(through_ray(ours), board, "third", RETRIES)
    with pytest.raises(StorageError):
        answer(StorageError("no answer; look"), board, "third", RETRIES)
    found = ray.get(board.problem.remote())
    assert type(found) is PartFailed and str(found) == "no image; look", "the first, as it was"


def test_an_error_that_nobody_expects_ends_the_run_after_its_retries_and_a_lost_worker_never_does(
    local_ray: None,
) -> None:
    board = a_board()
    for start in ("first", "second"):
        with pytest.raises(ZeroDivisionError):
            answer(ZeroDivisionError("zero"), board, start, RETRIES)
    lost = ray.exceptions.ActorDiedError(), torch.distributed.DistBackendError("NCCL"), of_a_lost_worker()
    for number, error in enumerate(lost):
        with pytest.raises(type(error)):
            answer(error, board, f"lost {number}", RETRIES)
    assert ray.get(board.problem.remote()) is None
    with pytest.raises(ZeroDivisionError):
        try:
            print(1 / 0)
        except ZeroDivisionError as error:
            answer(error, board, "third", RETRIES)
    found = ray.get(board.problem.remote())
    assert type(found) is PartFailed
    here = re.escape(__file__)
    assert re.search(
        rf"at every try: ZeroDivisionError: division by zero \({here}:\d+\); .* run the same command again", str(found)
    )


def test_of_a_lost_worker_is_told_which_and_not_who_heard_of_it() -> None:
    died = ray.exceptions.ActorDiedError()
    error = ray.train.WorkerGroupError(
        "two\nlines", {0: died, 1: of_a_lost_worker(), 2: torch.distributed.DistBackendError("DistBackendError: NCCL")}
    )
    assert lost(error).startswith("worker 0 was lost once more than cluster.part_retries allows: killed, ")
    assert lost(ray.train.WorkerGroupError("two\nlines", {})) == "Training failed due to worker errors: two lines"
