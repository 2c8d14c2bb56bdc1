"""Open-vocabulary detection by classifying boxes that are given, as RegionCLIP (CVPR 2022) evaluates CLIP models.

Takes the vector of each box and the zero-shot classifier, gives detections, and their average precision by
faster-coco-eval. With the true boxes, AP tells how well regions are recognised; with proposals, NMS removes doubles and
the score is the geometric mean of the class's probability and the proposal's own score.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torchvision.ops import batched_nms

from react_ray.errors import ConfigError

NMS_IOU = 0.5
PER_IMAGE, PER_IMAGE_OF_LVIS = 100, 300  # most detections, as COCO and LVIS count them
BY_FREQUENCY = ("ap_rare", "ap_common", "ap_frequent")


class Detections(NamedTuple):
    """Best first."""

    box_K4: np.ndarray  # float64: left, top, width, height
    position_K: np.ndarray  # int64, of the class
    score_K: np.ndarray  # float32


def detect(
    box_N4: np.ndarray,
    region_ND: np.ndarray,
    text_CD: np.ndarray,
    scale: float,
    most: int,
    objectness_N: np.ndarray | None = None,
) -> Detections:
    """Classifies the boxes of one image; every pair of a box and a class is a detection, of which `most` remain.

    region_ND: unit rows, one for each box. scale: that CLIP multiplies cosines with before the softmax over classes.
    objectness_N: scores of proposals in [0, 1]; None = the boxes are the true ones.
    """
    score_NC = torch.from_numpy(scale * (region_ND.astype(np.float32) @ text_CD.T.astype(np.float32))).softmax(dim=1)
    if objectness_N is not None:
        score_NC = (score_NC * torch.from_numpy(objectness_N.astype(np.float32))[:, None]).sqrt()
    num_classes = score_NC.shape[1]
    order_K = score_NC.flatten().argsort(descending=True, stable=True)
    box_K, position_K = order_K // num_classes, order_K % num_classes
    score_K = score_NC.flatten()[order_K]
    if objectness_N is not None:
        corner_N4 = torch.from_numpy(np.concatenate([box_N4[:, :2], box_N4[:, :2] + box_N4[:, 2:]], axis=1)).float()
        kept = batched_nms(corner_N4[box_K], score_K, position_K, NMS_IOU)
        box_K, position_K, score_K = box_K[kept], position_K[kept], score_K[kept]
    return Detections(box_N4[box_K[:most].numpy()], position_K[:most].numpy(), score_K[:most].numpy())


class Matched(NamedTuple):
    """Detections that are matched with the true boxes of their images, and what was matched."""

    evaluator: Any  # faster-coco-eval's, of boxes of every area alone
    truth: dict[str, Any]  # images, annotations and categories as in COCO's JSON
    found: list[dict[str, Any]]  # image_id, category_id, bbox and score each
    lvis: bool


def match(truth: dict[str, Any], found: list[dict[str, Any]], lvis: bool) -> Matched:
    """At each IoU from 0.50 to 0.95. lvis: by the rules of LVIS for objects that are not labelled."""
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as error:
        raise ConfigError("evaluate.detection needs faster-coco-eval; run pip install 'react_ray[eval]'") from error
    boxes = COCO(truth, use_deepcopy=True)
    evaluator = COCOeval_faster(boxes, boxes.loadRes(found), "bbox", lvis_style=lvis, separate_eval=True)
    evaluator.params.maxDets = [1, 10, PER_IMAGE_OF_LVIS if lvis else PER_IMAGE]
    evaluator.params.areaRng, evaluator.params.areaRngLbl = (
        evaluator.params.areaRng[:1],
        evaluator.params.areaRngLbl[:1],
    )
    evaluator.evaluate()
    return Matched(evaluator, truth, found, lvis)


def average_precision(matched: Matched) -> list[tuple[str, float]]:
    """Returns ("ap", over IoU 0.50 to 0.95), ("ap50", at IoU 0.50), and for LVIS the AP by frequency of categories.

    Values are in [0, 1]; of categories without a box there is none.
    """
    evaluator = matched.evaluator
    evaluator.accumulate()
    # [IoU, recall, category], of boxes of every area; -1 for a category without a box
    precision_TRK = np.asarray(evaluator.eval["precision"]).reshape(evaluator.eval["counts"])[:, :, :, 0, -1]
    some = {"ap": precision_TRK, "ap50": precision_TRK[:1]}
    if matched.lvis:
        some |= {
            name: precision_TRK[:, :, group] for name, group in zip(BY_FREQUENCY, evaluator.freq_groups, strict=True)
        }
    return [(metric, float(values[values > -1].mean())) for metric, values in some.items() if (values > -1).any()]
