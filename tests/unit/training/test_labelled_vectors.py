from __future__ import annotations

import numpy as np

from react_ray.training.labelled_vectors import NO_CLASS, LabelledVectors

VECTORS = LabelledVectors(
    np.arange(8, dtype=np.float32).reshape(4, 2),
    np.array([[0, NO_CLASS, NO_CLASS], [1, 4, 2], [4, 3, NO_CLASS], [1, NO_CLASS, NO_CLASS]]),
    np.array([[1, 0, 0], [1, 0.5, 1], [1, 0.25, 0], [1, 0, 0]], np.float32),
)


def test_a_task_has_the_pairs_of_its_classes_and_their_weights_sum_to_the_largest() -> None:
    first, second = VECTORS.of_task(0, 3), VECTORS.of_task(3, 5)
    np.testing.assert_array_equal(first.image_ND, VECTORS.image_ND[[0, 1, 3]])
    np.testing.assert_allclose(first.targets(slice(None), 3), [[1, 0, 0], [0, 0.5, 0.5], [0, 1, 0]])
    np.testing.assert_array_equal(second.image_ND, VECTORS.image_ND[[1, 2]])
    np.testing.assert_allclose(second.targets(slice(None), 2), [[0, 0.5], [0.2, 0.8]])
    np.testing.assert_allclose(second.targets(np.array([1, 1, 0]), 2), [[0.2, 0.8], [0.2, 0.8], [0, 0.5]])
    assert len(VECTORS.of_task(5, 9).image_ND) == 0


def test_one_class_is_a_target_of_one() -> None:
    found = LabelledVectors.of_one_class(np.zeros((3, 2), np.float16), np.array([5, NO_CLASS, 3])).of_task(3, 6)
    np.testing.assert_array_equal(found.targets(slice(None), 3), [[0, 0, 1], [1, 0, 0]])


def test_the_class_that_a_pair_was_retrieved_for_weighs_one_and_others_as_they_matched() -> None:
    matched = [[(0, 1.0), (4, 0.5)], [], [(3, 1.0), (1, 0.25), (2, 0.125)]]
    found = LabelledVectors.of_matched(np.zeros((3, 2), np.float32), np.array([0, 2, 3]), matched)
    np.testing.assert_array_equal(found.class_id_NL, [[0, 4, NO_CLASS], [2, NO_CLASS, NO_CLASS], [3, 1, 2]])
    np.testing.assert_array_equal(found.weight_NL, [[1, 0.5, 0], [1, 0, 0], [1, 0.25, 0.125]])
    np.testing.assert_allclose(found.of_task(0, 3).targets(slice(None), 3)[2], [0, 0.25 * 2 / 3, 0.25 / 3])


def test_others_come_behind_as_often_as_they_count_and_bring_their_weights() -> None:
    others = LabelledVectors.of_one_class(np.array([[9, 9], [7, 7]], np.float32), np.array([3, 1]))
    found = VECTORS.rows(slice(0, 1)).with_others(others, np.array([2, 1]))
    np.testing.assert_array_equal(found.image_ND, [[0, 1], [9, 9], [9, 9], [7, 7]])
    np.testing.assert_array_equal(found.targets(slice(None), 4).argmax(axis=1), [0, 3, 3, 1])
    narrow = others.with_others(VECTORS, np.array([0, 1, 0, 0]))
    np.testing.assert_array_equal(narrow.targets(slice(None), 5)[2], [0, 1, 1, 0, 0.5])
