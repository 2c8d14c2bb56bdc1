"""Lists of an IVF: found by k-means, the same whatever the threads and blocks, near what a full comparison gives."""

from __future__ import annotations

import numpy as np
import pytest

from react_ray.index.kmeans import GROUPS_TRIED, GROUPS_TRIED_TRAINING, TWO_LEVELS_FROM, Assigner, train_centroids
from react_ray.index.quantizer import threads
from tests.benchmark.made_vectors import Mixture
from tests.support.vector_database import clustered


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return clustered(3000, 16, seed=0).astype(np.float32)


def test_centroids_are_unit_and_of_no_other_threads(vectors: np.ndarray) -> None:
    trained = []
    for num_threads in (1, 2):
        with threads(num_threads):
            trained.append(train_centroids(vectors, 20, seed=3))
    one, two = trained
    np.testing.assert_array_equal(one, two)
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, atol=2e-3)
    assert len(np.unique(one, axis=0)) == 20
    assert not np.array_equal(one, train_centroids(vectors, 20, seed=4))
    random = vectors[:20].astype(np.float16).astype(np.float32)
    assert (vectors @ one.T).max(axis=1).mean() > (vectors @ random.T).max(axis=1).mean() + 0.02


def test_a_vector_gets_its_nearest_list_however_vectors_come(vectors: np.ndarray) -> None:
    centroids = train_centroids(vectors, 24, seed=0)
    centroids[7] = centroids[3]  # equal centroids: the smaller number wins
    assigner = Assigner(centroids)
    lists = assigner.assign(vectors)
    exact = (vectors.astype(np.float64) @ centroids.astype(np.float64).T).argmax(axis=1)
    np.testing.assert_array_equal(lists, exact)
    np.testing.assert_array_equal(
        np.concatenate([assigner.assign(vectors[i : i + 7]) for i in range(0, 3000, 7)]), lists
    )


def test_two_levels_give_nearly_the_nearest_of_many_lists() -> None:
    vectors = clustered(6000, 16, seed=1).astype(np.float32)
    centroids = train_centroids(vectors, TWO_LEVELS_FROM, seed=0)
    assigner = Assigner(centroids)
    assert assigner.index.nlist == 128
    lists = assigner.assign(vectors)
    score = vectors @ centroids.T
    lost = score.max(axis=1) - np.take_along_axis(score, lists[:, None].astype(np.int64), axis=1)[:, 0]
    assert (lost < 1e-4).mean() > 0.9 and lost.mean() < 0.01
    np.testing.assert_array_equal(
        np.concatenate([assigner.assign(vectors[i : i + 999]) for i in range(0, 6000, 999)]), lists
    )


@pytest.mark.parametrize("tried, share", [(GROUPS_TRIED, 0.99), (GROUPS_TRIED_TRAINING, 0.96)])
def test_few_groups_hold_the_nearest_list_of_vectors_that_lie_as_those_of_clip_do(tried: int, share: float) -> None:
    mixture = Mixture(512)
    centroids = train_centroids(mixture.draw(20_000, 0).astype(np.float32), TWO_LEVELS_FROM, seed=0)
    others = mixture.draw(4000, 1).astype(np.float32)
    assert (Assigner(centroids, tried).assign(others) == (others @ centroids.T).argmax(axis=1)).mean() > share


def test_as_many_lists_as_vectors_that_are_equal_still_ends() -> None:
    same = np.repeat(clustered(4, 8, seed=2), 5, axis=0).astype(np.float32)
    assert np.isfinite(train_centroids(same, 10, seed=0)).all()
