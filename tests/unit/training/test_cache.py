from __future__ import annotations

import numpy as np

from react_ray.training.cache import SHOTS, Cache
from react_ray.training.labelled_vectors import LabelledVectors
from react_ray.training.scorer import ClassVectors


def unit(*shape: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal(shape)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


IMAGES, PROMPTS, KEYS = unit(7, 6, seed=0), ClassVectors(unit(4, 6, seed=1)), unit(SHOTS * 3, 6, seed=2)
LABELS = np.repeat([0, 1, 3], SHOTS)
LOGITS = 100 * PROMPTS(IMAGES)


def test_it_equals_tip_adapter_where_each_class_has_sixteen_keys() -> None:
    found = Cache(PROMPTS, LabelledVectors.of_one_class(KEYS, LABELS), 100, alpha=1.5, beta=5.5)(IMAGES)
    expected = 1.5 * np.exp(-5.5 * (1 - IMAGES @ KEYS.T)) @ np.eye(4)[LABELS]  # equations 4 and 5
    np.testing.assert_allclose(found, LOGITS + expected, rtol=1e-4, atol=1e-4)
    assert found.dtype == np.float32 and (found[:, 2] == LOGITS[:, 2]).all(), "a class without keys has its prompt"


def test_many_keys_count_as_few_and_their_blocks_do_not_matter() -> None:
    few = Cache(PROMPTS, LabelledVectors.of_one_class(KEYS, LABELS), 100, 1, 5.5)(IMAGES)
    twice = LabelledVectors.of_one_class(np.concatenate([KEYS, KEYS]), np.concatenate([LABELS, LABELS]))
    np.testing.assert_allclose(Cache(PROMPTS, twice, 100, 1, 5.5)(IMAGES), few, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(Cache(PROMPTS, twice, 100, 1, 5.5, at_once=(5, 3))(IMAGES), few, rtol=1e-5, atol=1e-4)


def test_without_keys_or_weight_the_prompts_are_left() -> None:
    none = LabelledVectors.of_one_class(KEYS[:0], LABELS[:0])
    np.testing.assert_array_equal(Cache(PROMPTS, none, 100, 1, 5.5)(IMAGES), LOGITS)
    some = LabelledVectors.of_one_class(KEYS, LABELS)
    np.testing.assert_array_equal(Cache(PROMPTS, some, 100, 0, 5.5)(IMAGES), LOGITS)
