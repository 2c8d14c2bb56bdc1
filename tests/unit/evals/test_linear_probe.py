"""The linear probe is scikit-learn's logistic regression; the anchored probe lies between the prompts and that."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from react_ray.evals.few_shot import draw
from react_ray.evals.linear_probe import OF_ONE_SHOT, SCALE, fit, fit_swept
from react_ray.evals.score import ALL_SHOTS
from tests.support.digits import CLASSES, digits


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("l2", [1e-2, 1e-1, 1, 100])
def test_the_probe_is_within_two_tenths_of_a_point_of_scikit_learn_at_the_same_penalty(l2: float) -> None:
    of = digits()
    probe = fit(of.train_ND, of.train_label_N, of.text_CD, l2)
    theirs = LogisticRegression(C=1 / l2, max_iter=5000, tol=1e-6).fit(of.train_ND.astype(float), of.train_label_N)
    ours = float((probe(of.test_ND).argmax(axis=1) == of.test_label_N).mean())
    assert abs(ours - theirs.score(of.test_ND, of.test_label_N)) < 0.002
    # The weights are those of the one minimum; a vector that all classes share changes no probability.
    centred_CD = probe.weight_CD - probe.weight_CD.mean(axis=0)
    assert np.abs(centred_CD - theirs.coef_).max() < 0.02 * np.abs(theirs.coef_).max()


@pytest.mark.parametrize("l2", [1e-2, 1, 100])
def test_of_several_classes_each_has_scikit_learns_regression_against_all_else(l2: float) -> None:
    of = digits()
    true_NC = of.train_label_N[:, None] == np.arange(10)
    true_NC[:, 3] |= of.train_label_N == 8  # an eight shows a three, too
    probe = fit(of.train_ND, true_NC, of.text_CD, l2)
    for digit in (3, 5):
        theirs = LogisticRegression(C=1 / l2, max_iter=5000, tol=1e-6).fit(of.train_ND.astype(float), true_NC[:, digit])
        expected_N = theirs.decision_function(of.test_ND)
        assert np.abs(probe(of.test_ND)[:, digit] - expected_N).max() < 0.02 * np.abs(expected_N).max()


def test_the_minimum_does_not_depend_on_where_the_head_begins() -> None:
    of = digits()
    one, other = (fit(of.train_ND, of.train_label_N, start, 0.1)(of.test_ND) for start in (of.text_CD, -of.text_CD))
    assert np.abs(one - one.mean(axis=1, keepdims=True) - (other - other.mean(axis=1, keepdims=True))).max() < 0.05


def test_an_anchored_probe_is_the_prompts_at_a_strong_penalty_and_logistic_regression_at_a_weak_one() -> None:
    of = digits()
    strong = fit(of.train_ND, of.train_label_N, of.text_CD, 1e6, anchored=True)
    assert np.abs(strong.weight_CD - SCALE * of.text_CD).max() < 0.01 and np.abs(strong.bias_C).max() < 0.01
    weak = (fit(of.train_ND, of.train_label_N, of.text_CD, 1e-3, anchored) for anchored in (True, False))
    anchored, plain = (probe(of.test_ND).argmax(axis=1) for probe in weak)
    assert (anchored == plain).mean() > 0.97


def test_an_anchored_probe_of_several_classes_learns_a_threshold_for_each_beside_the_prompts() -> None:
    of = digits()
    true_NC = of.train_label_N[:, None] == np.arange(10)
    probe = fit(of.train_ND, true_NC, of.text_CD, 1e3, anchored=True)
    assert np.abs(probe.weight_CD - SCALE * of.text_CD).max() < 0.5
    mean_C = (1 / (1 + np.exp(-probe(of.train_ND)))).mean(axis=0)
    np.testing.assert_allclose(mean_C, true_NC.mean(axis=0), atol=2e-3)


def test_the_penalty_is_chosen_without_the_test_images_and_helps_on_them() -> None:
    of = digits()
    probe = fit_swept(of.train_ND, of.train_label_N, of.text_CD)
    swept = (probe(of.test_ND).argmax(axis=1) == of.test_label_N).mean()
    fixed = (fit(of.train_ND, of.train_label_N, of.text_CD, 100)(of.test_ND).argmax(axis=1) == of.test_label_N).mean()
    assert 1e-4 < probe.l2 < 1 and swept > 0.95 > 0.7 > fixed


def test_of_one_shot_nothing_is_held_out_and_the_published_penalty_is_taken() -> None:
    of = digits()
    rows = draw(of.train_label_N, 1, 0, CLASSES, "digits")
    probe = fit_swept(of.train_ND[rows], of.train_label_N[rows], of.text_CD)
    assert probe.l2 == OF_ONE_SHOT
    assert (probe(of.train_ND[rows]).argmax(axis=1) == of.train_label_N[rows]).all()


def test_the_probe_is_the_same_twice_and_scores_images_in_any_batch() -> None:
    of = digits()
    rows = draw(of.train_label_N, ALL_SHOTS, 0, CLASSES, "digits")[:200]
    image_ND, label_N = of.train_ND[rows].astype(np.float16), of.train_label_N[rows]
    one, other = (fit(image_ND, label_N, of.text_CD, 0.1) for _ in range(2))
    assert (one.weight_CD == other.weight_CD).all() and (one.bias_C == other.bias_C).all()
    whole = one(of.test_ND)
    assert (np.concatenate([one(of.test_ND[:7]), one(of.test_ND[7:])]) == whole).all()
