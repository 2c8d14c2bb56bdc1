from __future__ import annotations

import numpy as np

from react_ray.training.knn import Neighbours
from react_ray.training.labelled_vectors import NO_CLASS, LabelledVectors


def unit(*shape: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal(shape)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


IMAGES, KEYS = unit(9, 5, seed=0), unit(40, 5, seed=1)
LABELS = np.random.default_rng(2).integers(0, 4, 40)


def test_votes_equal_a_plain_loop_whatever_the_blocks() -> None:
    keys = LabelledVectors.of_one_class(KEYS, LABELS)
    found = Neighbours(keys, 4, k=6, temperature=0.1)(IMAGES)
    for image, row in zip(IMAGES, found, strict=True):
        cosines = KEYS @ image
        nearest = sorted(range(40), key=lambda key: -cosines[key])[:6]
        votes = np.zeros(4)
        for key in nearest:
            votes[LABELS[key]] += np.exp(cosines[key] / 0.1)
        np.testing.assert_allclose(row, votes / votes.sum(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(Neighbours(keys, 4, 6, 0.1, at_once=(7, 4))(IMAGES), found, rtol=1e-5, atol=1e-7)


def test_one_neighbour_is_its_own_class_and_shares_of_several_classes_are_votes() -> None:
    keys = LabelledVectors.of_one_class(KEYS, LABELS)
    assert (Neighbours(keys, 4, 1, 0.07)(KEYS).argmax(1) == LABELS).all()
    both = LabelledVectors(KEYS[:1], np.array([[2, 0, NO_CLASS]]), np.array([[0.75, 0.25, 0]], np.float32))
    np.testing.assert_allclose(Neighbours(both, 4, 20, 0.07)(IMAGES), np.tile([0.25, 0, 0.75, 0], (9, 1)))


def test_a_task_without_pairs_scores_nothing() -> None:
    none = LabelledVectors.of_one_class(KEYS[:0], LABELS[:0])
    np.testing.assert_array_equal(Neighbours(none, 4, 5, 0.07)(IMAGES), np.zeros((9, 4)))
