"""How many actors search, with how many threads, how they are started, and how their answers are awaited."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import ray

from react_ray.errors import ShardUnavailable
from react_ray.progress import say
from react_ray.recipe import ClusterConfig
from react_ray.row_guard import one_line
from react_ray.runtime.cluster import answers, nodes
from react_ray.runtime.placement import largest_node_cpus, placement

RESTARTS = 20  # of one actor during a whole retrieval; nodes may be lost in hours of it
TASK_RETRIES = 3  # of one question: it may be what kills
PATIENCE_S = 60.0


def width(cluster: ClusterConfig, most: int) -> tuple[int, int]:
    """Returns (processes, threads of each). On one machine, one process with all cores opens everything once."""
    if len(nodes()) == 1:
        return 1, max(1, largest_node_cpus(cluster, "index"))
    return min(most, cluster.num_searchers), cluster.threads_per_actor


def threads_here(cluster: ClusterConfig) -> int:
    """Returns the number of threads of a search in this process."""
    return cluster.num_cpus or os.cpu_count() or 1


def starter(kind: type, cluster: ClusterConfig, num_gpus: float = 0) -> Callable[..., Any]:
    """Returns a function that starts an actor of this kind, on a node of the index, or on one with GPUs.

    An actor that dies is restarted, and answers what it was asked. On a single machine it reserves no CPU, because it
    lives through a whole retrieval, in which other work waits for CPUs.
    """
    where = placement(cluster, "embed" if num_gpus else "index")
    options = {"max_restarts": RESTARTS, "max_task_retries": TASK_RETRIES, "num_gpus": num_gpus, **where}
    return ray.remote(kind).options(num_cpus=0 if len(nodes()) == 1 else 1, **options).remote


def await_ready(actors: list[Any]) -> None:
    """Waits until these actors have opened what they search, and takes them off the list. Says so while some have not:
    those without a node make Ray's autoscaler bring one, and a cluster that does not grow would let them wait for
    ever."""
    ready = [actor.__ray_ready__.remote() for actor in actors]
    while ready and (missing := ray.wait(ready, num_returns=len(ready), timeout=PATIENCE_S)[1]):
        say(
            f"waiting for {len(missing)} of {len(ready)} searchers: they open their shards, or no node has a CPU for "
            "them; if none is coming, add one or lower cluster.num_searchers"
        )
    actors.clear()


def answers_of(waiting: list[Any]) -> list[Any]:
    """ShardUnavailable if an actor does not answer."""
    try:
        return answers(waiting)
    except ray.exceptions.RayActorError as error:
        raise ShardUnavailable(
            f"a shard did not answer after its restarts: {one_line(error, 500)}; run the same command again"
        ) from error
