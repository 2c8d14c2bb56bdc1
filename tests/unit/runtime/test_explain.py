"""What Ray, the memory or a disk did is said in one line that ends with what to do."""

from __future__ import annotations

import errno

import pytest
import ray
import ray.train

from react_ray.errors import ClusterError, ConfigError, ReactRayError, ResourceError, StorageError
from react_ray.runtime.explain import explain, wants_token

OURS = ConfigError("no column; look")


def from_a_task(error: Exception) -> Exception:
    try:
        raise ray.exceptions.RayTaskError("f", "Traceback\n...", error, pid=1, ip="1").as_instanceof_cause()
    except Exception as raised:
        return raised


def around(error: Exception) -> Exception:
    try:
        raise RuntimeError("of Ray Data") from error
    except RuntimeError as raised:
        return raised


@pytest.mark.parametrize("error", [OURS, from_a_task(OURS), around(from_a_task(OURS)), ray.train.ControllerError(OURS)])
def test_an_error_of_ours_is_found_within_those_of_ray(error: Exception) -> None:
    found = explain(error)
    assert isinstance(found, ConfigError) and str(found) == "no column; look"


@pytest.mark.parametrize(
    "error, kind, says",
    [
        (ray.exceptions.OutOfMemoryError("Task was killed\n\nby the node"), ResourceError, "num_actors"),
        (ray.exceptions.ActorDiedError(), ClusterError, "was lost (ActorDiedError)"),
        (ray.exceptions.WorkerCrashedError(), ClusterError, "was lost (WorkerCrashedError)"),
        (ray.exceptions.NodeDiedError("gone"), ClusterError, "was lost (NodeDiedError)"),
        (ray.exceptions.GetTimeoutError("Get timed out"), ClusterError, "does not answer (GetTimeoutError: Get timed"),
        (from_a_task(MemoryError()), ResourceError, "memory ran out"),
        (from_a_task(ray.exceptions.AuthenticationError("no token")), ClusterError, "RAY_AUTH_MODE=token"),
        (OSError(errno.ENOSPC, "No space left on device", "/f"), StorageError, "cannot write /f: No space left"),
        (OSError(errno.EROFS, "Read-only file system"), StorageError, "cannot write: Read-only"),
    ],
)
def test_what_happened_outside_is_one_line(error: Exception, kind: type[ReactRayError], says: str) -> None:
    for told in (explain(error), explain(around(error))):
        assert isinstance(told, kind) and says in str(told) and "\n" not in str(told)
        assert str(told).endswith("run the same command again to go on")


@pytest.mark.parametrize("error", [ValueError("x"), from_a_task(KeyError("x")), OSError(errno.EIO, "x")])
def test_a_fault_of_ours_is_none_of_them(error: Exception) -> None:
    assert explain(error) is None


def test_a_cluster_that_wants_another_token_is_told_from_one_that_does_not_answer() -> None:
    for error in (ray.exceptions.AuthenticationError("no token"), RuntimeError("RPC: Unauthenticated: token mismatch")):
        assert wants_token(error) and wants_token(around(error))
    assert not wants_token(ConnectionError("refused")) and not wants_token(around(TimeoutError()))
