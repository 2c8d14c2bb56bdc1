"""Which errors of a worker end a training, and which error the user is told."""

from __future__ import annotations

import pickle
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import ray
import ray.train
import torch

from react_ray.errors import ArtifactMismatch, ConfigError, PartFailed, ReactRayError, StorageError, TrainingDiverged
from react_ray.stages.training.failures import (
    STARTS_IN_VAIN,
    EndOfRun,
    WorkerFailed,
    check_getting_on,
    failure,
    lost,
    reason,
)
from react_ray.stages.training.progress_board import ProgressBoard

RETRIES = 2


@ray.remote(num_cpus=0)
def fail(error: Exception) -> None:
    raise error


def through_ray(error: Exception) -> ReactRayError:
    """The error as it comes from a process that makes batches."""
    with pytest.raises(ReactRayError) as met:
        ray.get(fail.remote(error))
    return met.value


def of_a_lost_worker() -> RuntimeError:
    """The error of a gloo all-reduce between two workers when one of them is gone."""
    store = torch.distributed.HashStore()
    with ThreadPoolExecutor(2) as both:
        ours, other = both.map(
            lambda rank: torch.distributed.ProcessGroupGloo(store, rank, 2, timedelta(seconds=30)), (0, 1)
        )
    del other
    with pytest.raises(RuntimeError) as met:
        ours.allreduce([torch.ones(1)]).wait()
    return met.value


def seen(end: EndOfRun, start: str, *errors: Exception) -> None:
    """What the controller does with the errors of one start, by rank; they come out of other processes."""
    failures = {rank: pickle.loads(pickle.dumps(failure(error, start))) for rank, error in enumerate(errors)}
    end.after_exception(None, failures)


def test_an_error_of_ours_ends_the_run_at_once_and_an_error_of_storage_after_its_retries(local_ray: None) -> None:
    for error in (ArtifactMismatch("a; b"), TrainingDiverged("a; b")):
        with pytest.raises(type(error), match="a; b"):
            seen(EndOfRun(RETRIES), "first", error, error)
    end = EndOfRun(RETRIES)
    for start in ("first", "first", "second"):  # the controller may see one failure twice
        seen(end, start, StorageError("no answer; look"), StorageError("no answer; look"))
    with pytest.raises(PartFailed, match=r"^no image; look$"):
        seen(end, "second", through_ray(PartFailed("no image; look")))
    with pytest.raises(ConfigError, match=r"^no column; look$"):
        seen(EndOfRun(RETRIES), "first", of_a_lost_worker(), through_ray(ConfigError("no column; look")))
    with pytest.raises(StorageError, match=r"no answer; look; then run the same command again to go on"):
        seen(end, "third", StorageError("no answer; look"))


def test_an_unexpected_error_ends_the_run_after_its_retries_and_a_lost_worker_never_does(local_ray: None) -> None:
    end = EndOfRun(RETRIES)
    for start in ("first", "second"):
        seen(end, start, ZeroDivisionError("zero"))
    gone = ray.exceptions.ActorDiedError(), torch.distributed.DistBackendError("NCCL"), of_a_lost_worker()
    for number, error in enumerate(gone):
        assert failure(error, "start") is error
        seen(end, f"lost {number}", error)
    try:
        print(1 / 0)
    except ZeroDivisionError as error:
        told = error
    here = re.escape(__file__)
    with pytest.raises(
        PartFailed,
        match=rf"at every try: ZeroDivisionError: division by zero \({here}:\d+\); .* run the same command again",
    ):
        end.after_exception(None, {0: pickle.loads(pickle.dumps(failure(told, "third")))})


def test_the_user_is_told_which_worker_was_lost_and_not_which_workers_heard_of_it() -> None:
    died = ray.exceptions.ActorDiedError()
    error = ray.train.WorkerGroupError(
        "two\nlines", {0: died, 1: of_a_lost_worker(), 2: torch.distributed.DistBackendError("DistBackendError: NCCL")}
    )
    assert reason(error) is None
    assert lost(error).startswith("worker 0 was lost once more than cluster.part_retries allows: killed, ")
    assert lost(ray.train.WorkerGroupError("two\nlines", {})) == "Training failed due to worker errors: two lines"


def test_the_error_that_ended_a_run_is_found_within_that_of_ray_train() -> None:
    ours = ConfigError("no column; look")
    assert reason(ray.train.ControllerError(ours)) is ours
    failed = WorkerFailed(ours, False, "first")
    mixed = ray.train.WorkerGroupError("both", {0: ray.exceptions.ActorDiedError(), 1: failed})
    assert reason(mixed) is ours
    assert reason(ray.train.ControllerError(ValueError("of Ray"))) is None


def test_an_elastic_training_ends_once_starts_in_a_row_get_no_further() -> None:
    board = ProgressBoard()

    def start(*steps: int) -> None:
        check_getting_on(*board.begin(), RETRIES)
        for step in steps:
            board.write("arm", step, 100, "")

    for last in range(10):  # nodes are lost all the time, but each start gets one step further
        start(*range(last // 2, last + 1))
    for _ in range(STARTS_IN_VAIN - 1):
        start(*range(5, 10))
    start()  # lost before the first step
    with pytest.raises(PartFailed, match=r"in 3 starts in a row before step 10: .*run the same command again") as ended:
        start()
    assert not failure(ended.value, "a start").passes
    assert board.read() == {"arm": (9, 100, "")}
