"""Boxes by class: what is detected, and the average precision beside pycocotools'."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from react_ray.evals.detection import ap_of_images, average_precision, detect, why_no_interval
from react_ray.vectors import unit_rows


def drawn(num_images: int = 12, seed: int = 0) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """True boxes, one of them a crowd, and detections near them or elsewhere."""
    rng = np.random.default_rng(seed)
    boxes, found = [], []
    for image in range(num_images):
        for _ in range(int(rng.integers(1, 6))):
            box = np.concatenate([rng.uniform(0, 60, 2), rng.uniform(5, 40, 2)])
            category = int(rng.integers(1, 5))
            ids = {"id": len(boxes) + 1, "image_id": image, "category_id": category, "iscrowd": int(len(boxes) == 7)}
            boxes.append(ids | {"bbox": box.tolist(), "area": float(box[2] * box[3])})
            near = box + rng.normal(0, 2, 4)
            category = category if rng.random() < 0.7 else int(rng.integers(1, 5))
            found.append({"image_id": image, "category_id": category, "bbox": near.tolist(), "score": rng.random()})
    images = [{"id": number, "width": 100, "height": 100, "file_name": f"{number}.png"} for number in range(num_images)]
    return {
        "images": images,
        "annotations": boxes,
        "categories": [{"id": i, "name": f"c{i}"} for i in range(1, 6)],
    }, found


def test_average_precision_is_that_of_pycocotools() -> None:
    truth, found = drawn()
    theirs = COCO()
    theirs.dataset = copy.deepcopy(truth)
    theirs.createIndex()
    evaluator = COCOeval(theirs, theirs.loadRes(copy.deepcopy(found)), "bbox")
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    ours = dict(average_precision(truth, found, lvis=False))
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
    assert dict(average_precision(truth, [right, wrong], lvis=False))["ap50"] == pytest.approx(51 / 101)
    assert dict(average_precision(truth, [], lvis=False)) == {"ap": 0, "ap50": 0}


def test_lvis_counts_only_what_is_labelled_in_an_image() -> None:
    truth, found = drawn()
    for one, frequency in zip(truth["categories"], "rcffc", strict=True):
        one["frequency"] = frequency
    for image in truth["images"]:
        image |= {"neg_category_ids": [1], "not_exhaustive_category_ids": []}
    ours = dict(average_precision(truth, found, lvis=True))
    assert list(ours) == ["ap", "ap50", "ap_rare", "ap_common", "ap_frequent"]
    assert ours["ap"] >= dict(average_precision(truth, found, lvis=False))["ap"]


@pytest.mark.parametrize("lvis", [False, True])
def test_the_ap_of_a_resample_is_that_of_its_images(lvis: bool) -> None:
    truth, found = drawn(30)
    for one in truth["categories"]:
        one["frequency"] = "f"
    for image in truth["images"]:
        image |= {"neg_category_ids": [1], "not_exhaustive_category_ids": []}
    weight_N = np.bincount(np.random.default_rng(1).integers(0, 30, 30), minlength=30)
    again: dict[str, Any] = {"images": [], "annotations": [], "categories": truth["categories"]}
    found_again = []
    for image in truth["images"]:
        for _ in range(weight_N[image["id"]]):
            number = len(again["images"])
            again["images"].append(image | {"id": number})
            boxes = [one for one in truth["annotations"] if one["image_id"] == image["id"]]
            first = len(again["annotations"]) + 1
            again["annotations"] += [one | {"image_id": number, "id": first + i} for i, one in enumerate(boxes)]
            found_again += [one | {"image_id": number} for one in found if one["image_id"] == image["id"]]
    whole, resampled = (dict(average_precision(*of, lvis)) for of in ((truth, found), (again, found_again)))
    for name, of_images in ap_of_images(truth, found, lvis).items():
        values = of_images.metric(np.stack([np.ones(30, int), weight_N]))
        assert values == pytest.approx([whole[name], resampled[name]]), name
        assert len(of_images.by_image) == 30


def test_a_set_that_takes_too_long_to_resample_has_no_interval() -> None:
    truth, found = drawn(5)
    truth["categories"] = [{"id": i, "name": str(i)} for i in range(1, 30_000)]
    assert ap_of_images(truth, found, lvis=False) == {} == ap_of_images(drawn(5)[0], [], lvis=False)
    assert "no interval of AP, because" in why_no_interval(truth) and not why_no_interval(drawn(5)[0])


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
