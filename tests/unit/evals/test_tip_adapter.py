"""Tip-Adapter's alpha and beta come from held-out training images, and with one shot from its paper."""

from __future__ import annotations

import numpy as np

from react_ray.evals.few_shot import draw
from react_ray.evals.linear_probe import SCALE
from react_ray.evals.score import ALL_SHOTS
from react_ray.evals.tip_adapter import ALPHA, BETA, tip_adapter
from react_ray.training.cache import SHOTS
from tests.support.digits import CLASSES, digits


def shots(number: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    of = digits()
    rows = draw(of.train_label_N, number, seed, CLASSES, "digits")
    return of.train_ND[rows], of.train_label_N[rows]


def test_of_one_shot_it_is_the_published_formula() -> None:
    of, (image_ND, label_N) = digits(), shots(1)
    cache = tip_adapter(image_ND, label_N, of.text_CD)
    affinity = np.exp(-BETA * (1 - of.test_ND @ image_ND.T)) @ np.eye(10)[label_N]  # equations 4 and 5
    expected = SCALE * of.test_ND @ of.text_CD.T + ALPHA * affinity
    np.testing.assert_allclose(cache(of.test_ND), expected, atol=1e-3)
    assert cache.alpha == ALPHA / SHOTS and cache.beta == BETA


def test_an_image_of_several_classes_is_a_key_of_each() -> None:
    of, (image_ND, label_N) = digits(), shots(1)
    true_NC = np.eye(10, dtype=bool)[label_N]
    true_NC[label_N == 8, 3] = True  # which has two keys then
    cache = tip_adapter(image_ND, true_NC, of.text_CD)
    affinity_NK = np.exp(-cache.beta * (1 - of.test_ND @ image_ND.T))
    mean_NC = affinity_NK @ true_NC / true_NC.sum(axis=0)
    np.testing.assert_allclose(cache.affinity(of.test_ND), mean_NC, atol=1e-4)


def test_more_shots_help_and_all_of_them_are_keys() -> None:
    of = digits()
    accuracies = []
    for number in (1, 4, 16, ALL_SHOTS):
        cache = tip_adapter(*shots(number), of.text_CD)
        accuracies.append((cache(of.test_ND).argmax(axis=1) == of.test_label_N).mean())
        assert len(cache.keys.image_ND) == (900 if number == ALL_SHOTS else 10 * number)
    zero_shot = ((of.test_ND @ of.text_CD.T).argmax(axis=1) == of.test_label_N).mean()
    assert accuracies[-1] > accuracies[1] > zero_shot and accuracies[-1] > 0.9


def test_a_cache_that_does_not_help_on_held_out_images_is_left_out() -> None:
    image_ND, label_N = shots(4)
    means_CD = np.stack([digits().train_ND[digits().train_label_N == label].mean(axis=0) for label in range(10)])
    random = np.random.default_rng(0).normal(size=image_ND.shape).astype(np.float32)
    held = np.arange(0, 40, 4)  # the first of each class
    misled_ND = random / np.linalg.norm(random, axis=1, keepdims=True)
    misled_ND[held] = means_CD / np.linalg.norm(means_CD, axis=1, keepdims=True)
    assert tip_adapter(misled_ND, label_N, misled_ND[held]).alpha == 0
