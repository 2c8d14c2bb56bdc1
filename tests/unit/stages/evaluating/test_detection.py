"""Detection over the models of a run, in this process and without Ray."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from react_ray.artifact import open_artifact
from react_ray.clip.dense_maps import DenseMaps
from react_ray.errors import ConfigError
from react_ray.kinds import OUTPUTS
from react_ray.runtime.layout import Layout
from react_ray.stages import evaluate
from react_ray.stages.evaluating.detection import detection_sets
from react_ray.stages.evaluating.protocol import run_protocols
from react_ray.stages.evaluating.region_vectors import RegionVectors
from tests.support.scenes import write_scenes
from tests.support.tiny_clip import tiny_backbone
from tests.support.trained_run import trained_recipe

BIRDS = ["heron", "owl", "accordion"]


def vectors(folder: Path, regions: Any, picture: Image.Image, boxes: list[list[float]]) -> np.ndarray:
    picture.save(folder / "scene.png")
    made = RegionVectors(tiny_backbone(folder, vocab_size=100), torch.device("cpu"), regions, 0, 8, 1)
    [found] = made.of(["scene.png"], [(folder / "scene.png").read_bytes()], [picture.size], [np.array(boxes)])
    assert found is not None
    return found


def test_a_crop_is_embedded_as_an_image_of_its_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scene = Image.fromarray(rng.integers(0, 256, size=(60, 80, 3), dtype=np.uint8))
    part = scene.crop((10, 20, 42, 52))  # 32 x 32, as the model takes it
    inside = vectors(tmp_path, "crop", scene, [[10, 20, 32, 32], [0, 0, 80, 60]])
    assert inside[:1] == pytest.approx(vectors(tmp_path, "crop", part, [[0, 0, 32, 32]]), abs=1e-6)
    assert np.linalg.norm(inside, axis=1) == pytest.approx([1, 1])


def test_roi_align_averages_the_patches_within_a_box(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scene = Image.fromarray(rng.integers(0, 256, size=(64, 128, 3), dtype=np.uint8))
    found = vectors(tmp_path, "roi_align", scene, [[32, 16, 32, 16], [0, 0, 128, 64]])  # one of 4 x 4 patches, and all
    maps = DenseMaps(tiny_backbone(tmp_path, vocab_size=100), torch.device("cpu"))
    [map_Dhw] = maps.of([(tmp_path / "scene.png").read_bytes()])
    assert map_Dhw is not None
    patch_D, mean_D = map_Dhw[:, 1, 1], map_Dhw.mean(dim=(1, 2))
    assert found[0] == pytest.approx(patch_D.numpy(), abs=1e-5)
    assert found[1] == pytest.approx((mean_D / mean_D.norm()).numpy(), abs=1e-4)


@pytest.mark.usefixtures("without_ray")
@pytest.mark.parametrize("regions", ["crop", "roi_align"])
def test_each_model_classifies_the_boxes(tmp_path: Path, regions: str) -> None:
    write_scenes(tmp_path / "set", 6, BIRDS)
    boxes = json.loads((tmp_path / "set/annotations.json").read_text())["annotations"]
    proposals = [{"image_id": box["image_id"], "bbox": box["bbox"], "score": 0.5} for box in boxes]
    (tmp_path / "proposals.json").write_text(json.dumps(proposals))
    uri = str(tmp_path / "set/annotations.json")
    sets = {"detection": {"birds": uri, "birds.proposals": uri}, "regions": regions}
    recipe = trained_recipe(tmp_path, sets | {"proposals": {"birds.proposals": str(tmp_path / "proposals.json")}})
    found = [row for one in evaluate.run(recipe) for row in one.read(0).to_pylist()]
    assert {(row["model"], row["dataset"], row["setting"], row["metric"]): row["num"] for row in found} == {
        (model, *setting, metric): len(boxes)
        for model in ("base", "gated_image")
        for setting in (("birds", "true boxes"), ("birds.proposals", "proposals"))
        for metric in ("ap", "ap50")
    }
    assert all(0 <= row["value"] <= 1 for row in found)
    table = open_artifact(Layout(recipe).outputs("base", "detection", "birds"), OUTPUTS).read(0)
    per_image = [sum(box["image_id"] == number for box in boxes) for number in range(6)]
    assert [len(one) for one in table["detections"].to_pylist()] == [3 * num for num in per_image]

    (tmp_path / "parts").mkdir()
    other = trained_recipe(tmp_path / "parts", {})
    again = run_protocols(other, [replace(one, images_per_part=4) for one in detection_sets(recipe)])  # type: ignore[type-var]
    assert [row for made in again for row in made.read(0).to_pylist()] == found


@pytest.mark.usefixtures("without_ray")
def test_images_must_be_those_that_the_boxes_were_drawn_on(tmp_path: Path) -> None:
    write_scenes(tmp_path / "set", 3, BIRDS)
    recipe = trained_recipe(tmp_path, {"detection": {"birds": str(tmp_path / "set/annotations.json")}})
    Image.new("RGB", (100, 128)).save(tmp_path / "set/images/1.png")
    with pytest.raises(ConfigError, match=r"1.png is 100 x 128 pixels and its annotations say 128 x 128; name"):
        evaluate.run(recipe)
