"""The drawn images are the same for every model, fewer are a part of more, and a class without enough is an error."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from react_ray.errors import ConfigError
from react_ray.evals.few_shot import draw, hold_out, numbers
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


@pytest.mark.parametrize(("count", "held"), [(1, 0), (2, 1), (4, 1), (5, 1), (6, 2), (20, 4), (50, 10)])
def test_a_fifth_of_each_class_is_held_out_and_its_last_image_never(count: int, held: int) -> None:
    train, other = hold_out(np.repeat([0, 1], [count, 5]))
    assert (other < count).sum() == held and (other >= count).sum() == 1
    assert sorted([*train.tolist(), *other.tolist()]) == list(range(count + 5))
    assert other[:held].tolist() == list(range(held)), "the images that were drawn first"


def test_shots_of_a_recipe_become_numbers() -> None:
    assert numbers([4, "all", 1, 4]) == [4, ALL_SHOTS, 1]
