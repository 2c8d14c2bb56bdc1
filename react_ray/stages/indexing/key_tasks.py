"""Runs one task per key of an index, each in a process that ends with it and so returns its memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray

from react_ray.progress import Progress
from react_ray.recipe import ClusterConfig
from react_ray.runtime.cluster import answers, need
from react_ray.runtime.placement import placement


def start(task: Callable[..., Any], cluster: ClusterConfig, *arguments: Any) -> Any:
    """Starts `task(*arguments)` on a node of the index; returns the reference to its result."""
    need()
    return ray.remote(max_calls=1)(task).options(num_cpus=1, **placement(cluster, "index")).remote(*arguments)


def wait(stage: str, tasks: list[Any]) -> list[Any]:
    """Returns the results, and shows progress until all have come."""
    with Progress(stage, len(tasks), "keys", unit="keys") as progress:
        waiting = tasks
        while waiting:
            done, waiting = ray.wait(waiting, timeout=1.0)
            progress.advance(rows=len(done), done=len(done))
    return answers(tasks)
