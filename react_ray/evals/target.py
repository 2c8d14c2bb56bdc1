"""Target: what a classifier of one task is taught, one class of each image or several.

A target is an array: int64 [N], positions among the classes, or bool [N, C] where an image may show several classes.
The classes exclude one another in the first case (softmax); in the second each is told from all else (sigmoid), as in
the ELEVATER toolkit for VOC 2007. Next: linear_probe.py.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from react_ray.evals.metrics import mean_average_precision_11_point

HELD_OUT = 0.2  # of the images of a class, to choose by


def loss(logits_NC: Tensor, target: Tensor) -> Tensor:
    """The mean over images of the cross entropy, or of the sum over classes of the binary ones."""
    if target.ndim == 1:
        return F.cross_entropy(logits_NC, target)
    return F.binary_cross_entropy_with_logits(logits_NC, target.to(logits_NC.dtype), reduction="sum") / len(target)


def quality(logits_NC: np.ndarray, target: np.ndarray) -> float:
    """The accuracy, or the mean over classes of the 11-point average precision; 0 where a logit is no number."""
    if not np.isfinite(logits_NC).all():
        return 0.0
    if target.ndim == 1:
        return float((logits_NC.argmax(axis=1) == target).mean())
    return mean_average_precision_11_point(target, logits_NC)


def judged(logits_NC: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """(quality, minus loss) of float32 logits; the greater tuple is the better classifier."""
    of_logits = loss(torch.from_numpy(logits_NC), torch.from_numpy(target))
    return quality(logits_NC, target), -float(of_logits) if math.isfinite(of_logits) else -math.inf


def has_collapsed(before_NC: np.ndarray, after_NC: np.ndarray, target: np.ndarray) -> bool:
    """True if the training images are classified worse after the training than before, or its logits are no numbers.

    The toolkit's sweep is known to choose such rates (its issue 3: dtd, fer2013 and resisc45), and does not notice it,
    because it reports the best epoch.
    """
    return not np.isfinite(after_NC).all() or quality(after_NC, target) < quality(before_NC, target)


def hold_out(target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Splits drawn images into rows to train on and rows to choose by: int64, int64.

    As in the ELEVATER toolkit the first ceil(n / 5) of each class are held out (evaluation/feature.py:
    train_val_dataset), but never the last image of a class: of one shot nothing is held out. An image of several
    classes is held out if one of them still needs it, and no class would lose its last image.
    """
    if target.ndim == 1:
        held = [_first_fifth(np.flatnonzero(target == label)) for label in np.unique(target)]
        held_rows = np.concatenate(held)
    else:
        num_C = target.sum(axis=0)
        wanted_C, held_C = np.minimum(np.ceil(HELD_OUT * num_C), num_C - 1), np.zeros_like(num_C)
        found = []
        for row, has_C in enumerate(target):
            if (held_C < wanted_C)[has_C].any() and (held_C + 1 < num_C)[has_C].all():
                held_C += has_C
                found.append(row)
        held_rows = np.array(found, np.int64)
    return np.setdiff1d(np.arange(len(target)), held_rows), held_rows


def first_of_each(target: np.ndarray, most: int) -> np.ndarray:
    """int64, ascending: the first rows of each class, `most` of each or all."""
    of_classes = (target == label for label in np.unique(target)) if target.ndim == 1 else target.T
    return np.unique(np.concatenate([np.flatnonzero(of_class_N)[:most] for of_class_N in of_classes]))


def _first_fifth(rows: np.ndarray) -> np.ndarray:
    return rows[: min(math.ceil(HELD_OUT * len(rows)), len(rows) - 1)]
