"""Packed sorts give what numpy's give, also where nothing fits into a number."""

from __future__ import annotations

import numpy as np
import pytest

from react_ray.index.ordering import descending, distinct_pairs, order_by, order_by_pair, order_within


@pytest.mark.parametrize("largest", [3, 1000, 2**40])
def test_rows_are_ordered_by_the_first_key_first_and_ties_keep_their_order(largest: int) -> None:
    generator = np.random.default_rng(largest)
    keys = [
        generator.integers(0, largest, 5000),
        generator.integers(0, 5, 5000),
        generator.integers(0, 2, 5000).astype(bool),
    ]
    assert np.array_equal(order_by(*keys), np.lexsort(keys[::-1]))
    assert order_by(np.empty(0, np.int64)).tolist() == []


@pytest.mark.parametrize("num_parts", [2, 1 << 30])
def test_pairs_are_ordered_by_their_ids_however_large_they_are(num_parts: int) -> None:
    generator = np.random.default_rng(num_parts)
    ids = generator.integers(0, num_parts, 5000) << 20 | generator.integers(0, 50, 5000)
    keys = [generator.integers(0, 1 << 18, 5000), generator.integers(0, 2, 5000).astype(bool)]
    assert np.array_equal(order_by_pair(ids, *keys), np.lexsort([*keys[::-1], ids]))
    assert order_by_pair(ids[:0], keys[0][:0]).tolist() == []


@pytest.mark.parametrize("num_groups", [1, 40, 4000])
def test_groups_are_ordered_by_score_and_ties_by_position(num_groups: int) -> None:
    generator = np.random.default_rng(num_groups)
    group = np.sort(generator.integers(0, num_groups, 5000)) * 7
    score = generator.integers(-8, 8, 5000).astype(np.float32) / 8
    expected = np.lexsort((np.arange(5000), -score, group))
    assert np.array_equal(order_within(group, score), expected)
    assert order_within(group[:0], score[:0]).tolist() == []


def test_more_groups_than_a_number_holds_are_ordered_too() -> None:
    group = np.repeat(np.arange(1 << 17), np.where(np.arange(1 << 17) == 5, 70_000, 1))
    score = np.random.default_rng(0).random(len(group)).astype(np.float32)
    assert np.array_equal(order_within(group, score), np.lexsort((-score, group)))


def test_descending_turns_scores_around() -> None:
    scores = np.array([-np.inf, -1.5, -0.0, 0.0, 1e-30, 0.5, np.inf], np.float32)
    turned = descending(scores)
    assert turned[2] == turned[3] and (np.diff(turned.astype(np.int64))[[0, 1, 3, 4, 5]] < 0).all()


@pytest.mark.parametrize("num_parts", [1, 5, 3000])
def test_distinct_pairs_are_those_of_unique(num_parts: int) -> None:
    generator = np.random.default_rng(num_parts)
    ids = generator.integers(0, num_parts, 2000) << 20 | generator.integers(0, 300, 2000)
    for found, expected in zip(distinct_pairs(ids), np.unique(ids, return_inverse=True), strict=True):
        assert np.array_equal(found, expected)
    assert [len(part) for part in distinct_pairs(ids[:0])] == [0, 0]
