"""Metrics of classification, as functions of arrays: which of them counts is a property of the task.

All are in [0, 1]. A class without images has no recall and takes no part in a mean, as in scikit-learn.
"""

from __future__ import annotations

import numpy as np

RECALL_LEVELS = 11


def top_k(rank_N: np.ndarray, k: int) -> float:
    """The share of images of which fewer than k classes are ranked before the true one. rank_N: int, 0 = first."""
    return float((rank_N < k).mean())


def class_recall(label_N: np.ndarray, correct_N: np.ndarray, num_classes: int) -> np.ndarray:
    """float64 [C]: the share of each class's images that are classified correctly, NaN for a class without images.

    label_N: int64, positions of classes. correct_N: bool.
    """
    num_C = np.bincount(label_N, minlength=num_classes)
    right_C = np.bincount(label_N, weights=correct_N, minlength=num_classes)
    return np.divide(right_C, num_C, out=np.full(num_classes, np.nan), where=num_C > 0)


def mean_per_class(label_N: np.ndarray, correct_N: np.ndarray) -> float:
    """The mean recall of the classes that have images: balanced accuracy."""
    recall_C = class_recall(label_N, correct_N, int(label_N.max()) + 1)
    return float(np.nanmean(recall_C))


def roc_auc(true_N: np.ndarray, score_N: np.ndarray) -> float:
    """The probability that an image of the class scores higher than another one; ties count half (Mann and Whitney).

    true_N: bool. score_N: float; images that could not be read have NaN, and are below all others. NaN if one of the
    two groups is empty.
    """
    score_N = np.where(np.isnan(score_N), -np.inf, score_N)
    _, place_N, count_U = np.unique(score_N, return_inverse=True, return_counts=True)
    rank_N = (np.cumsum(count_U) - (count_U - 1) / 2)[place_N]  # from 1, the mean of equal scores
    num_true = int(true_N.sum())
    num_pairs = num_true * (len(true_N) - num_true)
    return float((rank_N[true_N].sum() - num_true * (num_true + 1) / 2) / num_pairs) if num_pairs else float("nan")


def average_precision_11_point(true_N: np.ndarray, score_N: np.ndarray) -> float:
    """The mean, over recalls of at least 0, 0.1, ..., 1, of the highest precision there (PASCAL VOC 2007, section 4.2
    of Everingham et al. 2010). NaN without an image of the class.

    Images of equal score are retrieved together. The precision at recall 0 is 1, where nothing is retrieved, as in
    scikit-learn's curve and in the toolkit of ELEVATER; VOC's own program takes the highest precision of all, which is
    1 too wherever the first image is right. true_N: bool. score_N: float, NaN = below all others.
    """
    num_true = int(true_N.sum())
    if not num_true:
        return float("nan")
    score_N = np.where(np.isnan(score_N), -np.inf, score_N)
    order = np.argsort(-score_N, kind="stable")
    sorted_N = score_N[order]  # the difference of -inf and -inf is NaN, so that they are compared
    ends = np.append(np.flatnonzero(sorted_N[1:] != sorted_N[:-1]), len(order) - 1)  # the last image of each score
    found_E = np.cumsum(true_N[order])[ends]
    precision_E = found_E / (ends + 1)
    levels = RECALL_LEVELS - 1
    best = [1.0] + [float(precision_E[found_E * levels >= level * num_true].max()) for level in range(1, levels + 1)]
    return float(np.mean(best))


def mean_average_precision_11_point(true_NC: np.ndarray, score_NC: np.ndarray) -> float:
    """The mean of `average_precision_11_point` over the classes that have images. true_NC: bool; an image may have
    several classes."""
    columns = zip(true_NC.T, score_NC.T, strict=True)
    return float(np.nanmean([average_precision_11_point(true_N, score_N) for true_N, score_N in columns]))


def log_softmax(score_NC: np.ndarray, scale: float = 100.0) -> np.ndarray:
    """float32 [N, C]: log-probabilities of the classes of each image, which rank images as probabilities do.

    scale: CLIP's 100, as in ELEVATER, of cosines. Probabilities themselves would round to 1.
    """
    logit_NC = scale * score_NC.astype(np.float64)
    logit_NC -= logit_NC.max(axis=1, keepdims=True)
    return (logit_NC - np.log(np.exp(logit_NC).sum(axis=1, keepdims=True))).astype(np.float32)


def log_sigmoid(score_NC: np.ndarray) -> np.ndarray:
    """float32 [N, C]: log-probabilities of classes that do not exclude one another, from their logits."""
    return -np.logaddexp(0, -score_NC.astype(np.float64)).astype(np.float32)
