"""Pixels by class: what is predicted from a map of vectors, and the mean IoU beside torchmetrics'."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from react_ray.evals.mask_set import IGNORE
from react_ray.evals.segmentation import Counts, count, mean_iou, segment


def test_mean_iou_and_accuracy_are_those_of_torchmetrics() -> None:
    rng = np.random.default_rng(0)
    jaccard = MulticlassJaccardIndex(7, ignore_index=IGNORE, average="macro")
    accuracy = MulticlassAccuracy(7, ignore_index=IGNORE, average="micro")
    found = []
    for _ in range(5):
        label_HW = rng.integers(-1, 5, size=(20, 30))  # class 5 is only predicted, class 6 is nowhere
        predicted_HW = np.where(rng.random((20, 30)) < 0.5, label_HW.clip(0), rng.integers(0, 6, size=(20, 30)))
        found.append(count(label_HW, predicted_HW, 7))
        jaccard.update(torch.from_numpy(predicted_HW), torch.from_numpy(label_HW))
        accuracy.update(torch.from_numpy(predicted_HW), torch.from_numpy(label_HW))
    value, share = mean_iou(Counts(*(np.sum(some, axis=0) for some in zip(*found, strict=True))))
    assert value == pytest.approx(jaccard.compute().item(), abs=1e-6) and 0.2 < value < 0.6
    assert share == pytest.approx(accuracy.compute().item(), abs=1e-6)


def test_a_hand_made_case() -> None:
    label_HW = np.array([[0, 0, 1], [1, 1, IGNORE]])
    found = count(label_HW, np.array([[0, 1, 1], [1, 1, 0]]), 3)
    assert [some.tolist() for some in found] == [[1, 3, 0], [2, 3, 0], [1, 4, 0]]
    assert mean_iou(found) == (pytest.approx((1 / 2 + 3 / 4) / 2), pytest.approx(4 / 5))


def test_an_image_that_cannot_be_read_counts_as_wrong() -> None:
    label_HW = np.zeros((2, 2), np.int64)
    read, unread = count(label_HW, label_HW, 2), count(label_HW, None, 2)
    assert mean_iou(read) == (1.0, 1.0)
    assert mean_iou(Counts(*(a + b for a, b in zip(read, unread, strict=True)))) == (0.5, 0.5)


def test_scores_are_interpolated_to_the_mask_and_then_compared() -> None:
    generator = torch.Generator().manual_seed(0)
    map_Dhw = F.normalize(torch.randn(8, 4, 4, generator=generator), dim=0)
    text_CD = F.normalize(torch.randn(40, 8, generator=generator), dim=1)
    score_CHW = F.interpolate(torch.einsum("cd,dhw->chw", text_CD, map_Dhw)[None], (21, 13), mode="bilinear")[0]
    assert (segment(map_Dhw, text_CD, 21, 13) == score_CHW.argmax(dim=0).numpy()).all()


def test_the_first_of_equal_classes_wins() -> None:
    map_Dhw = F.normalize(torch.ones(8, 2, 2), dim=0)
    text_CD = F.normalize(torch.ones(40, 8), dim=1)
    assert (segment(map_Dhw, text_CD, 5, 5) == 0).all()
