"""One class of each image or several: how good a classifier is, when it has collapsed, and what is held out."""

from __future__ import annotations

import numpy as np
import pytest

from react_ray.evals.target import first_of_each, has_collapsed, hold_out, judged, quality


@pytest.mark.parametrize(("count", "held"), [(1, 0), (2, 1), (4, 1), (5, 1), (6, 2), (20, 4), (50, 10)])
def test_a_fifth_of_each_class_is_held_out_and_its_last_image_never(count: int, held: int) -> None:
    train, other = hold_out(np.repeat([0, 1], [count, 5]))
    assert (other < count).sum() == held and (other >= count).sum() == 1
    assert sorted([*train.tolist(), *other.tolist()]) == list(range(count + 5))
    assert other[:held].tolist() == list(range(held)), "the images that were drawn first"


def test_of_several_classes_a_fifth_of_each_is_held_out_and_the_last_image_of_none() -> None:
    one_of_each = np.eye(3, dtype=bool)[np.repeat([0, 1, 2], [10, 6, 1])]
    train, held = hold_out(one_of_each)
    assert held.tolist() == [0, 1, 10, 11] and sorted([*train.tolist(), *held.tolist()]) == list(range(17))
    true_NC = np.random.default_rng(0).random((200, 5)) < (0.6, 0.3, 0.2, 0.1, 0.02)
    train, held = hold_out(true_NC)
    num_C, held_C = true_NC.sum(axis=0), true_NC[held].sum(axis=0)
    assert (held_C >= np.minimum(np.ceil(num_C / 5), num_C - 1)).all() and true_NC[train].any(axis=0).all()
    assert len(held) < 60
    always = np.array([[True, True], [True, False], [True, False]])
    assert hold_out(always)[1].tolist() == [1], "the only image of the second class stays"


def test_of_a_large_class_the_first_images_are_taken_and_of_a_small_one_all() -> None:
    label_N = np.array([2, 0, 0, 2, 0, 5])
    assert first_of_each(label_N, 2).tolist() == [0, 1, 2, 3, 5]
    assert first_of_each(np.array([[1, 0], [1, 0], [1, 1]], bool), 1).tolist() == [0, 2]


def test_a_classifier_is_judged_by_accuracy_or_by_the_mean_average_precision() -> None:
    right_NC, label_N = np.eye(4, dtype=np.float32), np.arange(4)
    assert quality(right_NC, label_N) == quality(right_NC, right_NC > 0) == 1
    assert quality(-right_NC, label_N) == 0 and 0 < quality(-right_NC, right_NC > 0) < 0.5
    for target in (label_N, right_NC > 0):
        assert judged(5 * right_NC, target) > judged(right_NC, target) > judged(right_NC * np.nan, target)


def test_what_is_worse_on_its_own_images_than_before_has_collapsed() -> None:
    right_NC, label_N = np.eye(4, dtype=np.float32), np.arange(4)
    for target in (label_N, right_NC > 0):
        assert not has_collapsed(right_NC, right_NC, target) and not has_collapsed(-right_NC, right_NC, target)
        assert has_collapsed(right_NC, right_NC[[0, 1, 2, 0]], target)
        assert has_collapsed(right_NC, right_NC * np.nan, target)
