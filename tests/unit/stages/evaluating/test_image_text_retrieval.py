"""Image-text retrieval over the models of a run, in this process and without Ray."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from react_ray.artifact import Artifact, open_artifact
from react_ray.errors import ArtifactMismatch, ConfigError
from react_ray.evals.image_text import rank, recalls
from react_ray.kinds import OUTPUTS
from react_ray.recipe import Recipe
from react_ray.runtime.cluster import on_demand
from react_ray.runtime.layout import Layout, other_scores
from react_ray.stages import evaluate, report
from react_ray.stages.evaluating.all_scores import all_scores, score_gains
from react_ray.stages.evaluating.image_text_retrieval import captioned_sets
from react_ray.stages.evaluating.protocol import run_protocols
from react_ray.storage import open_storage, read_bytes
from react_ray.vectors import from_vectors
from tests.support.scored_run import png
from tests.support.trained_run import trained_recipe

PROTOCOL = "image-text-retrieval"


def captioned(path: Path, num_images: int = 12, broken: int = -1) -> str:
    """Writes images in one colour each, with one to three captions."""
    images = [b"no image" if number == broken else png(20 * number) for number in range(num_images)]
    captions = [[f"colour {number} {word}" for word in "abc"[: 1 + number % 3]] for number in range(num_images)]
    pq.write_table(pa.table({"image": images, "caption": captions}), path)
    return str(path)


def recipe_of(folder: Path, **more: object) -> Recipe:
    return trained_recipe(folder, {"captions": {"test": captioned(folder / "set.parquet")}} | more)


def evaluated(recipe: Recipe) -> list[Artifact]:
    """As a command does it: so few images need no Ray."""
    with on_demand(recipe.cluster):
        return evaluate.run(recipe)


def test_each_model_ranks_what_it_embeds_and_a_classifier_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_of(tmp_path)
    found = evaluated(recipe)
    assert "only classification scores linear, which can tell nothing but the classes apart" in capsys.readouterr().err
    rows = [row for one in found for row in one.read(0).to_pylist()]
    assert {(row["model"], row["protocol"], row["dataset"]) for row in rows} == {
        ("base", PROTOCOL, "test"),
        ("gated_image", PROTOCOL, "test"),
    }
    assert {row["metric"]: row["num"] for row in rows} == {
        f"{side}_retrieval_recall@{k}": num for side, num in (("image", 24), ("text", 12)) for k in (1, 5, 10)
    }
    values = {}
    for model in ("base", "gated_image"):
        table = open_artifact(Layout(recipe).outputs(model, PROTOCOL, "test"), OUTPUTS).read(0)
        lengths = [len(one) for one in table["texts"].to_pylist()]
        assert lengths == [1 + number % 3 for number in range(12)]
        texts = from_vectors(table["texts"].combine_chunks().flatten())
        ranks = rank(from_vectors(table["image"]), texts, np.repeat(np.arange(12), lengths))
        values[model] = {metric: value for metric, value, _ in recalls(ranks)}
        assert {row["metric"]: row["value"] for row in rows if row["model"] == model} == values[model]
    assert values["base"] != values["gated_image"]
    assert [one.uri for one in found] == [uri for uri in other_scores(recipe) if "/linear/" not in uri]
    assert found[0].facts.summary == found[0].facts.gains == []
    gains = {one["metric"]: one for one in found[1].facts.gains}
    for metric, gain in gains.items():
        assert gain["value"] == pytest.approx(values["gated_image"][metric] - values["base"][metric])
        assert gain["low"] <= gain["value"] <= gain["high"] and gain["num_changed"] <= 12
    assert gains.keys() == values["base"].keys()
    told = "image-text-retrieval of gated_image on test against the base, points: image_retrieval_recall@1 "
    assert found[1].facts.summary[0].startswith(told) and " %" not in found[1].facts.summary[0]


def test_an_arm_that_is_added_is_compared_with_the_base_that_was_scored(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    first = evaluated(recipe)
    open_storage(first[1].uri).delete_all()
    assert evaluated(recipe)[1].facts.gains == first[1].facts.gains
    open_storage(first[1].uri).delete_all()
    open_storage(Layout(recipe).outputs("base", PROTOCOL, "test")).delete_all()
    assert evaluated(recipe)[1].facts.gains == []


def test_a_run_with_captions_alone_has_a_table_and_a_report(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    evaluated(recipe)
    said = report.run(recipe)
    assert "There are no scores" not in said and "image-text-retrieval on test, points\n" in said
    assert "There are no scores" not in read_bytes(f"{recipe.out}/report.html").decode()
    [first, *_] = json.loads(read_bytes(f"{recipe.out}/summary.json"))["other_protocols"]
    assert (first["row"], first["metric"]) == ("gated_image", "image_retrieval_recall@1") and "told_apart" in first
    without = recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update={"captions": {}})})
    assert all_scores(without) == all_scores(recipe) and score_gains(without) == score_gains(recipe) != {}


def test_what_is_scored_stays_and_a_set_that_was_replaced_is_refused(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    before = [one.content for one in evaluated(recipe)]
    assert [one.content for one in evaluated(recipe)] == before
    captioned(tmp_path / "set.parquet", 13)
    with pytest.raises(
        ArtifactMismatch, match=r"labels of evaluate\.captions\.test are not those that were scored; give"
    ):
        evaluated(recipe)


def test_scores_do_not_depend_on_the_batch_or_the_parts(tmp_path: Path) -> None:
    whole = recipe_of(tmp_path)
    found = [one.read(0) for one in evaluated(whole)]
    sets = captioned_sets(recipe_of(tmp_path, batch_size=5))
    (tmp_path / "parts").mkdir()
    other = trained_recipe(tmp_path / "parts", {})
    with on_demand(other.cluster):
        again = run_protocols(other, [replace(one, images_per_part=5) for one in sets])
    assert [one.read(0) for one in again] == found


def test_an_image_that_cannot_be_read_is_refused_or_counts_as_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = {"test": captioned(tmp_path / "set.parquet", broken=3)}
    recipe = trained_recipe(tmp_path, {"captions": sets, "max_unreadable": 0.0})
    with pytest.raises(ConfigError, match=r"evaluate.captions.test: 1 of 12 images cannot be decoded, .*; mend"):
        evaluated(recipe)
    found = evaluated(trained_recipe(tmp_path, {"captions": sets, "max_unreadable": 0.1}))
    assert "evaluate.captions.test: 1 of 12 images cannot be decoded and count as wrong" in capsys.readouterr().err
    at_10 = {row["metric"]: row["value"] for row in found[0].read(0).to_pylist()}
    assert at_10["text_retrieval_recall@10"] <= 11 / 12 and at_10["image_retrieval_recall@10"] <= 23 / 24
