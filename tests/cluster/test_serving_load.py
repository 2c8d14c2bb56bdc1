"""Many clients search while processes of a group are killed, pairs are deleted, others are added and the index grows.

No request fails while one of two replicas lives, and where there is but one, only with a message that names it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import react_ray
from react_ray.errors import ReactRayError
from react_ray.index.deleted import delete_pairs
from react_ray.recipe import Recipe
from react_ray.stages.serve import served
from tests.support.ray_serve import num_running, processes_of
from tests.support.searchable import ANIMALS, many, write_index, write_searchable
from tests.support.serving import serving_recipe

pytestmark = pytest.mark.slow
CLIENTS, SECONDS, KILL_EVERY_S = 100, 60.0, 5.0
CAPTIONS = [ANIMALS + many(120), many(90, 200)]
ADDED = "a heron that was added"


def recipe_of(folder: Path, replicas: int, ingress_replicas: int) -> Recipe:
    uri = f"{folder}/database"
    write_searchable(uri, CAPTIONS)
    write_index(uri, num_shards=2)
    section = {"port": 0, "reload_s": 1.0, "min_replicas": replicas, "max_replicas": replicas, "max_in_flight": 512}
    section["ingress_replicas"] = ingress_replicas
    return serving_recipe(uri, serve=section, cluster={"num_cpus": 2, "object_store_gb": 0.2})


async def clients(url: str) -> tuple[Counter[str], set[int]]:
    """(how requests ended, pairs that were found at the end)"""
    ended: Counter[str] = Counter()
    began = time.monotonic()
    found: set[int] = set()

    async def ask(client: Any, number: int) -> None:
        while time.monotonic() - began < SECONDS:
            try:
                hits = (await client.search(ANIMALS[number % len(ANIMALS)], 5, key="text"))["results"][0]["hits"]
                ended["answered" if len(hits) == 5 else "short"] += 1
                if time.monotonic() - began > SECONDS - 5:
                    found.update(hit["pair_id"] for hit in hits)
            except ReactRayError as error:
                ended[str(error)] += 1

    async with react_ray.connect(url, asynchronous=True, timeout_s=120) as client:
        await asyncio.gather(*(ask(client, number) for number in range(CLIENTS)))
    return ended, found


def asked_by_clients(url: str) -> tuple[Counter[str], set[int]]:
    return asyncio.run(clients(url))


def disturb(recipe: Recipe) -> int:
    """Returns how many processes were killed."""
    kills = 0
    for round_ in range(int(SECONDS / KILL_EVERY_S) - 1):
        threading.Event().wait(KILL_EVERY_S)
        whole = num_running("group-0") == recipe.serve.min_replicas
        if whole and (processes := processes_of("group-0")):  # the one before is back
            processes[round_ % len(processes)].kill()
            kills += 1
        if round_ == 3:  # it is compared exactly, as no index covers it
            write_searchable(recipe.database, [*CAPTIONS, [ADDED, *many(50, 300)]])
        if round_ == 5:
            delete_pairs(recipe.database, np.array([0, 1]))  # the best hits of two queries
        if round_ == 7:
            write_index(recipe.database, 1, first=2)
    return kills


@pytest.mark.parametrize(("replicas", "ingress_replicas"), [(2, 1), (1, 1), (2, 2), (1, 2)])
def test_kills_and_deletions_under_load(local_ray: None, tmp_path: Path, replicas: int, ingress_replicas: int) -> None:
    """ingress_replicas: one is this process; two are behind the proxy of Serve."""
    recipe = recipe_of(tmp_path, replicas, ingress_replicas)
    with served(recipe) as url, ProcessPoolExecutor(1, mp_context=get_context("spawn")) as apart:
        before = react_ray.connect(url).index()["index_version"]
        asking = apart.submit(asked_by_clients, url)
        kills = disturb(recipe)
        ended, found = asking.result()
        client = react_ray.connect(url)
        [first, *_] = client.search(ADDED, 5, key="text")["results"][0]["hits"]
        assert first["caption"] == ADDED, "it recovers without help"
        assert client.index()["index_version"] != before
    print(kills, "kills", ended)
    assert kills >= 3 and ended.pop("answered") > CLIENTS
    assert not found & {0, 1}
    if replicas == 2:
        assert not ended
    assert all("group-0 does not answer" in said for said in ended), ended
