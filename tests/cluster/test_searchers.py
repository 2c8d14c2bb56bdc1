"""Hits of an approximate index do not depend on how many actors on how many nodes search its shards and its delta."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from ray._private.test_utils import wait_for_condition

from react_ray.artifact import open_artifact
from react_ray.index.class_hits import Classes, reduce_hits
from react_ray.index.config import SearchParams
from react_ray.index.deleted import delete_pairs, deleted_pairs
from react_ray.index.search_shards import search_shards
from react_ray.index.shards import deltas, open_shards, shard_places
from react_ray.kinds import INDEX
from react_ray.runtime.placement import ROLE_LABEL
from react_ray.stages import index
from react_ray.stages.retrieval import searcher_pool
from react_ray.stages.retrieval.shard_actors import ShardFanOut
from tests.support.searchable import write_index
from tests.support.three_nodes import cluster_of
from tests.support.vector_database import clustered, recipe_over, write_database

CODED = {"kind": "ivf-rabitq", "num_lists": 16, "calibration_queries": 40, "keys": ["image"], "num_shards": 4}


@pytest.mark.slow
def test_one_actor_and_five_find_the_same(tmp_path: Path) -> None:
    recipe = recipe_over(str(tmp_path / "database"), tmp_path, **CODED)
    asked = clustered(3000, 16, seed=99, noise=0.9, shift=0.2).astype(np.float32)  # three batches, two are in flight
    with cluster_of("any", "any", cpus=3):
        write_database(recipe.database, 4, 300)
        index.run(recipe)
        write_database(recipe.database, 5, 300, first=4)
        index.run(recipe)
        base = open_artifact(f"{recipe.database}/index", INDEX)
        assert len(deltas(base)) == 1
        delete_pairs(recipe.database, np.arange(0, 300, 7))
        deleted = deleted_pairs(recipe.database)
        for params in (SearchParams(4, 3.0), SearchParams(2, 0.0)):
            want = search_shards(open_shards(shard_places(base, "image"), deleted), asked, 10, params)
            class_Q = np.arange(len(asked)) // 80  # some classes lie across two batches
            of_classes = reduce_hits(want, Classes(np.arange(len(asked)), class_Q), 10)
            for num_searchers in (1, 2, 3, 5):
                cluster = recipe.cluster.model_copy(update={"num_searchers": num_searchers})
                with ShardFanOut(base, ["image"], cluster, deleted) as shards:
                    found = shards.search("image", asked, 10, params)
                    reduced = shards.search_classes("image", asked, class_Q, 10, params)
                np.testing.assert_array_equal(found.pair_ids, want.pair_ids)
                np.testing.assert_array_equal(found.scores, want.scores)
                for name in ("class_id", "query", "pair_id", "score"):
                    np.testing.assert_array_equal(getattr(reduced, name), getattr(of_classes, name))


@pytest.mark.slow
def test_searchers_without_a_node_are_named_and_begin_when_one_comes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searcher_pool, "PATIENCE_S", 0.5)
    recipe = recipe_over(str(tmp_path / "database"), tmp_path)
    write_database(recipe.database, 2, 300)
    write_index(recipe.database)
    base, told = open_artifact(f"{recipe.database}/index", INDEX), list[str]()
    asked, nothing = clustered(30, 16, seed=99).astype(np.float32), np.empty(0, np.int64)
    want = search_shards(open_shards(shard_places(base, "image"), nothing), asked, 10, SearchParams(1))

    def is_told() -> bool:
        told.append(capsys.readouterr().err)
        return "waiting for 1 of 2 searchers" in "".join(told)

    with cluster_of("index") as nodes, ThreadPoolExecutor(1) as pool:
        cluster = recipe.cluster.model_copy(update={"num_searchers": 2, "min_searchers": 2, "roles": True})
        with ShardFanOut(base, ["image"], cluster, nothing) as shards:
            coming = pool.submit(shards.search, "image", asked, 10, SearchParams(1))
            wait_for_condition(is_told, timeout=120)
            nodes.add_node(num_cpus=1, object_store_memory=150 << 20, labels={ROLE_LABEL: "index"})
            np.testing.assert_array_equal(coming.result().pair_ids, want.pair_ids)
