"""A metric of a resample is the metric of the images that it has, each as often as it was drawn."""

from __future__ import annotations

import numpy as np
import pytest

from react_ray.evals import metrics, resampled
from react_ray.evals.resampled import Metric
from react_ray.evals.segmentation import Counts, mean_iou

NUM, CLASSES = 60, 4
random = np.random.default_rng(0)
LABEL, CORRECT = random.integers(0, CLASSES, NUM), random.random(NUM) < 0.6
TRUE = np.eye(CLASSES, dtype=bool)[LABEL] | (random.random((NUM, CLASSES)) < 0.1)
SCORE = np.round(random.random((NUM, CLASSES)), 1)  # with ties
SCORE[3] = np.nan
PIXELS = [random.integers(0, 50, (NUM, CLASSES)) for _ in range(3)]
COUNTS = [PIXELS[0], PIXELS[0] + PIXELS[1], PIXELS[0] + PIXELS[2]]
OF = random.integers(1, 5, NUM)
FOUND = random.integers(0, OF + 1)


@pytest.mark.parametrize(
    ("metric", "plain"),
    [
        (resampled.share(CORRECT), lambda drawn: CORRECT[drawn].mean()),
        (resampled.share(FOUND, OF), lambda drawn: FOUND[drawn].sum() / OF[drawn].sum()),
        (
            resampled.mean_per_class(LABEL, CORRECT),
            lambda drawn: metrics.mean_per_class(LABEL[drawn], CORRECT[drawn]),
        ),
        (
            resampled.roc_auc(TRUE[:, 1], SCORE[:, 1]),
            lambda drawn: metrics.roc_auc(TRUE[drawn, 1], SCORE[drawn, 1]),
        ),
        (
            resampled.mean_average_precision_11_point(TRUE, SCORE),
            lambda drawn: metrics.mean_average_precision_11_point(TRUE[drawn], SCORE[drawn]),
        ),
        (
            resampled.mean_iou(*COUNTS),
            lambda drawn: mean_iou(Counts(*(of[drawn].sum(axis=0) for of in COUNTS)))[0],
        ),
    ],
)
def test_a_resample_has_the_metric_of_its_images(metric: Metric, plain: object) -> None:
    draws = [np.arange(NUM), *(random.integers(0, NUM, NUM) for _ in range(20)), np.repeat(np.arange(6), 10)]
    weight_BN = np.stack([np.bincount(drawn, minlength=NUM) for drawn in draws])
    assert metric(weight_BN) == pytest.approx([plain(drawn) for drawn in draws], abs=1e-12)  # type: ignore[operator]


def test_a_resample_of_one_class_has_no_roc_auc() -> None:
    metric = resampled.roc_auc(np.array([True, False]), np.array([0.4, 0.3]))
    found = metric(np.array([[1, 1], [2, 0]]))
    assert found[0] == 1 and np.isnan(found[1])
