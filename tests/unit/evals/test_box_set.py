"""COCO's and LVIS's JSON and proposals: which boxes count, and what is wrong with a file is said in one line."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from react_ray.clip.prompts import TargetTask
from react_ray.errors import ConfigError
from react_ray.evals.box_set import open_boxes
from react_ray.evals.detection import average_precision, match
from tests.support.scored_run import png

NAME = "evaluate.detection.animals"
ANIMALS = TargetTask("animals", ("dog", "cat"), ("a {}.",), (("dog",), ("cat", "kitty")))
IMAGES = [
    {"id": 7, "file_name": "a.png", "width": 48, "height": 48},
    {"id": 9, "file_name": "b.png", "width": 48, "height": 48},
]
BOXES = [
    {"id": 1, "image_id": 9, "category_id": 18, "bbox": [1, 2, 10, 20], "area": 150, "iscrowd": 0},
    {"id": 2, "image_id": 9, "category_id": 17, "bbox": [40.5, 2, 8, 20], "area": 160, "iscrowd": 0},
    {"id": 3, "image_id": 7, "category_id": 17, "bbox": [0, 0, 48, 48], "area": 9, "iscrowd": 1},
    {"id": 4, "image_id": 7, "category_id": 3, "bbox": [0, 0, 4, 4], "area": 16, "iscrowd": 0},
]
CATEGORIES = [{"id": 3, "name": "chair"}, {"id": 17, "name": "Kitty"}, {"id": 18, "name": "dog"}]


def coco(folder: Path, boxes: list[dict[str, Any]] = BOXES, **more: Any) -> str:
    """Writes a folder as that of COCO: annotations beside val2017."""
    for name in ("a", "b"):
        (folder / "val2017").mkdir(parents=True, exist_ok=True)
        (folder / f"val2017/{name}.png").write_bytes(png(5))
    (folder / "annotations").mkdir(exist_ok=True)
    path = folder / "annotations/instances_val2017.json"
    path.write_text(json.dumps({"images": IMAGES, "annotations": boxes, "categories": CATEGORIES} | more))
    return str(path)


def test_boxes_of_the_tasks_classes_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = pickle.loads(pickle.dumps(open_boxes(coco(tmp_path), NAME, ANIMALS)))
    assert (
        "1 of 3 categories are no class of task animals, and their boxes are left out: chair" in capsys.readouterr().err
    )
    rows = found.read(0, 10).to_pylist()
    assert [row["file"] for row in rows] == ["val2017/a.png", "val2017/b.png"] and rows[0]["image"] == png(5)
    assert [row["boxes"] for row in rows] == [[], [[1, 2, 10, 20], [40.5, 2, 7.5, 20]]]  # a crowd is not classified
    assert found.category_of == {0: 18, 1: 17}
    assert [box["id"] for box in found.truth["annotations"]] == [1, 2, 3] and not found.is_lvis


def test_a_box_outside_of_its_image_is_named_and_one_that_sticks_out_is_cut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for bbox in ([50, 0, 4, 4], [0, -8, 4, 8], [3, 3, 0, 4]):
        with pytest.raises(
            ConfigError, match=rf"box 1 of b.png, \[{bbox[0]}.*\], has no area within its 48 x 48 pixels"
        ):
            open_boxes(coco(tmp_path / str(bbox), [BOXES[0] | {"bbox": bbox}]), NAME, ANIMALS)
    cut = open_boxes(coco(tmp_path / "cut", [BOXES[0] | {"bbox": [40, 40, 20, 20]}, BOXES[1]]), NAME, ANIMALS)
    assert "1 of 2 boxes are cut at the edges of their images" in capsys.readouterr().err
    assert cut.read(1, 1)["boxes"].to_pylist()[0][0] == [40, 40, 8, 8]
    assert cut.truth["annotations"][0]["bbox"] == [40, 40, 8, 8], "or the box itself would overlap it too little"
    assert cut.truth["annotations"][1]["bbox"] == BOXES[1]["bbox"], "less than a pixel is as evaluators of COCO see it"


def test_ids_of_boxes_say_nothing(tmp_path: Path) -> None:
    """Evaluators take the id 0 for no match, and that of two boxes for one box."""
    boxes = [BOXES[0] | {"id": 0}, BOXES[1] | {"id": 0}, BOXES[2] | {"id": -1}]
    found = open_boxes(coco(tmp_path, boxes), NAME, ANIMALS)
    assert [box["id"] for box in found.truth["annotations"]] == [1, 2, 3]
    detections = [
        {name: box[name] for name in ("image_id", "category_id", "bbox")} | {"score": 1.0} for box in boxes[:2]
    ]
    assert average_precision(match(found.truth, detections, found.is_lvis)) == [("ap", 1.0), ("ap50", 1.0)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": [*IMAGES, IMAGES[0]]}, "several images have the id 7; give each its own"),
        ({"categories": [*CATEGORIES, CATEGORIES[0]]}, "several categories have the id 3; give each its own"),
        ({"boxes": [BOXES[0], BOXES[2] | {"image_id": 8}]}, "box 3 is of image 8, which is not listed; correct"),
        ({"boxes": [BOXES[0] | {"bbox": [1, 2, 3]}]}, r"annotations.0.bbox .*4 items.*, not \[1, 2, 3\]; name a JSON"),
        ({"boxes": [BOXES[0] | {"bbox": [1, 2, float("nan"), 4]}]}, "annotations.0.bbox.2 .*, not nan; name a JSON"),
        ({"images": [IMAGES[0] | {"width": 0}, IMAGES[1]]}, "images.0.width should be greater .*, not 0; name a JSON"),
        ({"images": [IMAGES[0] | {"id": 2**70}, IMAGES[1]]}, "images.0.id should be less than .*; name a JSON"),
        (
            {"images": [one | {"neg_category_ids": [17]} for one in IMAGES]},
            "the frequency of the category Kitty is '', which LVIS gives as r, c or f; correct it",
        ),
    ],
)
def test_what_would_make_another_score_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_boxes(coco(tmp_path, **change), NAME, ANIMALS)


def test_an_image_that_is_listed_twice_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_boxes(coco(tmp_path, images=[*IMAGES, IMAGES[0] | {"id": 8}]), NAME, ANIMALS)
    assert "1 of 3 images are listed before; they count as often" in capsys.readouterr().err


def test_proposals_take_the_place_of_the_boxes(tmp_path: Path) -> None:
    path = tmp_path / "proposals.json"
    path.write_text(
        json.dumps([{"image_id": 7, "bbox": [1, 1, 5, 5], "score": 0.25}, {"image_id": 7, "bbox": [2, 2, 5, 5]}])
    )
    found = open_boxes(coco(tmp_path), NAME, ANIMALS, str(path))
    assert found.read(0, 2)["objectness"].to_pylist() == [[0.25, 1.0], []]
    path.write_text(json.dumps([{"image_id": 8, "bbox": [1, 1, 5, 5]}]))
    with pytest.raises(ConfigError, match="proposal 1 is of image 8, which is not listed; correct the JSON"):
        open_boxes(coco(tmp_path / "again"), NAME, ANIMALS, str(path))
    path.write_text('[{"image_id": 7}]')
    with pytest.raises(ConfigError, match=r"0.bbox is missing; name a JSON of results as COCO's"):
        open_boxes(coco(tmp_path / "third"), NAME, ANIMALS, str(path))
    for score in (-0.5, 1.5, float("nan")):
        path.write_text(json.dumps([{"image_id": 7, "bbox": [1, 1, 5, 5], "score": score}]))
        with pytest.raises(ConfigError, match=rf"0.score should be .*, not {score}; name a JSON of results"):
            open_boxes(coco(tmp_path / str(score)), NAME, ANIMALS, str(path))


def test_lvis_names_images_by_their_address(tmp_path: Path) -> None:
    categories = [one | {"frequency": "f"} for one in CATEGORIES]
    images = [
        {
            "id": one["id"],
            "width": 48,
            "height": 48,
            "coco_url": f"http://images.cocodataset.org/val2017/{one['file_name']}",
        }
        | {"neg_category_ids": [17], "not_exhaustive_category_ids": []}
        for one in IMAGES
    ]
    boxes = [{name: value for name, value in box.items() if name != "iscrowd"} for box in BOXES]
    found = open_boxes(coco(tmp_path, boxes, images=images, categories=categories), NAME, ANIMALS)
    assert found.is_lvis and found.read(0, 1)["file"].to_pylist() == ["val2017/a.png"]


def test_a_file_that_does_not_fit_the_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"none of its 1 categories \(lamp, ...\) is a class of task animals; correct"
    ):
        open_boxes(coco(tmp_path, categories=[{"id": 1, "name": "lamp"}]), NAME, ANIMALS)
    with pytest.raises(ConfigError, match="two categories mean the class cat; leave one of them out"):
        names = [{"id": 1, "name": "cat"}, {"id": 2, "name": "kitty"}]
        open_boxes(coco(tmp_path / "two", categories=names), NAME, ANIMALS)
    with pytest.raises(ConfigError, match="has no boxes of the classes of task animals; name another set or task"):
        open_boxes(coco(tmp_path / "none", []), NAME, ANIMALS)
    with pytest.raises(ConfigError, match="annotations is missing; name a JSON as COCO's or LVIS's instances"):
        path = coco(tmp_path / "other")
        Path(path).write_text('{"images": []}')
        open_boxes(path, NAME, ANIMALS)
