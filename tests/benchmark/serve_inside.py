"""A search inside of the cluster, without HTTP, for bench_serve.py."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import numpy as np
from ray import serve

from react_ray.index.config import SearchParams
from react_ray.recipe import Recipe
from react_ray.serving.coordinator import Search
from react_ray.serving.groups import Asked
from react_ray.serving.peer import Peer
from react_ray.serving.service import Service
from react_ray.stages.serving.application import group_name
from react_ray.stages.serving.serve_group import ServeGroup
from tests.benchmark.quantiles import awaited
from tests.benchmark.serve_noop import Echo

TIMEOUT_S = 30.0
HANDLES: dict[str, dict[str, Any]] = {
    "handle": {"_by_reference": False, "request_serialization": "pickle", "response_serialization": "pickle"},
    "cloudpickle": {"_by_reference": False},
    "task": {"_by_reference": True},
}


async def client_times(
    recipe: Recipe, groups: int, queries_QD: np.ndarray, k: int, params: SearchParams, times: int
) -> list[tuple[float, float]]:
    """Quantiles of a search of all groups, and of as many questions of processes that do nothing: as groups are asked,
    and in each of HANDLES."""
    names = [group_name(number) for number in range(groups)]
    apps = {group: app for app, status in serve.status().applications.items() for group in status.deployments}
    handles = [ServeGroup(name, serve.get_deployment_handle(name, apps[name]), TIMEOUT_S, False) for name in names]
    service = Service(recipe, handles)
    await service.start()
    view = service.now
    deployment = Echo.options(num_replicas=groups, ray_actor_options={"num_cpus": 0}).bind()
    echo: Any = await asyncio.to_thread(serve.run, deployment, name="echo", route_prefix=None)
    peers = [Peer(address) for address in await echo.broadcast("where").results_async()]

    async def search(number: int) -> Any:
        return await Search(view.plans["image"], view.stamp).hits(queries_QD[number, None], k, params)

    asked = Asked(view.stamp, "image", (), "search", queries_QD[:1], (k, params))

    async def nothing(number: int) -> None:
        await asyncio.gather(*(peer.ask("answer", asked) for peer in peers))

    async def by_handle(handle: Any, number: int) -> None:
        await asyncio.gather(*(handle.answer.remote(asked) for _ in peers))

    ways = [partial(by_handle, echo.options(**options)) for options in HANDLES.values()]
    found = [await awaited(one, times, len(queries_QD)) for one in (search, nothing, *ways)]
    await service.close()
    return found
