"""What a plan needs of memory, disk, CPUs and GPUs, compared with what there is before anything starts."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass

import psutil

from react_ray.errors import ResourceError
from react_ray.recipe import ClusterConfig
from react_ray.runtime.cluster import nodes
from react_ray.runtime.placement import placement

logger = logging.getLogger(__name__)
DRIVER_GB = 1.0


def require_memory(config: ClusterConfig, each_gb: float, processes: int, what: str, hint: str = "") -> None:
    """ResourceError before the start if the plan does not fit, instead of a kill by the kernel an hour later.

    each_gb: memory of one process. hint: what the user can change. On a single machine all processes must fit together;
    on a cluster one process must fit on some node.
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
    """A number of processes, each with so many Ray CPUs and GPUs, on nodes of one role."""

    what: str
    processes: int
    cpus: float
    gpus: float
    role: str


def require_resources(config: ClusterConfig, demands: list[Demand], hint: str) -> None:
    """Say so where no node has what is asked for: Ray itself would wait without end.

    demands: what must run at the same time. hint: what the user can change.
    ResourceError if Ray runs on this machine alone. A cluster may start further nodes: there it is a warning.
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
    text = (
        f"{demand.what} needs {demand.processes} x {each}{f' beside {beside}' if beside else ''}, "
        f"and Ray has {has}, room for {placed} of them"
    )
    if len(nodes()) == 1 and not (config.address or os.environ.get("RAY_ADDRESS")):
        raise ResourceError(f"{text}; {hint}, or use a larger machine")
    logger.warning("%s; it waits until nodes with that come: if none will, stop it and %s", text, hint)


def require_disk(uri: str, needed_gb: float, what: str) -> None:
    """ResourceError if the disk that holds `uri` is too small; S3 has no limit to check."""
    if uri.startswith("s3://"):
        return
    place = uri
    while not os.path.exists(place):
        place = os.path.dirname(place)
    free_gb = psutil.disk_usage(place).free / 2**30
    if needed_gb > free_gb:
        raise ResourceError(
            f"{what} needs about {_size(needed_gb)} in {place} and {_size(free_gb)} are free; free some or name "
            "another `out` and `database`"
        )


def _size(gigabytes: float) -> str:
    return f"{gigabytes:.1f} GB" if gigabytes >= 1 else f"{1024 * gigabytes:.0f} MB"
