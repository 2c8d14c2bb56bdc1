"""Zero-shot segmentation: each pixel gets the class whose prompts are nearest to the vector at its place.

Takes the map of patch vectors of an image (clip/dense_features.py) and the zero-shot classifier, gives a class per
pixel, counts, and from the counts of all images the mean IoU.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from react_ray.evals.mask_set import IGNORE

CLASSES_AT_ONCE = 16  # whose scores are in memory for every pixel of an image


class Counts(NamedTuple):
    """Numbers of pixels of each class, int64 [C]; pixels whose label is ignored are in none of them."""

    right: np.ndarray  # that are of the class and are predicted as it
    labelled: np.ndarray
    predicted: np.ndarray


def segment(map_Dhw: Tensor, text_CD: Tensor, height: int, width: int) -> np.ndarray:
    """Returns int64 [height, width], the class with the highest score at each pixel, the first one of equal scores.

    map_Dhw: of the whole image, resized to a square or not. The scores are interpolated to the size of the mask
    (bilinear, corners not aligned), and compared then.
    """
    score_Chw = torch.einsum("cd,dhw->chw", text_CD.to(map_Dhw), map_Dhw)
    best_HW = torch.full((height, width), -torch.inf, device=map_Dhw.device)
    class_HW = torch.zeros((height, width), dtype=torch.int64, device=map_Dhw.device)
    for start in range(0, len(score_Chw), CLASSES_AT_ONCE):
        some_1Chw = score_Chw[None, start : start + CLASSES_AT_ONCE]
        scores_CHW = F.interpolate(some_1Chw, size=(height, width), mode="bilinear", align_corners=False)[0]
        score_HW, found_HW = scores_CHW.max(dim=0)
        better_HW = score_HW > best_HW
        best_HW = torch.where(better_HW, score_HW, best_HW)
        class_HW = torch.where(better_HW, found_HW + start, class_HW)
    return class_HW.cpu().numpy()


def count(label_HW: np.ndarray, predicted_HW: np.ndarray | None, num_classes: int) -> Counts:
    """label_HW: int, IGNORE where a pixel does not count. predicted_HW: None = nothing is predicted right or wrong."""
    known = label_HW != IGNORE
    label_N = label_HW[known]
    labelled = np.bincount(label_N, minlength=num_classes)
    if predicted_HW is None:
        return Counts(np.zeros_like(labelled), labelled, np.zeros_like(labelled))
    predicted_N = predicted_HW[known]
    right = np.bincount(label_N[label_N == predicted_N], minlength=num_classes)
    return Counts(right, labelled, np.bincount(predicted_N, minlength=num_classes))


def mean_iou(counts: Counts) -> tuple[float, float]:
    """Returns (mean IoU, pixel accuracy), both in [0, 1]. counts: sums over all images.

    The mean is over the classes that are labelled or predicted somewhere, as in torchmetrics and mmsegmentation. Some
    pixel is labelled.
    """
    union = counts.labelled + counts.predicted - counts.right
    there = union > 0
    accuracy = counts.right.sum() / counts.labelled.sum()
    return float((counts.right[there] / union[there]).mean()), float(accuracy)
