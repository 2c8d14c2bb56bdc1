"""Many clients search while processes of a group are killed, pairs are deleted, others are added and the index grows.

No request fails while one of two replicas lives, and where there is but one, only with a message that names it.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from ray import serve

import react_ray
from react_ray.errors import ReactRayError
from react_ray.index.deleted import delete_pairs
from react_ray.recipe import Recipe
from react_ray.stages.serve import served
from react_ray.stages.serving.application import NAME
from tests.support.searchable import ANIMALS, many, write_index, write_searchable
from tests.support.serving import serving_recipe

pytestmark = pytest.mark.slow
CLIENTS, SECONDS, KILL_EVERY_S = 100, 60.0, 5.0
CAPTIONS = [ANIMALS + many(120), many(90, 200)]
ADDED = "a heron that was added"


def recipe_of(folder: Path, replicas: int) -> Recipe:
    uri = f"{folder}/database"
    write_searchable(uri, CAPTIONS)
    write_index(uri, num_shards=2)
    section = {"port": 0, "reload_s": 1.0, "min_replicas": replicas, "max_replicas": replicas, "max_in_flight": 512}
    return serving_recipe(uri, serve=section, cluster={"num_cpus": 2, "object_store_gb": 0.2})


def group_processes() -> list[psutil.Process]:
    """Of the Ray that this process has started: others may serve on this machine, too."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it has ended
            if " ".join(process.cmdline()).startswith("ray::ServeReplica:react-ray:group-0"):
                found.append(process)
    return found


def num_running() -> int:
    states: dict[Any, int] = dict(serve.status().applications[NAME].deployments["group-0"].replica_states)
    return states.get("RUNNING", 0)


async def load(url: str, recipe: Recipe) -> tuple[Counter[str], set[int]]:
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

    async def disturb() -> None:
        for round_ in range(int(SECONDS / KILL_EVERY_S) - 1):
            await asyncio.sleep(KILL_EVERY_S)
            whole = await asyncio.to_thread(num_running) == recipe.serve.min_replicas
            if whole and (processes := group_processes()):  # the one before is back
                processes[round_ % len(processes)].kill()
                ended["kills"] += 1
            if round_ == 3:  # it is compared exactly, as no index covers it
                await asyncio.to_thread(write_searchable, recipe.database, [*CAPTIONS, [ADDED, *many(50, 300)]])
            if round_ == 5:
                delete_pairs(recipe.database, np.array([0, 1]))  # the best hits of two queries
            if round_ == 7:
                await asyncio.to_thread(write_index, recipe.database, 1, first=2)

    async with react_ray.connect(url, asynchronous=True, timeout_s=120) as client:
        await asyncio.gather(disturb(), *(ask(client, number) for number in range(CLIENTS)))
    return ended, found


@pytest.mark.parametrize("replicas", [2, 1])
def test_kills_and_deletions_under_load(local_ray: None, tmp_path: Path, replicas: int) -> None:
    recipe = recipe_of(tmp_path, replicas)
    with served(recipe) as url:
        before = react_ray.connect(url).index()["index_version"]
        ended, found = asyncio.run(load(url, recipe))
        client = react_ray.connect(url)
        [first, *_] = client.search(ADDED, 5, key="text")["results"][0]["hits"]
        assert first["caption"] == ADDED, "it recovers without help"
        assert client.index()["index_version"] != before
    serve.shutdown()
    print(ended)
    assert ended.pop("kills") >= 3 and ended.pop("answered") > CLIENTS
    assert not found & {0, 1}
    if replicas == 2:
        assert not ended
    assert all("group-0 does not answer" in said for said in ended), ended
