"""Searchers: the hits do not depend on how many there are, nor on which of them holds which shard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from react_ray.errors import RetrievalError
from react_ray.index.allowed import Allowed
from react_ray.index.class_hits import Classes, ClassHits, reduce_hits
from react_ray.index.config import IVF_RABITQ, IndexConfig, SearchParams
from react_ray.index.list_index import ListIndex
from react_ray.index.list_shard import coarse_quantizer
from react_ray.index.merge import Hits
from react_ray.index.quantizer import train
from react_ray.index.search_shards import (
    FEW,
    Proposed,
    Shards,
    among_best,
    answer,
    cut,
    search_apart,
    search_shards,
    searching,
)
from react_ray.pair_id import pair_ids
from tests.support.list_shards import write_shard
from tests.support.vector_database import clustered

DIM, LISTS = 24, 12
NO_ROW = -1


def same(a: Hits, b: Hits) -> None:
    np.testing.assert_array_equal(a.pair_ids, b.pair_ids)
    np.testing.assert_array_equal(a.scores, b.scores)


def same_classes(a: ClassHits, b: ClassHits) -> None:
    for name in ("class_id", "query", "pair_id", "score"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@pytest.mark.parametrize("seed", range(6))
def test_hits_are_the_same_for_any_number_of_searchers_with_any_shards(tmp_path: Path, seed: int) -> None:
    """Random sizes, shards, parameters, deletions and filters; many vectors occur several times, so estimates tie."""
    random = np.random.default_rng(seed)
    num = int(random.integers(300, 1500))
    vectors = clustered(num, DIM, seed)[random.integers(0, num // 2, num)]
    ids = pair_ids(0, num)[random.permutation(num)]
    asked = clustered(25, DIM, seed + 50, noise=0.9, shift=0.2).astype(np.float32)
    quantizer = train(vectors.astype(np.float32), IndexConfig(kind=IVF_RABITQ, num_lists=LISTS), seed)
    assert quantizer is not None
    coarse = coarse_quantizer(quantizer)
    deleted = np.sort(random.choice(ids, num // 10, replace=False)) if seed % 2 else None
    allowed, num_lists = None, 0
    if seed % 3 == 2:
        allowed, num_lists = Allowed(), LISTS
        allowed.add(0, random.random(num) < 0.2)

    def opened(shards: list[np.ndarray], name: str) -> ListIndex:
        """shards: rows of each."""
        files = [
            write_shard(tmp_path / f"{name}-{number}", quantizer, ids[rows], vectors[rows])
            for number, rows in enumerate(shards)
        ]
        return ListIndex(files, coarse, deleted, allowed)

    whole: Shards = [opened([np.arange(num)], "whole")]
    for num_searchers in (1, 2, 3, 5):
        holder = random.choice(num_searchers, num, p=random.dirichlet(np.ones(num_searchers)))
        searchers = []
        for one in range(num_searchers):
            mine = np.flatnonzero(holder == one)
            shards = np.array_split(mine, int(random.integers(1, 4)))  # some of them empty
            searchers.append([opened(shards, f"{num_searchers}-{one}")])
        for _ in range(6):
            k = int(random.choice([1, 10, 40, 300]))
            params = SearchParams(int(random.choice([1, 3, LISTS])), float(random.choice([0.0, 1.0, 2.5, 8.0])))
            want = search_shards(whole, asked, k, params)
            same(search_apart(searchers, asked, k, params, num_lists), want)
            few = int(random.integers(1, FEW + 1))
            same(
                search_apart(searchers, asked[:few], k, params, num_lists), Hits(want.scores[:few], want.pair_ids[:few])
            )
            classes = Classes(np.arange(25), np.sort(random.integers(0, 6, 25)))
            of_classes = search_apart(searchers, asked, k, params, num_lists, classes=classes)
            same_classes(of_classes, reduce_hits(want, classes, k))
            if allowed is not None:
                found = want.valid.sum(axis=1)
                left = allowed.contains(np.setdiff1d(ids, [] if deleted is None else deleted)).sum()
                assert (found == min(k, left)).all()


def test_searchers_of_several_quantisers_answer_as_one_that_has_all(tmp_path: Path) -> None:
    """As after lists were trained anew for later parts."""
    vectors, ids = clustered(800, DIM, 1), pair_ids(0, 800)
    asked = clustered(20, DIM, 2, noise=0.9).astype(np.float32)
    found = []
    for number, rows in enumerate(np.array_split(np.arange(800), 2)):
        config = IndexConfig(kind=IVF_RABITQ, num_lists=LISTS)
        quantizer = train(vectors[rows].astype(np.float32), config, number)
        assert quantizer is not None
        files = write_shard(tmp_path / str(number), quantizer, ids[rows], vectors[rows])
        found.append(ListIndex([files], coarse_quantizer(quantizer)))
    params = SearchParams(4, 3.0)
    same(search_apart([[found[0]], [found[1]]], asked, 10, params), search_shards(found, asked, 10, params))
    same(search_apart([found[::-1]], asked, 10, params), search_shards(found, asked, 10, params))
    classes, params = Classes(np.arange(20), np.arange(20) // 7), SearchParams(4, 0.0)
    want = reduce_hits(search_shards(found, asked, 10, params), classes, 10)
    same_classes(search_apart([found], asked, 10, params, classes=classes), want)


def test_searchers_without_a_pair_that_may_be_found_leave_the_hits_of_the_others(tmp_path: Path) -> None:
    """Such as one whose shard of later parts is empty, or all of them when all pairs are deleted."""
    vectors, ids, deleted = clustered(90, DIM, 1), pair_ids(0, 90), pair_ids(0, 90)
    quantizer = train(vectors.astype(np.float32), IndexConfig(kind=IVF_RABITQ, num_lists=LISTS), 1)
    assert quantizer is not None
    coarse = coarse_quantizer(quantizer)
    shards = [write_shard(tmp_path / str(size), quantizer, ids[:size], vectors[:size]) for size in (90, 0)]
    full, empty = (ListIndex([shard], coarse) for shard in shards)
    asked, classes = clustered(20, DIM, 2).astype(np.float32), Classes(np.arange(20), np.arange(20) // 7)
    for params in (SearchParams(4, 3.0), SearchParams(4, 0.0)):
        for few in (FEW, 20):
            want = search_shards([full], asked[:few], 10, params)
            for searchers in ([[full], [empty]], [[full, empty], [empty]], [[empty], [empty, full]]):
                same(search_apart(searchers, asked[:few], 10, params), want)
            without = [[full.narrowed(deleted)], [empty]]
            assert not search_apart(without, asked[:few], 10, params).valid.any()
        of_classes = search_apart([[full, empty], [empty]], asked, 10, params, classes=classes)
        same_classes(of_classes, reduce_hits(search_shards([full], asked, 10, params), classes, 10))
        assert not len(search_apart(without, asked, 10, params, classes=classes).pair_id)


@pytest.mark.parametrize(
    ("even", "num_queries", "k_factor", "rounds"),
    [
        *((True, FEW, 4.0, 1), (True, FEW + 1, 4.0, 2), (False, FEW, 4.0, 2), (False, FEW + 1, 4.0, 3)),
        *((True, FEW, 0.0, 1), (True, FEW + 1, 0.0, 1), (False, FEW, 0.0, 2), (False, FEW + 1, 0.0, 1)),
    ],
)
def test_few_queries_take_one_round_unless_one_searcher_has_most_of_the_best(
    tmp_path: Path, even: bool, num_queries: int, k_factor: float, rounds: int
) -> None:
    vectors, ids = clustered(900, DIM, 1), pair_ids(0, 900)
    asked = clustered(num_queries, DIM, 2, noise=0.9).astype(np.float32)
    quantizer = train(vectors.astype(np.float32), IndexConfig(kind=IVF_RABITQ, num_lists=LISTS), 0)
    assert quantizer is not None
    coarse = coarse_quantizer(quantizer)
    nearest = np.argsort(-(vectors @ asked[0]))
    holders = np.arange(900) % 3 if even else np.isin(np.arange(900), nearest[:300]).astype(int)
    searchers: list[Shards] = []
    for number in range(3):
        rows = np.flatnonzero(holders == number)
        files = write_shard(tmp_path / str(number), quantizer, ids[rows], vectors[rows])
        searchers.append([ListIndex([files], coarse)])
    params = SearchParams(LISTS, k_factor)
    steps = searching(3, asked, 20, params, 0, two_stages=True)
    taken, found = 0, None
    try:
        step = next(steps)
        while True:
            taken += 1
            shares = zip(searchers, step.each, strict=True)
            step = steps.send([answer(shards, step.method, step.queries_QD, *each) for shards, each in shares])
    except StopIteration as end:
        found = end.value
    assert taken == rounds
    whole = write_shard(tmp_path / "whole", quantizer, ids, vectors)
    same(found, search_shards([ListIndex([whole], coarse)], asked, 20, params))


def proposed(estimates: list[list[float]], pair_ids: list[list[int]], rows: list[list[int]]) -> Proposed:
    scores = np.full(np.shape(estimates), np.nan, np.float32)
    return Proposed(np.array(estimates, np.float32), np.array(pair_ids, np.int64), np.array(rows, np.int64), scores)


def test_the_best_estimates_of_all_are_cut_and_of_equal_ones_the_smaller_pair_ids_are_taken() -> None:
    nothing = -np.inf
    first = proposed([[0.9, 0.5, 0.4], [0.3, nothing, nothing]], [[7, 9, 1], [5, -1, -1]], [[0, 1, 2], [4, -1, -1]])
    second = proposed([[0.8, 0.5, 0.5], [0.2, 0.1, nothing]], [[2, 3, 8], [6, 4, -1]], [[0, 5, 6], [1, 2, -1]])
    assert [rows.tolist() for rows in cut([first, second], among_best([first, second], 4))] == [
        [[0], [4]],
        [[0, 5, 6], [1, 2, NO_ROW]],
    ]
    assert [rows.tolist() for rows in cut([first, second], among_best([first, second], 3))] == [
        [[0], [4]],
        [[0, 5], [1, 2]],
    ]
    assert [rows.tolist() for rows in cut([first, second], among_best([first, second], 6))] == [
        [[0, 1, 2], [4, NO_ROW, NO_ROW]],
        [[0, 5, 6], [1, 2, NO_ROW]],
    ]


def test_no_shard_and_no_hit_are_said() -> None:
    with pytest.raises(RetrievalError, match="no shard answered"):
        search_shards([], np.zeros((1, DIM), np.float32), 5, SearchParams())
    with pytest.raises(RetrievalError, match="k is 0"):
        search_apart([[]], np.zeros((1, DIM), np.float32), 0, SearchParams())
