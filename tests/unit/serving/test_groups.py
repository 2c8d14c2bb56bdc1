"""A group keeps the state that a search began with, opens each state once, and takes shards from where they lie."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from react_ray.index.config import SearchParams
from react_ray.index.deleted import delete_pairs
from react_ray.index.merge import Hits
from react_ray.serving.groups import Asked, ShardGroup, StateGone
from react_ray.serving.local_group import LocalGroup
from react_ray.serving.service import Service
from react_ray.serving.stamp import Stamp, stamp_of
from tests.support.searchable import ANIMALS, many, vector, write_index, write_searchable
from tests.support.serving import served, serving_recipe

QUERY = vector("a heron").astype(np.float32)[None]


def asked(stamp: Stamp, method: str = "search", k: int = 5) -> Asked:
    return Asked(stamp, "text", (), method, QUERY, (k, SearchParams()) if method == "search" else (k,))


def pairs(group: ShardGroup, stamp: Stamp) -> list[int]:
    hits: Hits = group.answer(asked(stamp))
    return hits.pair_ids[0].tolist()


def test_a_search_ends_with_the_state_with_which_it_began(uri: str) -> None:
    group, before = ShardGroup(uri), stamp_of(uri)
    found = pairs(group, before)
    delete_pairs(uri, np.array(found[:1]))
    after = stamp_of(uri)
    assert after.vectors == before.vectors and after.deleted != before.deleted
    assert pairs(group, after)[:4] == found[1:] and pairs(group, before) == found
    fresh = ShardGroup(uri)
    assert pairs(fresh, after)[:4] == found[1:]
    with pytest.raises(StateGone, match="has changed; ask again"):
        fresh.answer(asked(before))


def test_parts_that_no_index_covers_are_compared_by_scan(uri: str) -> None:
    hits: Hits = ShardGroup(uri).answer(asked(stamp_of(uri), "scan", 7))
    assert {pair >> 20 for pair in hits.pair_ids[0].tolist()} == {2}


def test_a_deletion_that_is_taken_back_brings_the_pair_back(uri: str) -> None:
    group, found = ShardGroup(uri), pairs(ShardGroup(uri), stamp_of(uri))
    delete_pairs(uri, np.array(found[:1]))
    assert found[0] not in pairs(group, stamp_of(uri))  # its shards are opened without it
    for file in Path(uri, "deleted").iterdir():
        file.unlink()
    assert pairs(group, stamp_of(uri)) == found


def test_many_questions_open_a_state_once(uri: str) -> None:
    group, stamp = ShardGroup(uri), stamp_of(uri)
    found: list[list[int]] = []
    threads = [Thread(target=lambda: found.append(pairs(group, stamp))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and all(one == found[0] for one in found) and len(group._states) == 1


def test_a_database_on_s3_is_served_from_copies_on_this_machine(s3: str, tmp_path: Path) -> None:
    uri = f"{s3}/{tmp_path.name}/database"
    write_searchable(uri, [ANIMALS + many(60), many(40, 200)])
    write_index(uri, num_shards=1)
    recipe = serving_recipe(uri, cluster={"shard_cache_dir": str(tmp_path / "cache")})

    async def once() -> list[int]:
        async with served(recipe) as client:
            return await client.ids({"text": "a heron"}, k=1, key="text")

    assert asyncio.run(once()) == [0]
    assert [path for path in (tmp_path / "cache").rglob("*") if path.stat().st_size > 1000]


class Disturbed(LocalGroup):
    """Lets something happen after its next answer."""

    happens: Callable[[], Awaitable[None]] | None = None

    async def answer(self, asked: Asked) -> Any:
        found = await super().answer(asked)
        if self.happens is not None:
            happens, self.happens = self.happens, None
            await happens()
        return found


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_class_list_is_of_one_state_while_pairs_are_deleted(uri: str, is_replaced: bool) -> None:
    """Of that with which it began, or, where the process that had it open is replaced, of the new one throughout."""
    body = {"task": "animals", "pairs_per_class": 9}

    async def once() -> list[Any]:
        recipe = serving_recipe(uri, serve={"reload_s": 3600.0})
        service = Service(recipe)
        group = Disturbed(ShardGroup(uri), service.threads)
        service.groups = [group]
        async with served(recipe, service=service) as client:
            _, before = await client.post("/v1/classes", body)

            async def happens() -> None:
                delete_pairs(uri, np.array([one["hits"][0]["pair_id"] for one in before["classes"]]))
                await service.look()
                if is_replaced:
                    group.shards = ShardGroup(uri)

            group.happens = happens
            return [before, *[(await client.post("/v1/classes", body))[1] for _ in range(2)]]

    before, during, after = asyncio.run(once())
    for answer in (before, during, after):
        del answer["timings_ms"]
    assert during == (after if is_replaced else before) and after["index_version"] != before["index_version"]
    gone = {one["hits"][0]["pair_id"] for one in before["classes"]}
    assert not gone & {hit["pair_id"] for one in after["classes"] for hit in one["hits"]}
