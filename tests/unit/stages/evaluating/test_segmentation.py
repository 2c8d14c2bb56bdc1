"""Segmentation over the models of a run, in this process and without Ray."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from react_ray.artifact import open_artifact
from react_ray.clip.dense_maps import DenseMaps
from react_ray.clip.embedder import Embedder
from react_ray.clip.prompts import load_tasks
from react_ray.errors import ConfigError
from react_ray.evals.segmentation import Counts, count, mean_iou, segment
from react_ray.gated.load import load_backbone
from react_ray.kinds import OUTPUTS
from react_ray.runtime.layout import Layout
from react_ray.stages import evaluate
from react_ray.stages.evaluating.protocol import run_protocols
from react_ray.stages.evaluating.segmentation import segmentation_sets
from tests.support.scenes import write_scenes
from tests.support.trained_run import trained_recipe


@pytest.mark.usefixtures("without_ray")
def test_each_model_labels_pixels_by_its_patches(tmp_path: Path) -> None:
    write_scenes(tmp_path / "set", 9, ["heron", "owl", "accordion"])
    recipe = trained_recipe(tmp_path, {"segmentation": {"birds": str(tmp_path / "set")}, "dense_size": 48})
    found = [row for one in evaluate.run(recipe) for row in one.read(0).to_pylist()]
    values = {(row["model"], row["metric"]): (row["value"], row["num"], row["task"]) for row in found}
    assert {key: rest for key, (_, *rest) in values.items()} == {
        (model, metric): [9, "birds"] for model in ("base", "gated_image") for metric in ("miou", "pixel_accuracy")
    }
    [task], [one] = load_tasks(recipe.tasks), segmentation_sets(recipe)
    backbone, table = load_backbone(recipe.backbone, seed=recipe.seed), one.read(0)
    text_CD = torch.from_numpy(Embedder(backbone, 8, "cpu").zero_shot_classifier(task))
    maps = DenseMaps(backbone, torch.device("cpu"), 48).of(table["image"].to_pylist())
    counts = []
    for row, map_Dhw in zip(table.to_pylist(), maps, strict=True):
        label_HW = one.masks.labels(row["file"], row["mask"], row["image"])
        assert map_Dhw is not None and map_Dhw.shape == (16, 6, 6)
        counts.append(count(label_HW, segment(map_Dhw, text_CD, *label_HW.shape), 3))
    by_hand = mean_iou(Counts(*(sum(some) for some in zip(*counts, strict=True))))
    assert tuple(values["base", metric][0] for metric in ("miou", "pixel_accuracy")) == pytest.approx(by_hand)
    outputs = open_artifact(Layout(recipe).outputs("base", "segmentation", "birds"), OUTPUTS)
    assert outputs.read(0)["file"].to_pylist() == [f"masks/{number}.png" for number in range(9)]

    (tmp_path / "parts").mkdir()
    other = trained_recipe(tmp_path / "parts", {})
    again = run_protocols(other, [replace(one, images_per_part=4)])  # type: ignore[type-var]
    assert [row for made in again for row in made.read(0).to_pylist()] == found


@pytest.mark.usefixtures("without_ray")
def test_other_options_make_the_scores_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scenes(tmp_path / "set", 4, ["heron", "owl", "accordion"])
    sets = {"segmentation": {"birds": str(tmp_path / "set")}}
    before = [one.content for one in evaluate.run(trained_recipe(tmp_path, sets))]
    larger = [one.content for one in evaluate.run(trained_recipe(tmp_path, sets | {"dense_size": 64}))]
    assert (
        "scores_segmentation/base/birds is made anew: another model, other data or other options"
        in capsys.readouterr().err
    )
    again = [one.content for one in evaluate.run(trained_recipe(tmp_path, sets))]
    assert before == again and before != larger


@pytest.mark.usefixtures("without_ray")
def test_an_image_that_cannot_be_read_is_refused_or_counts_as_wrong(tmp_path: Path) -> None:
    write_scenes(tmp_path / "set", 4, ["heron", "owl", "accordion"])
    (tmp_path / "set/images/2.png").write_bytes(b"no image")
    sets = {"segmentation": {"birds": str(tmp_path / "set")}}
    with pytest.raises(ConfigError, match=r"evaluate.segmentation.birds: 1 of 4 images cannot be decoded"):
        evaluate.run(trained_recipe(tmp_path, sets | {"max_unreadable": 0.0}))
    [base, _] = evaluate.run(trained_recipe(tmp_path, sets | {"max_unreadable": 0.3}))
    assert all(row["value"] < 1 and row["num"] == 4 for row in base.read(0).to_pylist())


@pytest.mark.usefixtures("without_ray")
def test_masks_without_a_pixel_of_a_class_have_no_score(tmp_path: Path) -> None:
    write_scenes(tmp_path / "set", 2, ["heron", "owl", "accordion"])
    (tmp_path / "set/classes.txt").write_text("0 heron\n1 sky\n2 sea\n3 land\n")
    for number in range(2):
        Image.new("L", (128, 128), 255).save(tmp_path / f"set/masks/{number}.png")
    recipe = trained_recipe(tmp_path, {"segmentation": {"birds": str(tmp_path / "set")}})
    with pytest.raises(ConfigError, match=r"evaluate.segmentation.birds: no pixel of any mask is of a class of task"):
        evaluate.run(recipe)
    assert not Path(recipe.out, "scores.json").exists()
