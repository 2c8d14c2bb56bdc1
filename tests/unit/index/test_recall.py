"""Recall: what is measured of held-out queries, and the setting that is chosen from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from react_ray.errors import RetrievalError
from react_ray.index.config import IndexConfig, SearchParams
from react_ray.index.exact import RunningTopK
from react_ray.index.merge import Hits
from react_ray.index.quantizer import train
from react_ray.index.recall import HeldOut, calibrate, choose, recall_at_k, without
from react_ray.index.shard import build_shard
from tests.support.vector_database import unit_vectors

IVF = IndexConfig(kind="IVF16,SQ8", nprobe=4)


def no_proposals(num: int, count: int, nprobe: int) -> Hits:
    raise AssertionError("only 1-bit codes propose")


def test_a_recall_that_is_asked_for_is_reached_on_other_queries_by_the_cheapest_setting_that_was_measured() -> None:
    vectors = unit_vectors(4000, 12, seed=13)
    shard = build_shard(iter([(np.arange(4000), vectors)]), IVF, train(vectors.astype(np.float32), IVF, seed=0))
    own = np.arange(0, 4000, 10)
    scan = RunningTopK(101)
    scan.update(vectors[own].astype(np.float32), np.arange(4000), vectors)

    def search(num: int, k: int, params: SearchParams) -> Hits:
        return shard.search(vectors[own][:num].astype(np.float32), k, params)

    table = calibrate({"image": HeldOut(search, no_proposals, [scan.result()], own)}, "ivf", 16, 250.0)
    of10 = [row["recall"] for row in table if row["k"] == 10]
    assert of10 == sorted(of10) and of10[0] < 0.8 and of10[-1] > 0.9
    assert {row["k"] for row in table} == {10, 100}  # the truth is too short for 1,000
    others = unit_vectors(400, 12, seed=14).astype(np.float32)
    truth = RunningTopK(10)
    truth.update(others, np.arange(4000), vectors)
    for target in (0.8, 0.9):
        params, measured = choose([table], target, 10, 12, 250.0)
        assert measured >= target
        assert recall_at_k(shard.search(others, 10, params), truth.result(), 10) > target - 0.03
        cheaper = [row["recall"] for row in table if row["k"] == 10 and row["nprobe"] < params.nprobe]
        assert all(recall < target for recall in cheaper)
    best, measured = choose([table], 1.0, 10, 12, 250.0)
    assert measured == max(of10) < 1.0 and best.nprobe == 16
    assert choose([table], 0.9, 3, 12, 250.0) == choose([table], 0.9, 10, 12, 250.0)
    of100, _ = choose([table], 0.9, 100, 12, 250.0)
    assert choose([table], 0.9, 150, 12, 250.0)[0].nprobe == -(-of100.nprobe * 150 // 100)
    with pytest.raises(RetrievalError, match="not calibrated"):
        choose([], 0.9, 10, 12, 250.0)


def test_a_smaller_k_has_as_many_candidates_as_the_one_that_was_measured() -> None:
    row = {"k": 10, "nprobe": 4, "k_factor": 20.0, "ef_search": 0, "recall": 0.96}
    assert choose([[row]], 0.95, 4, 12, 250.0) == (SearchParams(4, 50.0), 0.96)


def test_between_two_measured_depths_the_number_of_lists_lies_between_theirs() -> None:
    table = [
        {"k": k, "nprobe": nprobe, "k_factor": 0.0, "ef_search": 0, "recall": recall}
        for k, nprobe, recall in ((1000, 16, 0.96), (1000, 32, 0.97), (10_000, 256, 0.94), (10_000, 512, 0.96))
    ]
    chosen = {k: choose([table], 0.95, k, 12, 250.0)[0].nprobe for k in (500, 1000, 3162, 10_000, 20_000)}
    assert chosen == {500: 16, 1000: 16, 3162: 77, 10_000: 363, 20_000: 726}  # 256 * sqrt(2), 16 * sqrt(363 / 16)


def test_between_two_measured_numbers_of_lists_one_is_taken_that_reaches_the_recall_for_all_kinds() -> None:
    def measured(*recalls: float) -> list[dict[str, Any]]:
        return [
            {"k": 1000, "nprobe": 4 * 2**step, "k_factor": 0.0, "ef_search": 0, "recall": recall}
            for step, recall in enumerate(recalls)
        ]

    image, text = measured(0.8, 0.9, 0.96, 0.98), measured(0.7, 0.86, 0.94, 0.98)
    chosen = {recall: choose([image, text], recall, 1000, 12, 250.0) for recall in (0.6, 0.86, 0.9, 0.98)}
    assert chosen == {
        0.6: (SearchParams(4), 0.7),
        0.86: (SearchParams(8), 0.86),
        0.9: (SearchParams(12), 0.9),
        0.98: (SearchParams(32), 0.98),
    }
    assert choose([image, text], 0.99, 1000, 12, 250.0) == (SearchParams(32), 0.98)
    ranked = [row | {"k": 10, "k_factor": 20.0} for row in text]
    assert choose([ranked], 0.9, 10, 12, 250.0) == (SearchParams(16, 20.0), 0.94), (
        "beside re-ranking, lists are not what costs"
    )


def test_all_kinds_of_queries_are_measured_at_the_same_settings_until_none_of_them_gains() -> None:
    truth = Hits(np.tile(np.arange(11, 0, -1, dtype=np.float32), (20, 1)), np.tile(np.arange(11), (20, 1)))

    def finds(lists: int) -> HeldOut:
        def search(num: int, k: int, params: SearchParams) -> Hits:
            few = max(1, round(10 * min(params.nprobe, lists) / lists))
            ids = np.where(np.arange(k) < few, np.arange(k), 100 + np.arange(k))
            return Hits(truth.scores[:num, :k], np.tile(ids, (num, 1)))

        return HeldOut(search, no_proposals, [truth], np.full(20, 99))

    table = calibrate({"image": finds(4), "text": finds(16)}, "ivf", 128, 250.0)
    both = [[row for row in table if row["queries"] == kind] for kind in ("image", "text")]
    assert [[row["nprobe"] for row in rows] for rows in both] == [[1, 2, 4, 8, 16, 32]] * 2
    assert choose(both, 1.0, 10, 12, 250.0) == (SearchParams(16), 1.0)
    of_small_lists = calibrate({"image": finds(4)}, "ivf", 128, 2.4)
    assert min(row["nprobe"] for row in of_small_lists) == 4, "two lists hold fewer than ten pairs"


def test_a_query_that_is_held_out_does_not_find_itself() -> None:
    hits = Hits(np.array([[0.9, 0.8, 0.7], [0.6, 0.5, 0.4]], np.float32), np.array([[4, 2, 9], [1, 3, -1]]))
    left = without(hits, np.array([2, 8]), 2)
    assert left.pair_ids.tolist() == [[4, 9], [1, 3]]
    np.testing.assert_array_equal(left.scores, np.array([[0.9, 0.7], [0.6, 0.5]], np.float32))
    assert without(hits, np.array([4, 1]), 3).pair_ids.tolist() == [[2, 9, -1], [3, -1, -1]]


def test_recall_counts_the_true_pairs_that_were_found() -> None:
    truth = Hits(np.zeros((2, 3), np.float32), np.array([[1, 2, 3], [4, 5, -1]]))
    found = Hits(np.zeros((2, 3), np.float32), np.array([[3, 1, 9], [5, 1, -1]]))
    assert recall_at_k(found, truth, 3) == 3 / 5
    assert recall_at_k(found, truth, 1) == 0.0
    assert recall_at_k(truth, truth, 2) == 1.0
