"""keeper: what a command has started in Ray Serve ends with it, also where it is killed or its node is lost.

Applications of Serve stay until somebody deletes them, with the memory and the nodes that they hold.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from typing import Any

import ray
from ray import serve
from ray.exceptions import ActorAlreadyExistsError, GetTimeoutError, RayActorError
from ray.serve.schema import ApplicationStatus
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from react_ray.errors import ClusterError

ENDING_S = 60.0  # for what a killed command has left
SPACE = "react-ray"  # of Ray's names
ALWAYS: dict[str, Any] = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}


class Lasting:
    """An actor of a command: Ray ends it with the command."""

    async def lasts(self) -> None:
        """Never returns."""
        await asyncio.Event().wait()


class Keeper(Lasting):
    """Outlives the command, and ends what it has left."""

    def __init__(self, names: Set[str], command: Any) -> None:
        """names: of applications. command: the actor that ends with the command."""
        self._lives = True
        threading.Thread(target=self._wait, args=(names, command), daemon=True).start()

    async def lives(self) -> bool:
        """Whether the command does."""
        return self._lives

    def _wait(self, names: Set[str], command: Any) -> None:
        with suppress(RayActorError):
            ray.get(command.lasts.remote())
        self._lives = False
        end(names)
        me: Any = ray.get_runtime_context().current_actor
        ray.kill(me)


@contextmanager
def kept(name: str, names: Set[str]) -> Iterator[None]:
    """Within the block these applications may be started: it ends them, or the keeper of this name does, if the block
    ends in no other way. ClusterError if somebody serves them already."""
    _wait_for_last(name)
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    command = ray.remote(Lasting).options(scheduling_strategy=here, **ALWAYS).remote()
    keeper_class: Any = ray.remote(Keeper).options(name=name, namespace=SPACE, lifetime="detached", **ALWAYS)
    taken = ClusterError(
        f"{name} is served on this cluster already; set `name` to another, or end the command that serves it, or all "
        "with `serve shutdown`"
    )
    if names & _there():
        raise taken
    try:
        keeper = keeper_class.remote(set(names), command)
    except ActorAlreadyExistsError:
        raise taken from None
    try:
        yield
    finally:
        end(names)
        ray.kill(keeper)


def _wait_for_last(name: str) -> None:
    """Until what a killed command has left has ended. ClusterError if that takes too long."""
    with suppress(ValueError, RayActorError):  # there is no such actor, or no longer
        keeper = ray.get_actor(name, SPACE)
        if ray.get(keeper.lives.remote()):
            return
        try:
            ray.get(keeper.lasts.remote(), timeout=ENDING_S)
        except GetTimeoutError:
            raise ClusterError("what a killed command has left does not end; end it with `serve shutdown`") from None


def _there() -> set[str]:
    """The applications of Serve, without those that end."""
    there = serve.status().applications.items()
    return {name for name, one in there if one.status != ApplicationStatus.DELETING}


def end(names: Set[str]) -> None:
    """Ends these applications, and with the last of all Serve itself."""
    with suppress(RayActorError):  # somebody else ends Serve
        if not _there() - names:
            serve.shutdown()
            return
        for name in names:
            serve.delete(name, _blocking=False)
