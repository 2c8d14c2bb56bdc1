"""Join or start Ray, and say where a stage's work runs. Next: map_parts.py."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil
import ray

from react_ray.errors import ReactRayError, ResourceError
from react_ray.recipe import ClusterConfig

logger = logging.getLogger(__name__)
ROLE_LABEL = "react-role"
DRIVER_GB = 1.0


@contextmanager
def connected(config: ClusterConfig) -> Iterator[None]:
    """Ray for the time of one command; a Ray that is already initialised is left as it is."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    settings: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if not (config.address or os.environ.get("RAY_ADDRESS")):
        settings |= {
            "address": "local",
            "num_cpus": config.num_cpus or None,
            "object_store_memory": int(config.object_store_gb * 2**30),
            "include_dashboard": False,
        }
    elif config.address:
        settings["address"] = config.address
    with _no_native_stderr():
        ray.init(**settings)
    quiet()
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _no_native_stderr() -> Iterator[None]:
    """Ray's C++ side announces its own log level on file descriptor 2; what goes wrong comes as an exception."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def quiet() -> None:
    """Our progress display speaks for all stages; Ray's libraries stay silent unless something is wrong."""
    for name in ("ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)


def placement(config: ClusterConfig, role: str) -> dict[str, Any]:
    return {"label_selector": {ROLE_LABEL: role}} if config.roles else {}


def actor_pool(config: ClusterConfig, role: str, calls_at_once: int = 1) -> dict[str, Any]:
    """Keyword arguments of map_batches for an autoscaling pool of accelerator actors, each with so many parts at a time."""
    from ray.data import ActorPoolStrategy

    return {
        "compute": ActorPoolStrategy(
            min_size=min(config.min_actors, config.num_actors),
            max_size=config.num_actors,
            max_concurrent_calls_per_actor=calls_at_once,
            enable_true_multi_threading=True,
        ),
        "num_cpus": config.threads_per_actor - 0.5,  # half a core each is left for the tasks that read
        "num_gpus": config.gpus_per_actor,
        **placement(config, role),
    }


def thread_pool(config: ClusterConfig, role: str, num_workers: int, calls_at_once: int) -> dict[str, Any]:
    """Keyword arguments of map_batches for processes that mostly wait: each works on several parts, in as many threads."""
    from ray.data import ActorPoolStrategy

    return {
        "compute": ActorPoolStrategy(
            min_size=1,
            max_size=num_workers,
            max_concurrent_calls_per_actor=calls_at_once,
            enable_true_multi_threading=True,
        ),
        "num_cpus": 0.5,  # a machine of one core still has room for the tasks that read
        **placement(config, role),
    }


def answers(waiting: list[Any]) -> list[Any]:
    """ray.get; an error of ours comes as itself, without Ray's around it."""
    try:
        return ray.get(waiting)
    except ray.exceptions.RayTaskError as error:
        raise (error.cause if isinstance(error.cause, ReactRayError) else error) from None


def nodes() -> list[dict[str, Any]]:
    """Those of the cluster that are alive, as Ray describes them."""
    return [node for node in ray.nodes() if node["Alive"]]


def largest_node_cpus(config: ClusterConfig, role: str) -> int:
    """Of the nodes that this role may run on; 1 while there is none: an autoscaler will start one that we do not know."""
    wanted = placement(config, role).get("label_selector", {})
    return max(
        (int(node["Resources"].get("CPU", 0)) for node in nodes() if wanted.items() <= node["Labels"].items()),
        default=1,
    )


def require_memory(config: ClusterConfig, each_gb: float, processes: int, what: str, hint: str = "") -> None:
    """Say before starting that the plan does not fit, not after an hour by the kernel's hand.

    each_gb: of one process; hint: what to change. On this machine all of them must fit together; on a cluster one must fit on some node.
    """
    largest_gb = max(node["Resources"].get("memory", 0) for node in nodes()) / 2**30
    if len(nodes()) == 1:
        free_gb, needed_gb = psutil.virtual_memory().available / 2**30, DRIVER_GB + each_gb * processes
    else:
        free_gb, needed_gb = largest_gb, each_gb
    free_gb = config.memory_gb or free_gb
    if needed_gb > free_gb:
        raise ResourceError(
            f"{what} needs about {needed_gb:.1f} GB of memory and {free_gb:.1f} GB are free; "
            f"{hint or 'use smaller parts or fewer workers'}, or use a larger machine"
        )


@dataclass(frozen=True)
class Demand:
    """So many processes with so many Ray CPUs and GPUs each, on nodes of one role."""

    what: str
    processes: int
    cpus: float
    gpus: float
    role: str


def require_resources(config: ClusterConfig, demands: list[Demand], hint: str) -> None:
    """Ray would wait without end for what no node has. demands: at the same time; hint: what to change.

    ResourceError on a Ray of this machine alone. A cluster may start nodes that we do not know: there a warning.
    """
    free = [(dict(node["Resources"]), node["Labels"]) for node in nodes()]
    for demand in demands:
        wanted = placement(config, demand.role).get("label_selector", {})
        needed = {"CPU": demand.cpus, "GPU": demand.gpus}
        for placed in range(demand.processes):
            fits = (
                has
                for has, labels in free
                if wanted.items() <= labels.items() and all(has.get(name, 0) >= n - 1e-6 for name, n in needed.items())
            )
            if (has := next(fits, None)) is None:
                _short(config, demand, placed, demands, hint)
                return
            has.update({name: has.get(name, 0) - n for name, n in needed.items()})


def _short(config: ClusterConfig, demand: Demand, placed: int, demands: list[Demand], hint: str) -> None:
    each = " and ".join(f"{n:g} {name}" for name, n in (("CPUs", demand.cpus), ("GPUs", demand.gpus)) if n)
    beside = ", ".join(one.what for one in demands if one is not demand)
    has = " and ".join(f"{sum(node['Resources'].get(key, 0) for node in nodes()):g} {key}s" for key in ("CPU", "GPU"))
    text = f"{demand.what} needs {demand.processes} x {each}{f' beside {beside}' if beside else ''}, and Ray has {has}, room for {placed} of them"
    if len(nodes()) == 1 and not (config.address or os.environ.get("RAY_ADDRESS")):
        raise ResourceError(f"{text}; {hint}, or use a larger machine")
    logger.warning("%s; it waits until nodes with that come: if none will, stop it and %s", text, hint)


def require_disk(uri: str, needed_gb: float, what: str) -> None:
    if uri.startswith("s3://"):
        return
    place = uri
    while not os.path.exists(place):
        place = os.path.dirname(place)
    free_gb = psutil.disk_usage(place).free / 2**30
    if needed_gb > free_gb:
        raise ResourceError(
            f"{what} needs about {needed_gb:.1f} GB in {place} and {free_gb:.1f} GB are free; free some or name another `out` and `database`"
        )
