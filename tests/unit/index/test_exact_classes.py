"""A running top of classes is the reduction of a running top of queries, in any order of parts."""

from __future__ import annotations

import numpy as np
import pytest

from react_ray.errors import RetrievalError
from react_ray.index import exact_classes
from react_ray.index.class_hits import Classes, ClassHits, reduce_hits
from react_ray.index.exact import RunningTopK
from react_ray.index.exact_classes import RunningTopOfClasses
from tests.support.vector_database import unit_vectors


def tied_vectors(num: int, dim: int, seed: int) -> np.ndarray:
    """Few distinct integer vectors: most scores tie exactly."""
    return np.random.default_rng(seed).integers(-1, 2, (num, dim)).astype(np.float16)


def same(a: ClassHits, b: ClassHits) -> None:
    for name in ("class_id", "pair_id", "score", "query"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), name)


@pytest.mark.parametrize("make", [unit_vectors, tied_vectors])
@pytest.mark.parametrize("seed", range(12))
def test_the_best_of_classes_are_those_among_the_hits_of_their_queries(
    make, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(seed)
    num, num_queries = int(random.integers(50, 3000)), int(random.integers(1, 60))
    vectors, queries_QD = make(num, 12, seed=seed), make(num_queries, 12, seed=100 + seed).astype(np.float32)
    queries_QD[num_queries // 2 :] = queries_QD[: num_queries - num_queries // 2]  # equal queries: the first counts
    vectors[random.integers(0, num, 5)] = np.nan
    ids = random.permutation(num).astype(np.int64)
    classes = Classes(np.arange(num_queries) * 3, random.integers(0, random.integers(1, 20), num_queries))
    most = int(random.choice([1, 5, 100]))
    every = RunningTopK(most)
    every.update(queries_QD, ids, vectors)
    want = reduce_hits(every.result(), classes, most)
    monkeypatch.setattr(exact_classes, "QUERIES_AT_ONCE", int(random.choice([4, 256])))
    for step, rescore_from in ((num, 64), (137, 64), (137, 1)):
        monkeypatch.setattr(exact_classes, "RESCORE_FROM", rescore_from)
        best = RunningTopOfClasses(queries_QD, classes, most)
        for start in range(0, num, step):
            best.update(ids[start : start + step], vectors[start : start + step])
        same(best.result(), want)


def test_vectors_of_another_model_are_refused() -> None:
    queries_QD = unit_vectors(3, 8, seed=0).astype(np.float32)
    best = RunningTopOfClasses(queries_QD, Classes(np.arange(3), np.zeros(3, np.int64)), 2)
    with pytest.raises(RetrievalError, match="dimension 12"):
        best.update(np.arange(5), unit_vectors(5, 12, seed=1))
    assert not len(best.result().pair_id)
