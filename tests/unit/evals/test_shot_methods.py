"""Every method learns from the shots alone, and an unreadable test image has no score."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch

from react_ray.evals.few_shot import FINE_TUNING, ShotMethod, VectorMethod, draw
from react_ray.evals.metrics import log_sigmoid, log_softmax
from react_ray.evals.shot_methods import BEST_EPOCH, LAST_EPOCH, METHODS, Shots, learn
from react_ray.evals.target import quality
from tests.support.digits import CLASSES, digits


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def shots(several: bool = False) -> Shots:
    """several: whether an image may show several digits, as an eight shows a three."""
    of = digits()
    target = taught(of.train_label_N) if several else of.train_label_N
    rows = draw(target, 4, 0, CLASSES, "digits")
    return Shots(of.train_ND[rows], target[rows], of.text_CD, 0)


def taught(label_N: np.ndarray) -> np.ndarray:
    true_NC = np.eye(10, dtype=bool)[label_N]
    true_NC[label_N == 8, 3] = True
    return true_NC


def test_the_names_of_a_recipe_are_those_of_the_methods() -> None:
    assert get_args(ShotMethod) == (*METHODS, *FINE_TUNING)


@pytest.mark.parametrize("method", METHODS)
def test_scores_do_not_depend_on_the_order_of_the_test_images_or_on_other_ones(method: VectorMethod) -> None:
    of = digits()
    test_ND, label_N = of.test_ND[:200].copy(), of.test_label_N[:200]
    test_ND[[3, 9]] = np.nan
    order = np.random.default_rng(1).permutation(200)
    whole = learn(method, shots(), test_ND, label_N)[0].score_NC
    moved = learn(method, shots(), test_ND[order], label_N[order])[0].score_NC
    assert np.isnan(whole[[3, 9]]).all() and np.isfinite(np.delete(whole, [3, 9], axis=0)).all()
    np.testing.assert_allclose(moved, whole[order], atol=1e-4)
    wrong = learn(method, shots(), test_ND, np.zeros_like(label_N))[0].score_NC
    np.testing.assert_array_equal(wrong, whole)  # the labels of the test images are not looked at


@pytest.mark.parametrize("method", METHODS)
def test_images_of_several_classes_teach_more_than_the_prompts_know(method: VectorMethod) -> None:
    of = digits()
    test = taught(of.test_label_N)
    learned = learn(method, shots(several=True), of.test_ND, test)[-1]
    prompts = quality(log_softmax(of.test_ND @ of.text_CD.T), test)
    scores = log_sigmoid(learned.score_NC) if learned.one_vs_rest else log_softmax(learned.score_NC, scale=1)
    assert learned.one_vs_rest == (method != "tip-adapter")
    assert quality(scores, test) > prompts + 0.02


def test_the_best_epoch_on_the_test_set_is_labelled_as_such_and_never_worse_than_the_last() -> None:
    of = digits()
    last, best = learn("elevater-probe", shots(), of.test_ND, of.test_label_N)
    assert (last.setting, best.setting) == (LAST_EPOCH, BEST_EPOCH)
    right = [(found.score_NC.argmax(axis=1) == of.test_label_N).mean() for found in (last, best)]
    assert right[1] >= right[0]
