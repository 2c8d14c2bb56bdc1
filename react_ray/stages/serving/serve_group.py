"""ServeGroup: a group whose processes are the replicas of a Ray Serve deployment."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import ray
from ray import serve
from ray.serve.exceptions import DeploymentUnavailableError, ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle

from react_ray.errors import ReactRayError
from react_ray.serving.asking import ask
from react_ray.serving.groups import Asked
from react_ray.serving.pace import Pace
from react_ray.serving.stamp import Stamp

DEATHS = (
    ray.exceptions.RayActorError,
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.ObjectLostError,
    DeploymentUnavailableError,
    ReplicaUnavailableError,
)
# A single query goes by gRPC instead of as a task of an actor: 2 ms instead of 5 for nothing. Answers to many queries
# are larger than the 4 MB that Ray's channel takes, whatever RAY_SERVE_THROUGHPUT_OPTIMIZED makes the default.
BY_GRPC: dict[str, Any] = {
    "_by_reference": False,
    "request_serialization": "pickle",
    "response_serialization": "pickle",
}
PATIENCE_S = 20.0  # a replica that died is back before, also on a busy machine: 10 s were too few there
OPENING_S = 3600.0  # shards of 100 GB come from S3 in less


class ServeGroup:
    def __init__(self, name: str, handle: DeploymentHandle[Any], timeout_s: float, hedges: bool) -> None:
        """hedges: the deployment may have more than one replica."""
        self.name, self._hedges = name, hedges
        self._handle, self._quick = handle.options(_by_reference=True), handle.options(**BY_GRPC)
        self._patience_s = min(PATIENCE_S, 0.9 * timeout_s)
        self._pace = Pace()

    async def answer(self, asked: Asked) -> Any:
        async def send() -> Any:
            if len(asked.queries_QD) > 1:
                return await _plainly(self._handle.answer.remote(asked))
            try:
                return await _plainly(self._quick.answer.remote(asked))
            except grpc.aio.AioRpcError as error:
                if error.code() != grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
            return await _plainly(self._handle.answer.remote(asked))  # the answer is larger than a message may be

        return await ask(send, self.name, is_death, self._pace, self._patience_s, self._hedges)

    async def prepare(self, stamp: Stamp) -> None:
        async def send() -> None:
            await _plainly(self._handle.prepare.remote(stamp))

        await ask(send, self.name, is_death, Pace(), OPENING_S, hedges=False)

    async def replicas(self) -> int | None:
        status = await asyncio.to_thread(serve.status)
        app = status.applications[self._handle.app_name or "default"]
        running: dict[Any, int] = dict(app.deployments[self.name].replica_states)
        return running.get("RUNNING", 0)


async def _plainly(response: Any) -> Any:
    """One of our own errors is raised as itself, without Ray's around it."""
    try:
        return await response
    except ray.exceptions.RayTaskError as error:
        raise (error.cause if isinstance(error.cause, ReactRayError) else error) from None


def is_death(error: BaseException) -> bool:
    return isinstance(error, DEATHS)
