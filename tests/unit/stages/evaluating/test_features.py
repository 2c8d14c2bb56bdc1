"""The image vectors of labelled sets are made once by each model, and never read by another or for other images."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from react_ray.artifact import open_artifact
from react_ray.clip.embedder import Embedder
from react_ray.clip.prompts import load_tasks
from react_ray.draft import create
from react_ray.errors import ArtifactMissing, ConfigError
from react_ray.evals.classify import classify_rows, prompt_scorers
from react_ray.evals.labelled import Slice, read_slice, slices_of
from react_ray.gated.config import CustomizeConfig
from react_ray.gated.load import load_backbone
from react_ray.kinds import CLASS_VECTORS, LABELLED_FEATURES, MODEL, PREDICTIONS, ModelFacts
from react_ray.recipe import Recipe
from react_ray.runtime import done
from react_ray.runtime.layout import Layout
from react_ray.stages import evaluate
from react_ray.stages.evaluating.all_scores import tables_of
from react_ray.stages.evaluating.features import class_vectors_of, embed_sets, features_artifact, features_in
from react_ray.stages.evaluating.scored_model import ScoredModel
from react_ray.training.head_file import HEAD_FILE, head_bytes
from tests.support.compared import noise
from tests.support.scored_run import CLASSES, labelled_set, recipe_of
from tests.support.shot_recipe import BASE, TINY

pytestmark = pytest.mark.usefixtures("without_ray")
OVERRIDES = (f"backbone.name={TINY}", "backbone.pretrained=random", "evaluate.pixel_pairs=0")
CELLS = replace(BASE, grid=2)


def made(recipe: Recipe) -> dict[str, str]:
    """The content of each artifact of features, by its place below the run."""
    found = Path(recipe.out).glob("labelled_features/*/*/manifest.json")
    return {f"{path.parts[-3]}/{path.parts[-2]}": open_artifact(str(path.parent)).content for path in sorted(found)}


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return recipe_of(tmp_path, {"test": labelled_set(tmp_path / "test.parquet", 9)}, "run", *OVERRIDES)


@pytest.fixture
def slices(recipe: Recipe) -> Callable[[], list[Slice]]:
    return lambda: slices_of("test", recipe.evaluate.datasets["test"], load_tasks(recipe.tasks))


@contextmanager
def one_thread() -> Iterator[None]:
    """As the threads of a stage embed: on some processors two threads round otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def with_linear_arm(recipe: Recipe) -> Recipe:
    """The recipe with one arm, a head on the base's vectors, which is trained."""
    recipe = recipe.model_copy(update={"arms": {"linear": {"customize.method": "linear"}}})
    head_CD = np.random.default_rng(0).normal(size=(len(CLASSES), 16)).astype(np.float32)
    named = [("birds", name) for name in CLASSES]
    data = head_bytes({"head": head_CD, "start": head_CD.copy()}, named, CustomizeConfig(), {})
    draft = create(Layout(recipe, "linear").of_arm("model"), MODEL, {}, {}, 1)
    draft.commit_files(0, {HEAD_FILE: data}, 0.0, 1)
    draft.seal(ModelFacts({}, "linear"))
    return recipe


def test_rows_whose_models_embed_alike_share_one_artifact(recipe: Recipe, slices: Callable[[], list[Slice]]) -> None:
    tasks, parts = load_tasks(recipe.tasks), slices()
    rows = {"base": BASE, "first": replace(BASE, head="a"), "cells": replace(CELLS, head="b"), "second": BASE}
    embedded = embed_sets(recipe, tasks, rows, {row: {"test": parts} for row in rows})
    assert made(recipe).keys() == {"base/test", "cells/test"}
    assert len({embedded.features[row, "test"].uri for row in ("base", "first", "second")}) == 1
    assert embedded.classes.keys() == {"base", "first", "second"}
    vectors = features_in(embedded.features["cells", "test"].read(0), tasks[0]).image_ND
    assert vectors.shape == (9, 16 + 4 * 32)


def test_evaluate_embeds_each_set_once_and_scores_as_embedding_and_classifying_in_one_step(
    recipe: Recipe, tmp_path: Path
) -> None:
    recipe = with_linear_arm(recipe)
    tasks = load_tasks(recipe.tasks)
    evaluate.run(recipe)
    assert made(recipe).keys() == {"base/test"}
    embedder = Embedder(load_backbone(BASE.backbone), 4, "cpu")
    table = read_slice(slices_of("test", recipe.evaluate.datasets["test"], tasks)[0], tasks)
    with one_thread():
        at_once = classify_rows(table, embedder, prompt_scorers(embedder, tasks), tasks, 1)
    assert open_artifact(Layout(recipe).scores("base"), PREDICTIONS).read(0).equals(at_once)
    assert (class_vectors_of(recipe, "linear")["birds"] == embedder.zero_shot_classifier(tasks[0])).all()
    assert features_artifact(recipe, "linear", "test").uri == features_artifact(recipe, "base", "test").uri
    rows = json.loads((tmp_path / "run/scores.json").read_text())
    assert rows == pq.read_table(tmp_path / "run/scores.parquet").to_pylist() == done.values(recipe, "evaluate")
    assert {(row["protocol"], row["model"], row["dataset"], row["num"]) for row in rows} == {
        ("zero-shot", "base", "test", 9),
        ("zero-shot", "linear", "test", 9),
    }
    assert tables_of(recipe).startswith("zero-shot on test, top1, points\n        birds  mean\nbase")
    # A set that is added is embedded alone, and the features of a set that is scored are not needed any more.
    first = made(recipe)["base/test"]
    shutil.rmtree(tmp_path / "run/labelled_features")
    more = {**recipe.evaluate.datasets, "other": labelled_set(tmp_path / "other.parquet", 6)}
    grown = recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update={"datasets": more})})
    assert [scores.rows for scores in evaluate.run(grown)] == [15, 15]
    assert made(grown).keys() == {"base/other"} and first
    with pytest.raises(ArtifactMissing, match="run `react-ray evaluate RECIPE` first"):
        features_artifact(grown, "base", "test")


def test_an_image_keeps_its_place_label_and_vector_and_a_damaged_one_has_none(tmp_path: Path) -> None:
    uri = labelled_set(tmp_path / "test.parquet", 9)
    table = pq.read_table(uri)
    images = table["image"].to_pylist()
    pq.write_table(table.set_column(0, "image", [[*images[:4], b"damaged", None, *images[6:]]]), uri)
    recipe = recipe_of(tmp_path, {"test": uri}, "run", *OVERRIDES)
    tasks, row = load_tasks(recipe.tasks), {"base": BASE}
    artifact = embed_sets(recipe, tasks, row, {"base": {"test": slices_of("test", uri, tasks)}}).features[
        "base", "test"
    ]
    assert artifact.manifest.statuses == {"ok": 7, "undecodable": 1, "empty": 1}
    found = features_in(artifact.read(0), tasks[0])
    assert found.target.tolist() == [0, 1, 2] * 3 and found.labels["row"].to_pylist() == list(range(9))
    assert np.isnan(found.image_ND).any(axis=1).tolist() == [row in (4, 5) for row in range(9)]
    embedder = Embedder(load_backbone(BASE.backbone), 4, "cpu")
    pixels, _ = embedder.decode([images[8]])
    assert (found.image_ND[8] == embedder.embed_images(pixels)[0]).all()
    assert found.of_rows(np.array([8, 2])).labels["row"].to_pylist() == [8, 2]
    assert features_in(artifact.read(0), replace(tasks[0], name="food")).labels.num_rows == 0


def test_features_are_made_anew_for_another_model_other_images_and_other_labels(
    recipe: Recipe, slices: Callable[[], list[Slice]], tmp_path: Path
) -> None:
    tasks = load_tasks(recipe.tasks)

    def embed(recipe: Recipe, model: ScoredModel = BASE) -> str:
        embed_sets(recipe, tasks, {"base": model}, {"base": {"test": slices()}})
        return made(recipe)["base/test"]

    first = embed(recipe)
    written = Path(recipe.out, "labelled_features/base/test/manifest.json").stat().st_mtime_ns
    assert embed(recipe) == first
    assert Path(recipe.out, "labelled_features/base/test/manifest.json").stat().st_mtime_ns == written
    assert embed(recipe, CELLS) != first and embed(recipe) == first
    seed = recipe.model_copy(update={"seed": 1})  # of the random weights
    assert embed(seed) != first and embed(recipe) == first
    table = pq.read_table(tmp_path / "test.parquet")
    pq.write_table(table.set_column(1, "label", [["heron"] * 9]), tmp_path / "test.parquet")
    assert embed(recipe) != first


def test_the_images_of_a_task_that_squeezes_them_are_embedded_anew(
    recipe: Recipe, slices: Callable[[], list[Slice]], tmp_path: Path
) -> None:
    wide = [Image.open(io.BytesIO(noise(number))).resize((90, 30)) for number in range(9)]
    encoded = [io.BytesIO() for _ in wide]
    for image, file in zip(wide, encoded, strict=True):
        image.save(file, "png")
    table = pq.read_table(tmp_path / "test.parquet")
    pq.write_table(table.set_column(0, "image", [[file.getvalue() for file in encoded]]), tmp_path / "test.parquet")
    found = {}
    for squash in (False, True, False):
        tasks = [replace(task, squash=squash) for task in load_tasks(recipe.tasks)]
        embed_sets(recipe, tasks, {"base": BASE}, {"base": {"test": slices()}})
        before = found.setdefault(squash, made(recipe)["base/test"])
        assert before == made(recipe)["base/test"]
    assert found[True] != found[False]


def test_the_scores_of_a_set_depend_neither_on_the_batch_size_nor_on_the_order_of_its_images(
    recipe: Recipe, tmp_path: Path
) -> None:
    [scores] = evaluate.run(recipe)
    table = pq.read_table(recipe.evaluate.datasets["test"])
    order = np.random.default_rng(0).permutation(table.num_rows)
    pq.write_table(table.take(order), tmp_path / "shuffled.parquet")
    of = {"test": str(tmp_path / "shuffled.parquet")}
    [others] = evaluate.run(recipe_of(tmp_path, of, "other", *OVERRIDES, "evaluate.batch_size=2"))
    found, again = scores.read(0), others.read(0)
    for name in ("label", "predicted", "rank"):
        assert found[name].take(order).to_pylist() == again[name].to_pylist(), name
    assert scores.facts.scores == others.facts.scores


def test_a_set_to_train_on_is_embedded_and_opened_by_any_name(recipe: Recipe, tmp_path: Path) -> None:
    arms = recipe.model_copy(update={"arms": {}})
    tasks, uri = load_tasks(recipe.tasks), labelled_set(tmp_path / "train.parquet", 6)
    embed_sets(arms, tasks, {"base": BASE}, {"base": {"train.test": slices_of("train.test", uri, tasks)}})
    artifact = open_artifact(Layout(arms).labelled_features("base", "train.test"), LABELLED_FEATURES)
    assert artifact.rows == 6 and artifact.facts.backbone["name"] == TINY
    assert open_artifact(Layout(arms).class_vectors("base"), CLASS_VECTORS).rows == len(CLASSES)


def test_an_image_of_several_labels_has_all_of_them_as_its_target(recipe: Recipe) -> None:
    uri = recipe.evaluate.datasets["test"]
    labels = [["heron"], ["owl", "heron"], ["accordion"]] * 3
    pq.write_table(pq.read_table(uri).set_column(1, "label", [labels]), uri)
    recipe = with_linear_arm(recipe)
    evaluate.run(recipe)
    predictions = open_artifact(Layout(recipe).scores("base"), PREDICTIONS).read(0).to_pylist()
    right = {row["row"] for row in predictions if row["predicted"] in labels[row["row"]]}
    assert {row["row"] for row in predictions if row["rank"] == 0} == right
    found = features_in(features_artifact(recipe, "base", "test").read(0), load_tasks(recipe.tasks)[0])
    assert found.target.tolist() == [[name in of for name in CLASSES] for of in labels]


def test_copies_of_an_image_are_counted_and_a_damaged_one_stops_the_evaluation_unless_it_is_allowed(
    recipe: Recipe, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    uri = recipe.evaluate.datasets["test"]
    table = pq.read_table(uri)
    images = table["image"].to_pylist()
    pq.write_table(table.set_column(0, "image", [[images[3], images[4], b"damaged", *images[3:]]]), uri)
    recipe = with_linear_arm(recipe)
    with pytest.raises(ConfigError, match=r"1 of 9 images cannot .* mend the set, or allow it with --allow-missing or"):
        evaluate.run(recipe)
    said = capsys.readouterr().err
    assert "test: 2 of 9 images are copies of another one; they count as often as they are there" in said
    artifact = open_artifact(Layout(recipe).labelled_features("base", "test"), LABELLED_FEATURES)
    assert artifact.facts.duplicated == 2
    allowed = recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update={"max_unreadable": 1.0})})
    evaluate.run(allowed)
    rows = json.loads((tmp_path / "run/scores.json").read_text())
    unreadable = [row for row in rows if row["metric"] == "unreadable"]
    found = {row["model"]: (row["value"], row["num"]) for row in unreadable}
    assert found == dict.fromkeys(("base", "linear"), (1 / 9, 9))
