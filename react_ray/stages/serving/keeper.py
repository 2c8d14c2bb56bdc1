"""keeper: what a command has started in Ray Serve ends with it, also where it is killed or its node is lost.

Applications of Serve stay until somebody deletes them, with the memory and the nodes that they hold.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager, suppress
from typing import Any

import ray
import ray.util
from ray import serve
from ray.exceptions import ActorAlreadyExistsError, GetTimeoutError, RayActorError
from ray.serve.schema import ApplicationStatus
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from react_ray.errors import ClusterError

ENDING_S = 60.0  # for what a killed command has left
SPACE, OF_SERVE = "react-ray", "serve"  # namespaces of named actors
ALWAYS: dict[str, Any] = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}


class Lasting:
    """An actor of a command: Ray ends it with the command."""

    async def lasts(self) -> None:
        """Never returns."""
        await asyncio.Event().wait()


class Keeper(Lasting):
    """Outlives the command, and ends what it has left."""

    def __init__(self, name: str, names: Set[str], command: Any, owns_serve: bool) -> None:
        """As `_end`. command: the actor that ends with the command."""
        self._lives, self._owns_serve = True, owns_serve
        threading.Thread(target=self._wait, args=(name, names, command), daemon=True).start()

    async def lives(self) -> bool:
        """False: the command has ended, or ends now."""
        return self._lives

    async def owns_serve(self) -> bool:
        return self._owns_serve

    async def ends(self) -> None:
        """The command says that it ends now."""
        self._lives = False

    def _wait(self, name: str, names: Set[str], command: Any) -> None:
        with suppress(RayActorError):
            ray.get(command.lasts.remote())
        self._lives = False
        _end(name, names, self._owns_serve)
        me: Any = ray.get_runtime_context().current_actor
        ray.kill(me)


@contextmanager
def kept(name: str, names: Set[str]) -> Iterator[None]:
    """Within the block these applications may be started: it ends them, or the keeper of this name does, if the block
    ends in no other way. Serve ends with the last of all commands, if one of them has started it. ClusterError if
    somebody serves them already.

    Who ends says so before it looks whether others live, and who begins lives before it looks whether others end: so
    nobody ends the Serve of one who begins.
    """
    _wait_for_ends(lambda other: other == name)
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    command = ray.remote(Lasting).options(scheduling_strategy=here, **ALWAYS).remote()
    keeper_class: Any = ray.remote(Keeper).options(name=name, namespace=SPACE, lifetime="detached", **ALWAYS)
    taken = ClusterError(
        f"{name} is served on this cluster already; set `name` to another, or end the command that serves it, or all "
        "with `serve shutdown`"
    )
    owns_serve = any(_asked(keeper.owns_serve) for keeper in _keepers(name).values()) or not _runs()
    try:
        keeper = keeper_class.remote(name, set(names), command, owns_serve)
    except ActorAlreadyExistsError:
        raise taken from None
    try:
        _wait_for_ends(lambda other: other != name)
        if names & _there():
            raise taken
    except BaseException:
        ray.kill(keeper)
        raise
    try:
        yield
    finally:
        with suppress(RayActorError):
            ray.get(keeper.ends.remote())
        _end(name, names, owns_serve)
        ray.kill(keeper)


def _keepers(but: str) -> dict[str, Any]:
    """By name, without that of this name."""
    found = {}
    for actor in ray.util.list_named_actors(all_namespaces=True):
        if actor["namespace"] == SPACE and actor["name"] != but:
            with suppress(ValueError):  # it has just gone
                found[actor["name"]] = ray.get_actor(actor["name"], SPACE)
    return found


def _asked(method: Any) -> bool:
    """False if the actor is gone."""
    with suppress(RayActorError):
        return bool(ray.get(method.remote()))
    return False


def _wait_for_ends(is_waited_for: Callable[[str], bool]) -> None:
    """Until the commands of these names that end have ended. ClusterError if that takes too long."""
    for name, keeper in _keepers("").items():
        if is_waited_for(name) and not _asked(keeper.lives):
            try:
                with suppress(RayActorError):
                    ray.get(keeper.lasts.remote(), timeout=ENDING_S)
            except GetTimeoutError:
                raise ClusterError(f"{name} of another command does not end; end it with `serve shutdown`") from None


def _runs() -> bool:
    """Whether there is a Serve."""
    return any(actor["namespace"] == OF_SERVE for actor in ray.util.list_named_actors(all_namespaces=True))


def _there() -> set[str]:
    """The applications of Serve, without those that end."""
    there = serve.status().applications.items()
    return {name for name, one in there if one.status != ApplicationStatus.DELETING}


def _end(name: str, names: Set[str], owns_serve: bool) -> None:
    """Ends these applications of the command of this name, and Serve itself if nobody else serves anything there."""
    with suppress(RayActorError):  # somebody else ends Serve
        others = any(_asked(keeper.lives) for keeper in _keepers(name).values())
        if owns_serve and not others and not _there() - names:
            serve.shutdown()
            return
        for one in names & _there():
            serve.delete(one, _blocking=False)
