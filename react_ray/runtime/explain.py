"""Says in one line what an error of Ray, of the memory or of a disk means and what to do about it."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

import ray.exceptions as of_ray

from react_ray.errors import ClusterError, ReactRayError, ResourceError, StorageError
from react_ray.storage.base import OF_S3

AGAIN = "what is done is kept, run the same command again to go on"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
LOST = (of_ray.RayActorError, of_ray.WorkerCrashedError, of_ray.NodeDiedError, of_ray.ObjectLostError)
SILENT = (of_ray.GetTimeoutError, of_ray.RpcError, of_ray.RaySystemError, of_ray.LocalRayletDiedError)
UNPLACED = (of_ray.TaskUnschedulableError, of_ray.ActorUnschedulableError)
UNKNOWN = re.compile("unauthenticated|auth.token", re.IGNORECASE)  # of Ray's C++ side, without the right token
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def explain(error: BaseException) -> ReactRayError | None:
    """The error that the user should read; None if it is a fault of ours."""
    chain = list(_chain(error))
    for link in chain:
        if isinstance(link, ReactRayError) and not isinstance(link, of_ray.RayTaskError):
            return link  # Ray's own error is also of the type of its cause, and shows a whole traceback
    for link in chain:
        if (meant := _meant(link)) is not None:
            return meant
    return None


def wants_token(error: BaseException) -> bool:
    """True if a cluster refused this process because it showed no token, or that of another cluster."""
    return any(isinstance(link, of_ray.AuthenticationError) or UNKNOWN.search(str(link)) for link in _chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and all that it was raised for, also across processes."""
    seen: list[BaseException] = []
    waiting = [error]
    while waiting:
        link = waiting.pop(0)
        if isinstance(link, BaseException) and not any(link is known for known in seen):
            seen.append(link)
            yield link
            waiting += [getattr(link, "cause", None), getattr(link, "controller_failure", None), link.__cause__]
            waiting += getattr(link, "worker_failures", {}).values()


def _meant(error: BaseException) -> ReactRayError | None:
    said = first_line(error)
    if isinstance(error, of_ray.OutOfMemoryError):
        return ResourceError(
            f"a worker was ended because the memory of its machine was nearly full; lower cluster.num_actors or "
            f"ingest.rows_per_part, or use a larger machine; {AGAIN}"
        )
    if isinstance(error, (of_ray.OutOfDiskError, of_ray.ObjectStoreFullError)):
        return ResourceError(f"Ray has no room for its objects ({said}); make room on the disk of its session; {AGAIN}")
    if isinstance(error, LOST):
        return ClusterError(
            f"a process of Ray was lost ({type(error).__name__}), most often for want of memory or with its machine; "
            f"{AGAIN}"
        )
    if isinstance(error, of_ray.AuthenticationError):
        return ClusterError(
            f"Ray refuses this process ({said}); give it the token of the cluster: RAY_AUTH_MODE=token, and "
            f"RAY_AUTH_TOKEN or ~/.ray/auth_token as on the head node; {AGAIN}"
        )
    if isinstance(error, UNPLACED):
        return ClusterError(f"Ray cannot place a worker ({said}); add nodes or lower the section cluster; {AGAIN}")
    if isinstance(error, SILENT):
        return ClusterError(f"Ray does not answer ({type(error).__name__}: {said}); {AGAIN}")
    if isinstance(error, MemoryError):
        return ResourceError(f"memory ran out; lower the section cluster or use a larger machine; {AGAIN}")
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        place = f" {error.filename}" if error.filename else ""
        return StorageError(f"cannot write{place}: {error.strerror}; make room there; {AGAIN}")
    if isinstance(error, OSError) and OF_S3 in str(error):
        return StorageError(
            f"cannot read from S3: {said}; check the bucket, AWS credentials and AWS_ENDPOINT_URL; {AGAIN}"
        )
    return None


def first_line(error: BaseException) -> str:
    """The first line of what an error says that has text, shortened."""
    lines = [" ".join(COLOUR.sub("", line).split()) for line in str(error).splitlines()]
    return next((line for line in lines if line), type(error).__name__)[:200].rstrip(" .;:")
