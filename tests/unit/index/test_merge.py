"""The one order of hits."""

from __future__ import annotations

import numpy as np
import pytest

from react_ray.index.merge import Hits, best, merge, ranking


def test_ranking_is_the_plain_sort_by_group_score_and_tie() -> None:
    generator = np.random.default_rng(0)
    group = generator.integers(0, 5, 3000)
    scores = np.concatenate([generator.integers(-3, 4, 2994) / 4, [0.0, -0.0, np.inf, -np.inf, 1e-40, -1e-40]])
    scores = scores.astype(np.float32)
    tie = generator.permutation(3000)
    np.testing.assert_array_equal(ranking(group, scores, tie), np.lexsort((tie, -scores, group)))
    assert len(ranking(group[:0], scores[:0], tie[:0])) == 0


@pytest.mark.parametrize("k", [1, 3, 9])
def test_merging_does_not_depend_on_the_order_of_shards_or_on_padding(k: int) -> None:
    generator = np.random.default_rng(1)
    scores = generator.integers(0, 3, (7, 8)).astype(np.float32)
    pairs = np.stack([generator.permutation(100)[:8] for _ in range(7)])
    pairs[:, 6:] = -1
    whole = best(scores, pairs, k)
    shards = [best(scores[:, [i, 6]], pairs[:, [i, 6]], 2) for i in range(6)]
    for order in ([0, 1, 2, 3, 4, 5], [5, 3, 1, 0, 2, 4]):
        merged = merge([shards[i] for i in order], k)
        np.testing.assert_array_equal(merged.pair_ids, whole.pair_ids)
        np.testing.assert_array_equal(merged.scores, whole.scores)
    assert whole.valid.sum() == 7 * min(k, 6)


def test_rows_hold_hits_only() -> None:
    hits = Hits(np.array([[0.5, -np.inf], [0.9, 0.1]], np.float32), np.array([[3, -1], [1, 2]]))
    query, pairs, scores, rank = hits.rows()
    assert query.tolist() == [0, 1, 1] and pairs.tolist() == [3, 1, 2] and rank.tolist() == [0, 0, 1]
    np.testing.assert_array_equal(scores, np.array([0.5, 0.9, 0.1], np.float32))
