"""Load raises the processes of a group and the nodes of its role, and idleness lowers both."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray import serve

import react_ray
from react_ray.stages.serve import served
from react_ray.stages.serving.application import NAME
from tests.support.autoscaling_cluster import autoscaling_cluster, nodes_of
from tests.support.searchable import ANIMALS, many, write_index, write_searchable
from tests.support.serving import serving_recipe

CLIENTS, QUERIES, PATIENCE_S = 64, 50, 240.0


@pytest.mark.slow
def test_load_brings_replicas_and_nodes_and_idleness_takes_them_away(tmp_path: Path) -> None:
    uri = f"{tmp_path}/database"
    write_searchable(uri, [(ANIMALS + many(120)) * 400, many(90, 200)])
    write_index(uri, num_shards=2)
    width = {"min_replicas": 1, "max_replicas": 3, "upscale_delay_s": 2, "downscale_delay_s": 5}
    section = {"port": 0, "max_in_flight": 512, **width}
    cluster = {"roles": True, "threads_per_actor": 1}
    seen: list[tuple[float, int, int]] = []
    with autoscaling_cluster(tmp_path, {"index": 3, "embed": 1}):
        assert nodes_of("index") == 0
        with served(serving_recipe(uri, serve=section, cluster=cluster)) as url:
            began = time.monotonic()

            def until(reached: Callable[[int, int], bool]) -> None:
                while time.monotonic() - began < PATIENCE_S:
                    seen.append((round(time.monotonic() - began), running(), nodes_of("index")))
                    if reached(*seen[-1][1:]):
                        return
                    threading.Event().wait(1)
                raise AssertionError(seen)

            until(lambda replicas, nodes: (replicas, nodes) == (1, 1))
            with load(url):
                until(lambda replicas, nodes: replicas == 3 and nodes == 3)
            until(lambda replicas, nodes: replicas == 1 and nodes == 1)
            assert react_ray.connect(url).search("a heron", 5, key="text")["coverage"] == 1
        serve.shutdown()
    print("seconds, replicas, nodes of the role index:", seen)


def running() -> int:
    states: dict[Any, int] = dict(serve.status().applications[NAME].deployments["group-0"].replica_states)
    return states.get("RUNNING", 0)


@contextmanager
def load(url: str) -> Iterator[None]:
    """Clients ask without a pause, in a thread, for more than one process of the group can do."""
    ended = threading.Event()
    vectors_QD = np.random.default_rng(0).standard_normal((QUERIES, 128)).astype(np.float32)

    async def ask(client: Any) -> None:
        while not ended.is_set():
            await client.search_vectors(vectors_QD, 5, key="image")

    async def all_ask() -> None:
        async with react_ray.connect(url, asynchronous=True, timeout_s=120) as client:
            await asyncio.gather(*(ask(client) for _ in range(CLIENTS)))

    thread = threading.Thread(target=asyncio.run, args=(all_ask(),))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
