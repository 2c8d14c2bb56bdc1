"""Load raises the processes of a group, its nodes and the processes that take requests, and idleness lowers them."""

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

import react_ray
from react_ray.stages.serve import served
from tests.support.autoscaling_cluster import autoscaling_cluster, nodes_of
from tests.support.ray_serve import num_running
from tests.support.searchable import ANIMALS, many, write_index, write_searchable
from tests.support.serving import serving_recipe

CLIENTS, QUERIES, PATIENCE_S = 64, 50, 240.0


@pytest.mark.slow
def test_load_brings_replicas_and_nodes_and_idleness_takes_them_away(tmp_path: Path) -> None:
    uri = f"{tmp_path}/database"
    write_searchable(uri, [(ANIMALS + many(120)) * 400, many(90, 200)])
    write_index(uri, num_shards=2)
    width = {"min_replicas": 1, "max_replicas": 3, "upscale_delay_s": 2, "downscale_delay_s": 5}
    section = {"port": 0, "max_in_flight": 512, "max_ingress_replicas": 2, **width}
    cluster = {"roles": True, "threads_per_actor": 1}
    seen: list[tuple[float, int, int, int]] = []
    with autoscaling_cluster(tmp_path, {"index": 3, "embed": 2}):
        assert nodes_of("index") == 0
        with served(serving_recipe(uri, serve=section, cluster=cluster)) as url:
            began = time.monotonic()

            def until(reached: Callable[[int, int, int], bool]) -> None:
                while time.monotonic() - began < PATIENCE_S:
                    there = num_running("group-0"), nodes_of("index"), num_running("Ingress")
                    seen.append((round(time.monotonic() - began), *there))
                    if reached(*seen[-1][1:]):
                        return
                    threading.Event().wait(1)
                raise AssertionError(seen)

            until(lambda *there: there == (1, 1, 1))
            with load(url):
                until(lambda *there: there == (3, 3, 2))
            until(lambda *there: there == (1, 1, 1))
            assert react_ray.connect(url).search("a heron", 5, key="text")["coverage"] == 1
    print("seconds, processes of the group, nodes of the role index, processes that take requests:", seen)


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
