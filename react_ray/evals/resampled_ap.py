"""Average precision of resamples: how often each image occurs -> AP, as in resampled.py.

Detections are matched with true boxes within each image, so that faster-coco-eval matches them once, and the order of
a category's detections by their scores is the same in every resample. What remains are cumulative sums of weights. An
image that is drawn twice counts as two images with the same boxes, whose detections stand side by side.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np

from react_ray.evals.detection import Matched
from react_ray.evals.resampled import Metric, OfImages

RESAMPLES, RESAMPLES_OF_LVIS = 1_000, 200  # fewer of LVIS, whose 1,200 categories are resampled one by one
RECALL_R = np.linspace(0, 1, 101)


class _Category(NamedTuple):
    """All detections of one category, by descending score."""

    image_G: np.ndarray  # int64, the row of the image of each true box that counts
    image_D: np.ndarray  # int64, the row of the image of each detection
    right_TD: np.ndarray  # bool, at each IoU: it is of a true box that counts
    counted_TD: np.ndarray  # bool: neither it nor its box is ignored


def ap_of_images(matched: Matched) -> dict[str, OfImages]:
    """`ap` and `ap50` of `average_precision` as metrics of resamples, of images in ascending order of their ids; {} if
    nothing is found."""
    if not matched.found:
        return {}
    ids = sorted(image["id"] for image in matched.truth["images"])
    categories = _categories(matched, ids)
    of: dict[bytes, tuple[float, float]] = {}  # both metrics have the same resamples

    def values(weight_N: np.ndarray) -> tuple[float, float]:
        key = weight_N.tobytes()
        if key not in of:
            known = [ap_T for one in categories if (ap_T := _average_precision(one, weight_N)) is not None]
            of[key] = (float(np.mean(known)), float(np.mean(known, axis=0)[0])) if known else (np.nan, np.nan)
        return of[key]

    def metric(place: int) -> Metric:
        return lambda weight_BN: np.array([values(weight_N)[place] for weight_N in weight_BN])

    by_image, resamples = _by_image(ids, matched.found), RESAMPLES_OF_LVIS if matched.lvis else RESAMPLES
    return {name: OfImages(metric(place), by_image, resamples) for place, name in enumerate(("ap", "ap50"))}


def _categories(matched: Matched, ids: list[int]) -> list[_Category]:
    of_images = matched.evaluator._evalImgs_cpp  # by category, then by image
    row_of = {number: row for row, number in enumerate(ids)}
    rows_of: dict[int, set[int]] = defaultdict(set)
    for one in (*matched.truth["annotations"], *matched.found):
        rows_of[one["category_id"]].add(row_of[one["image_id"]])
    nothing = np.zeros((len(matched.evaluator.params.iouThrs), 0), bool)
    made = []
    for place, category in enumerate(sorted(one["id"] for one in matched.truth["categories"])):
        image_G, image_D, score, of_box, ignored = [], [], [], [], []
        for row in sorted(rows_of[category]):
            # As it is pickled: ids of the matched boxes [T, D], 0 = none, scores [D], boxes and detections to ignore.
            box_TD, _, score_D, ignored_G, ignored_TD, _ = of_images[place * len(ids) + row].__getstate__()
            image_G += [row] * ignored_G.count(False)
            if score_D:
                image_D += [row] * len(score_D)
                score += score_D
                of_box.append(np.array(box_TD, np.int64).reshape(-1, len(score_D)) > 0)
                ignored.append(np.array(ignored_TD, bool).reshape(-1, len(score_D)))
        if image_G:
            order_D = np.argsort(-np.array(score), kind="stable")
            counted_TD = ~np.concatenate([nothing, *ignored], axis=1)[:, order_D]
            right_TD = counted_TD & np.concatenate([nothing, *of_box], axis=1)[:, order_D]
            made.append(_Category(np.array(image_G), np.array(image_D, np.int64)[order_D], right_TD, counted_TD))
    return made


def _average_precision(category: _Category, weight_N: np.ndarray) -> np.ndarray | None:
    """float64 [T], the mean over the recalls 0, 0.01, ..., 1 of the best precision at that recall or above; None if no
    true box is drawn."""
    num_boxes = weight_N[category.image_G].sum()
    if not num_boxes:
        return None
    weight_D = weight_N[category.image_D]
    found = []
    for right_D, counted_D in zip(category.right_TD, category.counted_TD, strict=True):
        place_P = np.flatnonzero(right_D)
        right_P = np.cumsum(weight_D[place_P])
        of_P = np.cumsum(weight_D * counted_D)[place_P]
        best_P = np.maximum.accumulate((right_P / np.maximum(of_P, 1))[::-1])[::-1]
        at_R = np.searchsorted(right_P / num_boxes, RECALL_R)
        found.append(np.append(best_P, 0)[at_R].mean())
    return np.array(found)


def _by_image(ids: list[int], found: list[dict[str, Any]]) -> np.ndarray:
    """uint32 [N], a checksum of what was detected in each image."""
    said = {number: 0 for number in ids}
    for one in found:
        text = repr((one["category_id"], one["bbox"], one["score"]))
        said[one["image_id"]] = zlib.crc32(text.encode(), said[one["image_id"]])
    return np.array([said[number] for number in ids])
