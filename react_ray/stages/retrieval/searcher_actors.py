"""How many actors search, with how many threads, and how they are started."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray

from react_ray.recipe import ClusterConfig
from react_ray.runtime.cluster import nodes
from react_ray.runtime.placement import largest_node_cpus, placement


@dataclass(frozen=True)
class Width:
    """fewest: actors that a search needs. most: actors that share it while work waits. num_threads: of each."""

    fewest: int
    most: int
    num_threads: int


def width(cluster: ClusterConfig, most: int) -> Width:
    """most: shards, or parts. On one machine, one process with all cores opens everything once."""
    if _is_alone(cluster):
        return Width(1, 1, max(1, largest_node_cpus(cluster, "index")))
    most = min(most, cluster.num_searchers)
    return Width(min(most, cluster.min_searchers), most, cluster.threads_per_actor)


def threads_here(cluster: ClusterConfig) -> int:
    """Returns the number of threads of a search in this process."""
    return cluster.num_cpus or os.cpu_count() or 1


def starter(kind: type, cluster: ClusterConfig, num_threads: int, num_gpus: float = 0) -> Callable[..., Any]:
    """Returns a function that starts an actor of this kind, on a node of the index, or on one with GPUs.

    It answers one question at a time, with all of its threads: of two at a time, each takes longer than both in turn.
    It reserves its threads on nodes that are there for it, and one elsewhere, because it lives through a whole
    retrieval, in which other work waits for CPUs; on a single machine none.
    """
    num_cpus = 0 if _is_alone(cluster) else num_threads if cluster.roles else 1
    options = {"num_gpus": num_gpus, **placement(cluster, "embed" if num_gpus else "index")}
    return ray.remote(kind).options(num_cpus=num_cpus, scheduling_strategy="SPREAD", **options).remote


def _is_alone(cluster: ClusterConfig) -> bool:
    """True on a single machine. Where there are roles, nodes come when they are needed."""
    return not cluster.roles and len(nodes()) == 1
