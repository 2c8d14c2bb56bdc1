"""Metrics of classification equal scikit-learn's, and those that it does not have equal a calculation by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as theirs

from react_ray.evals.metrics import (
    average_precision_11_point,
    class_recall,
    log_softmax,
    mean_average_precision_11_point,
    mean_per_class,
    roc_auc,
    top_k,
)


def scores(seed: int, num: int = 200, num_classes: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Labels of all classes but the last, and scores of which many are equal."""
    rng = np.random.default_rng(seed)
    label_N = rng.integers(0, num_classes - 1, num)
    score_NC = rng.integers(0, 8, (num, num_classes)) / 8
    score_NC[np.arange(num), label_N] += 0.25
    return label_N, score_NC


@pytest.mark.parametrize("seed", range(5))
def test_mean_per_class_is_scikit_learns(seed: int) -> None:
    label_N, score_NC = scores(seed)
    predicted_N = score_NC.argmax(axis=1)
    assert mean_per_class(label_N, predicted_N == label_N) == pytest.approx(
        theirs.balanced_accuracy_score(label_N, predicted_N), abs=1e-15
    )
    recall_C = class_recall(label_N, predicted_N == label_N, 7)
    assert np.isnan(recall_C[6]) and recall_C[:6] == pytest.approx(
        theirs.recall_score(label_N, predicted_N, average=None, labels=range(6)), abs=1e-15
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_area_below_the_roc_curve_is_scikit_learns_with_ties_too(seed: int) -> None:
    label_N, score_NC = scores(seed)
    for position in range(6):
        true_N = label_N == position
        expected = theirs.roc_auc_score(true_N, score_NC[:, position])
        assert roc_auc(true_N, score_NC[:, position]) == pytest.approx(expected, abs=1e-14)
    assert np.isnan(roc_auc(label_N == 6, score_NC[:, 6]))


def test_the_11_point_precision_is_the_one_by_hand() -> None:
    """Four images of the class, at places 1, 3, 4 and 8 of eight: precisions 1, 2/3, 3/4 and 1/2 at recalls 1/4 to 1.

    Recalls 0 to 0.2 have 1, those to 0.7 have 3/4 (the highest behind them), 0.8 to 1 have 1/2.
    """
    true_N = np.array([1, 0, 1, 1, 0, 0, 0, 1], bool)
    score_N = np.linspace(1, 0, 8)
    assert average_precision_11_point(true_N, score_N) == pytest.approx((3 * 1 + 5 * 0.75 + 3 * 0.5) / 11)
    backwards = slice(None, None, -1)
    assert average_precision_11_point(true_N[backwards], score_N[backwards]) == pytest.approx(0.75, abs=1e-15)


@pytest.mark.parametrize("seed", range(5))
def test_the_11_point_mean_is_read_off_scikit_learns_curve(seed: int) -> None:
    label_N, score_NC = scores(seed)
    true_NC = (label_N[:, None] == np.arange(7)) | (label_N[::-1, None] == np.arange(7))  # one or two classes
    expected = []
    for true_N, score_N in zip(true_NC.T[:6], score_NC.T[:6], strict=True):
        precision, recall, _ = theirs.precision_recall_curve(true_N, score_N)
        expected.append(np.mean([precision[recall >= level - 1e-12].max() for level in np.linspace(0, 1, 11)]))
    assert mean_average_precision_11_point(true_NC, score_NC) == pytest.approx(np.mean(expected), abs=1e-14)


def test_top_k_counts_ranks_and_log_probabilities_keep_apart_what_probabilities_round() -> None:
    assert top_k(np.array([0, 1, 4, 5]), 1) == 0.25 and top_k(np.array([0, 1, 4, 5]), 5) == 0.75
    certain = log_softmax(np.array([[0.4, 0.1], [0.41, 0.1]]))
    assert np.exp(certain[:, 0]).tolist() == [1, 1] and 0 > certain[1, 0] > certain[0, 0]
    assert np.exp(log_softmax(np.array([[0.02, 0.01, 0]]))).sum() == pytest.approx(1)


def test_an_image_that_cannot_be_read_ranks_below_all_others() -> None:
    true_N, score_N = np.array([True, False, True]), np.array([2.0, 1.0, np.nan])
    assert roc_auc(true_N, score_N) == 0.5
    # Recalls 0 to 0.5 have precision 1, those above have 2/3.
    assert average_precision_11_point(true_N, score_N) == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)


def test_images_that_could_not_be_read_are_retrieved_together_in_any_order() -> None:
    score_N = np.array([1.0, np.nan, np.nan, np.nan])
    for true_N in ([False, True, False, False], [False, False, False, True]):
        assert average_precision_11_point(np.array(true_N), score_N) == pytest.approx((1 + 10 * 0.25) / 11)
