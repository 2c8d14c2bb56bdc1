"""Where the work of a stage runs: Ray's options for tasks and actor pools, by the role of a node."""

from __future__ import annotations

from typing import Any

from react_ray.recipe import ClusterConfig
from react_ray.runtime.cluster import is_running, nodes

ROLE_LABEL = "react-role"
FEW_IMAGES = 10_000


def placement(config: ClusterConfig, role: str) -> dict[str, Any]:
    """Options that send a task or an actor to nodes of this role; empty unless the recipe places by roles."""
    return {"label_selector": {ROLE_LABEL: role}} if config.roles else {}


def actor_pool(config: ClusterConfig, role: str, calls_at_once: int = 1) -> dict[str, Any]:
    """Options of map_batches for an autoscaling pool of accelerator actors. calls_at_once: parts in work per actor."""
    from ray.data import ActorPoolStrategy

    return {
        "compute": ActorPoolStrategy(
            min_size=min(config.min_actors, config.num_actors),
            max_size=config.num_actors,
            max_concurrent_calls_per_actor=calls_at_once,
            enable_true_multi_threading=True,
        ),
        "num_cpus": config.threads_per_actor - 0.5,  # half a core of each actor is left for the tasks that read
        "num_gpus": config.gpus_per_actor,
        **placement(config, role),
    }


def is_soonest_here(config: ClusterConfig, num_images: int) -> bool:
    """True if this process embeds so many images before an actor with the same cores has even started: few images, and
    a cluster of this machine alone whose actors have no GPU."""
    alone = not is_running() or len(nodes()) == 1
    return num_images <= FEW_IMAGES and alone and not config.gpus_per_actor


def num_threads(config: ClusterConfig, here: bool) -> int:
    """CPU threads of a process that embeds: of an actor, or of this process (here), which has all cores to itself."""
    return config.num_actors * config.threads_per_actor if here else config.threads_per_actor


def thread_pool(config: ClusterConfig, role: str, num_workers: int, calls_at_once: int) -> dict[str, Any]:
    """Options of map_batches for processes that mostly wait: each works on several parts, in as many threads."""
    from ray.data import ActorPoolStrategy

    return {
        "compute": ActorPoolStrategy(
            min_size=1,
            max_size=num_workers,
            max_concurrent_calls_per_actor=calls_at_once,
            enable_true_multi_threading=True,
        ),
        "num_cpus": 0.5,  # a machine with one core still has room for the tasks that read
        **placement(config, role),
    }


def largest_node_cpus(config: ClusterConfig, role: str) -> int:
    """The most CPUs that a node of this role has; 1 while there is no such node, since an autoscaler may start any."""
    wanted = placement(config, role).get("label_selector", {})
    fitting = (node for node in nodes() if wanted.items() <= node["Labels"].items())
    return max((int(node["Resources"].get("CPU", 0)) for node in fitting), default=1)
