"""Searches again and again while searchers come and go, and compares all hits with those of one process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

from react_ray.artifact import open_artifact
from react_ray.index.config import SearchParams
from react_ray.index.search_shards import search_shards
from react_ray.index.shards import open_shards, shard_places
from react_ray.kinds import INDEX
from react_ray.recipe import ClusterConfig
from react_ray.stages.retrieval.shard_actors import ShardFanOut
from tests.support.searchable import write_index
from tests.support.vector_database import clustered, write_database

ASKED = clustered(5000, 16, seed=99, noise=0.9, shift=0.2).astype(np.float32)  # five batches
NOTHING = np.empty(0, np.int64)
TWO_ROUNDS = SearchParams(2, 3.0)
PATIENCE_S = 240.0


def write_five_shards(uri: str) -> None:
    write_database(uri, 5, 300)
    write_index(uri, num_shards=5, kind="ivf-rabitq")


def fan_out(uri: str, **cluster: Any) -> ShardFanOut:
    """For one to three searchers."""
    wide = ClusterConfig(num_searchers=3, threads_per_actor=1, **cluster)
    return ShardFanOut(open_artifact(f"{uri}/index", INDEX), ["image"], wide, NOTHING)


class Searching:
    def __init__(self, uri: str, shards: ShardFanOut) -> None:
        self.shards, self.searches = shards, 0
        places = shard_places(open_artifact(f"{uri}/index", INDEX), "image")
        self.want = search_shards(open_shards(places, NOTHING), ASKED, 10, TWO_ROUNDS)

    def once(self) -> None:
        hits = self.shards.search("image", ASKED, 10, TWO_ROUNDS)
        np.testing.assert_array_equal(hits.pair_ids, self.want.pair_ids)
        np.testing.assert_array_equal(hits.scores, self.want.scores)
        self.searches += 1

    @contextmanager
    def running(self) -> Iterator[None]:
        """Searches in a thread meanwhile."""
        ended = threading.Event()

        def search() -> None:
            while not ended.is_set():
                self.once()

        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(search)
            try:
                yield
            finally:
                ended.set()
            running.result()

    @property
    def searchers(self) -> list[Any]:
        return [actor for actor, _ in self.shards._pool.shares("image")]


def until(reached: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not reached():
        assert time.monotonic() - began < PATIENCE_S
        threading.Event().wait(0.2)
