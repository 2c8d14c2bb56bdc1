"""A group keeps the state that a search began with, opens each state once, and takes shards from where they lie."""

from __future__ import annotations

import asyncio
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from react_ray.index.config import SearchParams
from react_ray.index.deleted import delete_pairs
from react_ray.index.merge import Hits
from react_ray.serving.groups import Asked, ShardGroup, StateGone
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
