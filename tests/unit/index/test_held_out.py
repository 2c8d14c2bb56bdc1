"""Held-out queries and their truth: in one pass over a shard, what a search at each depth would have found."""

from __future__ import annotations

import io

import numpy as np
import pytest

from react_ray.index.exact import RunningTopK
from react_ray.index.held_out import Truth, depths, queries_name, read_queries, write_queries
from react_ray.index.recall import DEPTHS
from react_ray.storage import Storage
from tests.support.vector_database import clustered


@pytest.mark.parametrize("sizes", [(70, 100), (3, 20), (0, 65)])
def test_the_truth_of_every_depth_is_what_exact_search_finds_at_it(sizes: tuple[int, int]) -> None:
    parts = [(np.arange(400) + first, clustered(400, 8, seed=first)) for first in (0, 1000, 2000)]
    queries = {
        kind: (np.arange(size), clustered(100, 8, seed=size)[:size].astype(np.float32))
        for kind, size in zip(("image", "text"), sizes, strict=True)
    }
    queries = {kind: asked for kind, asked in queries.items() if len(asked[0])}
    truth = Truth(queries, depths(10_000))
    for ids, vectors in parts:
        truth.update(ids, vectors)
    files = truth.files()
    for depth in DEPTHS:
        for kind, (_, asked) in queries.items():
            best = RunningTopK(depth)
            for ids, vectors in parts:
                best.update(asked[: DEPTHS[depth]], ids, vectors)
            found = np.load(io.BytesIO(files.pop(f"truth-{kind}-{depth}.npy")), allow_pickle=False)
            np.testing.assert_array_equal(found["pair_id"], best.result().pair_ids)
            np.testing.assert_array_equal(found["score"], best.result().scores)
    assert not files


def test_queries_are_kept_by_kind_and_a_kind_without_any_is_none(disk_place: Storage) -> None:
    asked = clustered(5, 8, seed=0).astype(np.float32)
    write_queries(disk_place, "image", {"image": (np.arange(5), asked), "text": (np.empty(0, np.int64), asked[:0])})
    assert disk_place.exists(queries_name("image"))
    found = read_queries(disk_place, "image")
    assert list(found) == ["image"]
    np.testing.assert_array_equal(found["image"][0], np.arange(5))
    np.testing.assert_array_equal(found["image"][1], asked)
