"""The best pairs of a class: against a plain reduction, over any split of pairs and of queries."""

from __future__ import annotations

import numpy as np
import pytest

from react_ray.index.class_hits import Classes, ClassHits, class_blocks, merge_class_hits, reduce_hits
from react_ray.index.merge import Hits, best


def plain(scores_QN: np.ndarray, class_Q: np.ndarray, most: int) -> list[tuple[int, int, int, float]]:
    """(class, query, pair, score) of each class's best pairs, among all pairs."""
    out = []
    for number in np.unique(class_Q).tolist():
        rows = np.flatnonzero(class_Q == number)
        score_N, query_N = scores_QN[rows].max(axis=0), rows[scores_QN[rows].argmax(axis=0)]
        order = np.lexsort((np.arange(len(score_N)), -score_N))
        found = [int(pair) for pair in order if np.isfinite(score_N[pair])][:most]
        out += [(number, int(query_N[pair]), pair, float(score_N[pair])) for pair in found]
    return out


def rows(found: ClassHits) -> list[tuple[int, int, int, float]]:
    columns = (found.class_id, found.query, found.pair_id, found.score)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def hits_of(scores_QN: np.ndarray, pairs: np.ndarray, k: int) -> Hits:
    return best(scores_QN[:, pairs], np.broadcast_to(pairs, (len(scores_QN), len(pairs))), k)


@pytest.mark.parametrize("seed", range(40))
def test_a_class_gets_its_best_pairs_however_pairs_and_queries_are_split(seed: int) -> None:
    random = np.random.default_rng(seed)
    num_queries, num_pairs, most = random.integers(1, 9), random.integers(1, 60), int(random.integers(1, 12))
    levels = int(random.choice([3, 10, 10**6]))  # few levels make many ties
    scores_QN = (random.integers(-levels, levels, (num_queries, num_pairs)) / levels).astype(np.float32)
    class_Q = np.sort(random.integers(0, 4, num_queries)) * 5
    expected = plain(scores_QN, class_Q, most)
    k, everyone = most + int(random.integers(0, 3)), np.arange(num_queries)
    whole = reduce_hits(hits_of(scores_QN, np.arange(num_pairs), k), Classes(everyone, class_Q), most)
    assert rows(whole) == expected
    of_pairs = [part for part in np.array_split(random.permutation(num_pairs), 3) if len(part)]
    of_queries = np.array_split(everyone, 2)
    answers = [
        reduce_hits(hits_of(scores_QN[asking], np.sort(part), k), Classes(asking, class_Q[asking]), most)
        for part in of_pairs
        for asking in of_queries
    ]
    assert rows(merge_class_hits(answers, most)) == expected


def test_places_count_within_a_class_and_no_hits_are_no_rows() -> None:
    hits = Hits(np.array([[0.9, 0.5, 0.1], [0.3, 0.2, -np.inf]], np.float32), np.array([[1, 2, 0], [0, 1, -1]]))
    found = reduce_hits(hits, Classes(np.array([4, 7]), np.array([1, 2])), 3)
    assert rows(found)[0] == (1, 4, 1, pytest.approx(0.9)) and found.place.tolist() == [0, 1, 2, 0, 1]
    nothing = reduce_hits(
        Hits(np.empty((0, 3), np.float32), np.empty((0, 3), np.int64)), Classes(*[np.empty(0, int)] * 2), 3
    )
    assert rows(nothing) == rows(merge_class_hits([nothing, nothing], 3)) == [] and not len(nothing.place)


def test_blocks_hold_whole_classes() -> None:
    class_Q = np.array([0, 0, 0, 3, 3, 7, 8, 8, 8, 8])
    assert [block.tolist() for block in class_blocks(class_Q, 2, 12)] == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9]]
    assert [len(block) for block in class_blocks(class_Q, 1, 1)] == [3, 2, 1, 4]
    assert [len(block) for block in class_blocks(np.empty(0, np.int64), 1, 1)] == [0]
    assert [len(block) for block in class_blocks(class_Q, 0, 20, 10)] == [5, 5]  # so many hits of each class
    assert [len(block) for block in class_blocks(class_Q, 1, 12, 4)] == [3, 3, 4]
