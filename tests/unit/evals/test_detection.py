"""Boxes by class: what is detected, and the average precision beside pycocotools'."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from react_ray.evals.detection import average_precision, detect, match
from react_ray.vectors import unit_rows
from tests.support.drawn_boxes import drawn


def test_average_precision_is_that_of_pycocotools() -> None:
    truth, found = drawn()
    theirs = COCO()
    theirs.dataset = copy.deepcopy(truth)
    theirs.createIndex()
    evaluator = COCOeval(theirs, theirs.loadRes(copy.deepcopy(found)), "bbox")
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    ours = dict(average_precision(match(truth, found, lvis=False)))
    assert ours == {"ap": pytest.approx(evaluator.stats[0]), "ap50": pytest.approx(evaluator.stats[1])}
    assert 0.05 < ours["ap"] < ours["ap50"] < 0.95


def test_a_hand_made_case() -> None:
    images = [{"id": 0, "width": 10, "height": 10, "file_name": "0.png"}]
    boxes = [
        {"id": place + 1, "image_id": 0, "category_id": 1, "bbox": box, "area": 16, "iscrowd": 0}
        for place, box in enumerate(([0, 0, 4, 4], [6, 6, 4, 4]))
    ]
    truth = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "owl"}]}
    right = {"image_id": 0, "category_id": 1, "bbox": [0, 0, 4, 4], "score": 0.9}
    wrong = {"image_id": 0, "category_id": 1, "bbox": [0, 5, 4, 4], "score": 0.8}
    # One of two boxes is found before anything is wrong: precision is 1 at the 51 recalls up to 0.5, and 0 above.
    assert dict(average_precision(match(truth, [right, wrong], lvis=False)))["ap50"] == pytest.approx(51 / 101)
    assert dict(average_precision(match(truth, [], lvis=False))) == {"ap": 0, "ap50": 0}


def test_lvis_counts_only_what_is_labelled_in_an_image() -> None:
    truth, found = drawn()
    for one, frequency in zip(truth["categories"], "rcffc", strict=True):
        one["frequency"] = frequency
    for image in truth["images"]:
        image |= {"neg_category_ids": [1], "not_exhaustive_category_ids": []}
    ours = dict(average_precision(match(truth, found, lvis=True)))
    assert list(ours) == ["ap", "ap50", "ap_rare", "ap_common", "ap_frequent"]
    assert ours["ap"] >= dict(average_precision(match(truth, found, lvis=False)))["ap"]


def test_every_box_is_scored_for_every_class_and_the_best_pairs_remain() -> None:
    text_CD = np.eye(3, 8, dtype=np.float32)
    region_ND = unit_rows(np.array([[1.0, 0.2, 0.1], [0.1, 0.3, 0.2]]) @ np.eye(3, 8))
    box_N4 = np.array([[0.0, 0, 4, 4], [1, 1, 4, 4]])
    found = detect(box_N4, region_ND, text_CD, 10.0, most=4)
    logits = 10 * region_ND.astype(np.float64)[:, :3]
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert found.position_K.tolist() == [0, 1, 2, 1] or found.position_K.tolist()[:2] == [0, 1]
    assert found.score_K == pytest.approx(np.sort(probability.ravel())[::-1][:4], rel=1e-3)
    assert found.box_K4[0].tolist() == [0, 0, 4, 4] and found.box_K4[1].tolist() == [1, 1, 4, 4]


def test_of_proposals_that_overlap_the_better_remains_for_each_class() -> None:
    text_CD = np.eye(2, 8, dtype=np.float32)
    region_ND = np.tile(np.eye(1, 8, dtype=np.float32), (3, 1))
    box_N4 = np.array([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 5, 5]])
    objectness_N = np.array([0.4, 0.9, 0.5])
    found = detect(box_N4, region_ND, text_CD, 100.0, 10, objectness_N)
    first = [box.tolist() for box, position in zip(found.box_K4, found.position_K, strict=True) if position == 0]
    assert first == [[0, 0, 10, 9], [20, 20, 5, 5]]
    assert found.score_K[:2] == pytest.approx(np.sqrt([0.9, 0.5]), rel=1e-3)
