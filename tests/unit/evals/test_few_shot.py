"""The drawn images are the same for every model, fewer are a part of more, and a class without enough is an error."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from react_ray.errors import ConfigError
from react_ray.evals.few_shot import draw, numbers
from react_ray.evals.score import ALL_SHOTS

CLASSES = ["heron", "owl", "crane"]
LABELS = np.random.default_rng(5).permutation(np.repeat([0, 1, 2], [20, 7, 9]))


def test_a_draw_has_so_many_images_of_each_class_and_none_twice() -> None:
    for shots in (1, 2, 5, 7):
        rows = draw(LABELS, shots, 0, CLASSES, "test")
        assert LABELS[rows].tolist() == [0] * shots + [1] * shots + [2] * shots
        assert len(set(rows.tolist())) == 3 * shots
    assert sorted(draw(LABELS, ALL_SHOTS, 0, CLASSES, "test").tolist()) == list(range(36))


def test_fewer_shots_are_a_part_of_more_and_seeds_differ() -> None:
    by_shots = [set(draw(LABELS, shots, 3, CLASSES, "test").tolist()) for shots in (1, 2, 4, 7, ALL_SHOTS)]
    assert all(fewer < more for fewer, more in pairwise(by_shots))
    assert draw(LABELS, 4, 0, CLASSES, "test").tolist() != draw(LABELS, 4, 1, CLASSES, "test").tolist()
    assert draw(LABELS, 4, 1, CLASSES, "test").tolist() == draw(LABELS, 4, 1, CLASSES, "test").tolist()


def test_a_class_without_enough_images_is_named() -> None:
    with pytest.raises(ConfigError, match="8 shots are asked for of each class, and the class 'owl' has 7 labelled"):
        draw(LABELS, 8, 0, CLASSES, "test")
    for shots in (1, ALL_SHOTS):
        with pytest.raises(
            ConfigError, match=r"evaluate\.train\.test: 1 shot is asked .* 'stork' has 0 .*; add images"
        ):
            draw(LABELS, shots, 0, [*CLASSES, "stork"], "test")


def test_an_image_without_a_vector_is_passed_over_and_the_other_images_stay() -> None:
    before = draw(LABELS, 4, 0, CLASSES, "test")
    readable = np.ones(len(LABELS), bool)
    readable[before[0]] = False
    after = draw(LABELS, 4, 0, CLASSES, "test", readable)
    assert before[0] not in after and set(before[1:].tolist()) < set(after.tolist()) and len(after) == 12
    readable[LABELS == 1] = False
    with pytest.raises(ConfigError, match="'owl' has 0 labelled images"):
        draw(LABELS, 1, 0, CLASSES, "test", readable)


def test_an_image_of_several_classes_is_drawn_once_and_counts_for_each_of_them() -> None:
    true_NC = np.random.default_rng(2).random((60, 3)) < (0.7, 0.2, 0.3)
    by_shots = [draw(true_NC, shots, 0, CLASSES, "test") for shots in (1, 2, 5, ALL_SHOTS)]
    for shots, rows in zip((1, 2, 5), by_shots, strict=False):
        assert len(set(rows.tolist())) == len(rows) <= 3 * shots and true_NC[rows].sum(axis=0).min() >= shots
    assert all(set(fewer.tolist()) < set(more.tolist()) for fewer, more in pairwise(by_shots))
    assert sorted(by_shots[-1].tolist()) == np.flatnonzero(true_NC.any(axis=1)).tolist()
    one_of_each = np.eye(3, dtype=bool)[LABELS]
    assert (draw(one_of_each, 4, 1, CLASSES, "test") == draw(LABELS, 4, 1, CLASSES, "test")).all()


def test_shots_of_a_recipe_become_numbers() -> None:
    assert numbers([4, "all", 1, 4]) == [4, ALL_SHOTS, 1]
