"""Real photos with captions: zero, few and full shot and image-text retrieval of 213 of them, by one command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from react_ray.draft import create
from react_ray.evals.score import ALL_SHOTS, IMAGE_TEXT_RETRIEVAL, ZERO_SHOT
from react_ray.gated.config import CustomizeConfig
from react_ray.kinds import MODEL, ModelFacts
from react_ray.pairs.image import decode_whole
from react_ray.recipe import Recipe, load_recipe
from react_ray.runtime.cluster import on_demand
from react_ray.runtime.layout import Layout
from react_ray.stages import evaluate
from react_ray.training.head_file import HEAD_FILE, head_bytes
from tests.support import tuxpaint

pytestmark = pytest.mark.slow
RECIPE = """
name: photos
out: {0}/run
tasks: {{name: photos, class_names: [{1}], templates: ["a {{}}", "{{}}"]}}
backbone: {{name: "sample://base_clip.json", pretrained: "sample://base_clip.safetensors"}}
ingest: {{source: "sample://pool.parquet"}}
evaluate:
  datasets: {{first: "{0}/first", second: "{0}/second"}}
  train: {{first: "{0}/second", second: "{0}/first"}}
  shots: [1, 4, all]
  shot_methods: [linear-probe]
  captions: {{captions: "{0}/captions"}}
  pixel_pairs: 0
arms: {{linear: {{customize.method: linear}}}}
"""
CLASSES = sorted(tuxpaint.CLASSES.values())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuxpaint")
    if problem := tuxpaint.fetch(folder):
        pytest.skip(problem)
    return folder


def test_the_photos_are_those_that_the_guide_tells_of(folder: Path) -> None:
    photos = tuxpaint.photos(folder)
    assert len(photos) == len({photo.name for photo in photos}) == 213
    assert all(photo.caption and "=" not in photo.caption for photo in photos)
    first, second = tuxpaint.halves(photos)
    assert len(first) + len(second) == sum(bool(photo.label) for photo in photos) == 186
    for label in tuxpaint.CLASSES.values():
        series = [{photo.series for photo in half if photo.label == label} for half in (first, second)]
        assert not series[0] & series[1] and min(map(len, series)) >= 2


def test_what_is_transparent_is_white(folder: Path) -> None:
    """The objects are cut out, so that a corner of nearly each photo is ground."""
    photos = tuxpaint.photos(folder)
    corners = np.array([np.asarray(decode_whole(photo.file.read_bytes(), 64))[0, 0] for photo in photos])
    assert (corners == 255).all(axis=1).mean() > 0.9


def test_one_evaluation_scores_photos_by_prompts_by_labels_and_by_captions(folder: Path) -> None:
    tuxpaint.write_sets(tuxpaint.photos(folder), folder)
    (folder / "recipe.yaml").write_text(RECIPE.format(folder, ", ".join(CLASSES)))
    recipe = load_recipe(str(folder / "recipe.yaml"))
    finish_head(recipe)
    with on_demand(recipe.cluster):
        evaluate.run(recipe)
    rows = [row for row in json.loads((folder / "run/scores.json").read_text()) if row["model"] == "base"]

    def of(**wanted: Any) -> list[dict[str, Any]]:
        return [row for row in rows if all(row[name] == value for name, value in wanted.items())]

    def mean(shots: int) -> float:
        found = of(protocol="linear-probe", shots=shots, metric="mean_per_class", task="mean")
        return float(np.mean([row["value"] for row in found]))

    assert sum(row["num"] for row in of(protocol=ZERO_SHOT, metric="top1", task="mean")) == 186
    print({shots: round(100 * mean(shots), 1) for shots in (1, 4, ALL_SHOTS)})
    assert 1 / len(CLASSES) < mean(1) < min(mean(4), mean(ALL_SHOTS))
    recalls = of(protocol=IMAGE_TEXT_RETRIEVAL)
    assert len(recalls) == 6 and {row["num"] for row in recalls} == {213}


def finish_head(recipe: Recipe) -> None:
    """A run has an arm that is trained; this one embeds as the base does."""
    head_CD = np.zeros((len(CLASSES), 128), np.float32)
    named = [("photos", name) for name in CLASSES]
    data = head_bytes({"head": head_CD, "start": head_CD.copy()}, named, CustomizeConfig(), {})
    draft = create(Layout(recipe, "linear").of_arm("model"), MODEL, {}, {}, 1)
    draft.commit_files(0, {HEAD_FILE: data}, 0.0, 1)
    draft.seal(ModelFacts({}, "linear"))
