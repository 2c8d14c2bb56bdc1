"""Metrics of resamples: how often each image occurs in each resample -> the value of a metric in each.

A bootstrap over images needs a metric of thousands of resamples. What a metric sorts or sums by image does not depend
on them, and is done once. With every image once, each function gives what metrics.py, segmentation.py and image_text.py
give. Next: report/intervals.py, which draws the resamples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from react_ray.clip.prompts import MAP_11_POINT, MEAN_PER_CLASS, ROC_AUC, TOP1, TargetTask
from react_ray.evals.metrics import RECALL_LEVELS

Metric = Callable[[np.ndarray], np.ndarray]  # int [B, N] -> float64 [B], NaN where a resample has no value


RESAMPLES = 2_000


class OfImages(NamedTuple):
    metric: Metric
    by_image: np.ndarray  # [N, ...]: what each image adds; two models differ about an image where theirs differ
    resamples: int = RESAMPLES


def share(right_N: np.ndarray, of_N: np.ndarray | None = None) -> Metric:
    """The share of all that is right. of_N: numbers of what is counted in each image, None = 1."""
    total_N = np.ones(len(right_N)) if of_N is None else of_N

    def metric(weight_BN: np.ndarray) -> np.ndarray:
        return _divided(weight_BN @ right_N.astype(np.float64), weight_BN @ total_N.astype(np.float64))

    return metric


def mean_per_class(label_N: np.ndarray, correct_N: np.ndarray) -> Metric:
    """label_N: int64, positions of classes. A class that a resample lacks takes no part in its mean."""
    one_NC = np.eye(int(label_N.max()) + 1)[label_N]

    def metric(weight_BN: np.ndarray) -> np.ndarray:
        return _mean_of_classes(_divided(weight_BN @ (one_NC * correct_N[:, None]), weight_BN @ one_NC))

    return metric


def roc_auc(true_N: np.ndarray, score_N: np.ndarray) -> Metric:
    """true_N: bool. score_N: float, NaN = below all others."""
    _, place_N = np.unique(_or_lowest(score_N), return_inverse=True)

    def metric(weight_BN: np.ndarray) -> np.ndarray:
        found = []
        for weight_N in weight_BN:
            true_U, false_U = (np.bincount(place_N, weight_N * group_N) for group_N in (true_N, ~true_N))
            below_U = np.cumsum(false_U) - false_U / 2  # equal scores count half
            found.append(_divided((true_U * below_U).sum(), true_U.sum() * false_U.sum()))
        return np.array(found, np.float64)

    return metric


def mean_average_precision_11_point(true_NC: np.ndarray, score_NC: np.ndarray) -> Metric:
    """true_NC: bool. score_NC: float, NaN = below all others."""
    classes = []
    for true_N, score_N in zip(true_NC.T, _or_lowest(score_NC).T, strict=True):
        order_N = np.argsort(-score_N, kind="stable")
        sorted_N = score_N[order_N]
        last_E = np.append(np.flatnonzero(sorted_N[1:] != sorted_N[:-1]), len(order_N) - 1)
        classes.append((order_N, true_N[order_N], last_E))

    def metric(weight_BN: np.ndarray) -> np.ndarray:
        value_BC = np.array([[_average_precision(weight_N, *one) for one in classes] for weight_N in weight_BN])
        return _mean_of_classes(value_BC)

    return metric


def mean_iou(right_NC: np.ndarray, labelled_NC: np.ndarray, predicted_NC: np.ndarray) -> Metric:
    """Numbers of pixels of each image by class, as in segmentation.py: Counts."""
    union_NC = labelled_NC + predicted_NC - right_NC

    def metric(weight_BN: np.ndarray) -> np.ndarray:
        return _mean_of_classes(_divided(*(weight_BN @ of_NC.astype(np.float64) for of_NC in (right_NC, union_NC))))

    return metric


def metric_of(found: pa.Table, task: TargetTask) -> Metric:
    """The metric that counts for a task. found: its predictions (schema.PREDICTIONS, or WITH_CLASS_SCORES)."""
    correct_N = pc.equal(found["rank"], 0).fill_null(False).to_numpy()
    if task.metric == TOP1:
        return share(correct_N)
    if task.metric == MEAN_PER_CLASS:
        return mean_per_class(np.unique(found["label"].to_pylist(), return_inverse=True)[1], correct_N)
    true_NC, score_NC = class_scores(found, task)
    if task.metric == ROC_AUC:
        return roc_auc(true_NC[:, 1], score_NC[:, 1])
    assert task.metric == MAP_11_POINT, "METRICS has no other"
    return mean_average_precision_11_point(true_NC, score_NC)


def class_scores(found: pa.Table, task: TargetTask) -> tuple[np.ndarray, np.ndarray]:
    """Which classes each image has, and their scores: bool [N, C] and float [N, C], NaN where it could not be read.

    found: schema.WITH_CLASS_SCORES.
    """
    position = {name: place for place, name in enumerate(task.class_names)}
    true_NC = np.zeros((found.num_rows, len(position)), bool)
    score_NC = np.full(true_NC.shape, np.nan)
    columns = (found[name].to_pylist() for name in ("label", "also", "class_scores"))
    for row, (label, also, scores) in enumerate(zip(*columns, strict=True)):
        true_NC[row, [position[name] for name in (label, *(also or []))]] = True
        score_NC[row] = np.nan if scores is None else scores
    return true_NC, score_NC


def _average_precision(weight_N: np.ndarray, order_N: np.ndarray, true_N: np.ndarray, last_E: np.ndarray) -> float:
    """As metrics.py: average_precision_11_point. true_N: in the order of order_N. last_E: the last of each score."""
    weight_N = weight_N[order_N]
    found_E, all_E = (np.cumsum(of_N)[last_E] for of_N in (weight_N * true_N, weight_N))
    if not found_E[-1]:
        return float("nan")
    best_E = np.maximum.accumulate(np.nan_to_num(_divided(found_E, all_E))[::-1])[::-1]
    levels = RECALL_LEVELS - 1
    return float(
        (1 + best_E[np.searchsorted(found_E * levels, np.arange(1, levels + 1) * found_E[-1])].sum()) / (1 + levels)
    )


def _divided(some: np.ndarray, of: np.ndarray) -> np.ndarray:
    some, of = np.asarray(some, np.float64), np.asarray(of, np.float64)
    return np.divide(some, of, out=np.full(np.broadcast(some, of).shape, np.nan), where=of > 0)


def _mean_of_classes(value_BC: np.ndarray) -> np.ndarray:
    there_BC = ~np.isnan(value_BC)
    return _divided(np.where(there_BC, value_BC, 0).sum(axis=1), there_BC.sum(axis=1))


def _or_lowest(score: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(score), -np.inf, score)
