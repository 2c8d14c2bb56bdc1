"""The AP of resampled images is the AP of a set that holds these images as often as they were drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from react_ray.evals.detection import average_precision, match
from react_ray.evals.resampled_ap import ap_of_images
from tests.support.drawn_boxes import drawn


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
    whole, resampled = (dict(average_precision(match(*of, lvis))) for of in ((truth, found), (again, found_again)))
    for name, of_images in ap_of_images(match(truth, found, lvis)).items():
        values = of_images.metric(np.stack([np.ones(30, int), weight_N]))
        assert values == pytest.approx([whole[name], resampled[name]]), name
        assert len(of_images.by_image) == 30


def test_a_resample_without_the_boxes_of_a_category_leaves_it_out_and_one_without_any_box_has_no_value() -> None:
    truth, found = drawn(6)
    of_images = ap_of_images(match(truth, found, lvis=False))
    alone = np.eye(6, dtype=int)
    for image, value in enumerate(of_images["ap50"].metric(alone).tolist()):
        boxes = [one for one in truth["annotations"] if one["image_id"] == image]
        one = {**truth, "annotations": boxes, "images": [truth["images"][image]]}
        there = [hit for hit in found if hit["image_id"] == image]
        assert value == pytest.approx(dict(average_precision(match(one, there, lvis=False)))["ap50"])
    assert np.isnan(of_images["ap"].metric(np.zeros((1, 6), int))).all()
    assert ap_of_images(match(truth, [], lvis=False)) == {}
