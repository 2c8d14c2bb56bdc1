"""Figures of a comparison are those of the models alone, and its differences are of the same images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from react_ray.clip.embedder import Embedder
from react_ray.comparison.compare import Comparison, compare
from react_ray.comparison.compared_model import compared_models
from react_ray.comparison.labelled_set import Classes, labelled_sets
from react_ray.errors import ConfigError
from react_ray.evals.labelled import read_slice
from react_ray.report.intervals import paired_gain
from tests.support.compared import class_folders, model_of_file, random_model

NAMES = ["heron", "magpie", "owl"]


def compared(
    folder: Path, broken: int = 0, allow_missing: bool = False, batch_size: int = 256
) -> tuple[Comparison, list[str]]:
    models = [random_model(folder), model_of_file(folder, 1)]
    birds, food = folder / "birds", folder / "food"
    if not birds.exists():
        class_folders(birds, NAMES)
        class_folders(food, ["pie", "soup"], each=5)
        for number in range(broken):
            (birds / "owl" / f"{number}.png").write_bytes(b"no image")
    sets = labelled_sets({"birds": str(birds)}, {"food": str(food)}, Classes({}, {}), ())
    return compare(compared_models(models), sets, batch_size, allow_missing), models


def correct(model: str, folder: Path) -> np.ndarray:
    """bool [24]: whether the nearest class of an image of birds is its own."""
    [one] = [found for found in compared_models([model, f"{folder}/tiny.json"])[:1]]
    [birds] = labelled_sets({"birds": str(folder / "birds")}, {}, Classes({}, {}), ())
    embedder = Embedder(one.load(), 256, "cpu")
    table = read_slice(birds.slices[0], birds.tasks)
    pixels, _ = embedder.decode(table["image"].to_pylist())
    image_ND = embedder.embed_images(pixels).astype(np.float64)
    class_CD = embedder.zero_shot_classifier(birds.tasks[0]).astype(np.float64)
    label_N = np.array([NAMES.index(label) for label in table["label"].to_pylist()])
    return np.asarray((image_ND @ class_CD.T).argmax(axis=1) == label_N)


def test_figures_are_those_of_each_model_alone(tmp_path: Path) -> None:
    result, models = compared(tmp_path)
    right = [correct(model, tmp_path) for model in models]
    assert result.models == ["tiny random", "tiny seed1.safetensors"] and result.base == "tiny random"
    for model, right_N in zip(result.models, right, strict=True):
        assert result.value(model, "birds", "top1") == pytest.approx(right_N.mean())
        assert result.value(model, "birds", "mean_per_class") == pytest.approx(right_N.reshape(3, 8).mean())
        assert result.value(model, "food", "top5") == 1
    birds, food = result.differences
    assert birds.gain == paired_gain([right[1].astype(int)[None] - right[0]])
    assert (birds.num_images, food.num_images) == (24, 10)
    assert (birds.dataset, birds.off_target, food.dataset, food.off_target) == ("birds", False, "food", True)


def test_a_task_is_compared_by_the_metric_that_counts_for_it(tmp_path: Path) -> None:
    models = [random_model(tmp_path), model_of_file(tmp_path, 1)]
    birds = Path(class_folders(tmp_path / "birds", NAMES))
    for number in range(2, 8):
        (birds / "owl" / f"{number}.png").unlink()
    given = {"classes": NAMES, "templates": ["{}"], "metric": "mean_per_class"}
    (tmp_path / "tasks.json").write_text(json.dumps({"tasks": {"birds": given}}))
    sets = labelled_sets({"birds": str(birds)}, {}, Classes({"": str(tmp_path / "tasks.json")}, {}), ())
    result = compare(compared_models(models), sets, 256, False)
    values = [result.value(model, "birds", "mean_per_class") for model in result.models]
    [found] = result.differences
    assert found.metric == "mean_per_class" and found.gain.value == pytest.approx(values[1] - values[0])
    assert found.gain.low <= found.gain.value <= found.gain.high and found.gain.mcnemar is None


def test_figures_do_not_depend_on_the_size_of_a_batch(tmp_path: Path) -> None:
    assert compared(tmp_path)[0] == compared(tmp_path, batch_size=3)[0]


def test_an_image_that_cannot_be_read_is_refused_or_counts_as_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(
        ConfigError, match=r"--on birds: 2 of 24 images cannot be decoded, .* allow it with --allow-miss"
    ):
        compared(tmp_path, broken=2)
    result, _ = compared(tmp_path, allow_missing=True)
    assert "--on birds: 2 of 24 images cannot be decoded and count as wrong" in capsys.readouterr().err
    assert all(score.num == 24 for score in result.scores if score.dataset == "birds")
