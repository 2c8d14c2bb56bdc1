"""The rows of 1-NN on small pictures: which pictures they compare with, and when there are none."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from react_ray.clip.prompts import load_tasks
from react_ray.evals.labelled import slices_of
from react_ray.evals.pixels import DIM
from react_ray.recipe import Recipe
from react_ray.stages import evaluate
from react_ray.stages.evaluating.classify_slice import ClassifySlice, ReadSlice
from react_ray.stages.evaluating.features import Embedded
from react_ray.stages.evaluating.pixel_references import RetrievedPixels, pixel_references
from tests.support.scored_run import finish_retrieval, labelled_set, recipe_of


def of_retrieved(recipe: Recipe) -> RetrievedPixels:
    [(name, found)] = pixel_references(recipe).items()
    assert name == "pixels.retrieved" and isinstance(found, RetrievedPixels)
    return found


def test_a_retrieved_picture_has_the_class_that_it_was_retrieved_for(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    assert pixel_references(recipe) == {}
    finish_retrieval(recipe)
    known = of_retrieved(recipe).load([], 2)
    assert (known.num_pictures, known.num_bytes) == (10, 10 * DIM)
    assert known.of_task["birds"][1].tolist() == ["heron"] * 4 + ["owl"] * 4 + ["accordion"] * 2


def test_a_large_retrieval_is_sampled_evenly_and_the_row_can_be_left_out(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, None, "run", "evaluate.pixel_pairs=4")
    finish_retrieval(recipe)
    pixels = of_retrieved(recipe)
    assert pixels.load([], 1).of_task["birds"][1].tolist() == ["heron", "heron", "owl", "accordion"]
    assert pixels.config == {"most": 4}
    assert pixel_references(recipe_of(tmp_path, None, "run", "evaluate.pixel_pairs=0")) == {}


def test_without_the_images_of_the_pairs_a_line_says_that_there_is_no_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_of(tmp_path)
    finish_retrieval(recipe)
    shutil.rmtree(tmp_path / "run/images")
    assert pixel_references(recipe) == {}
    assert (
        "no row of 1-NN on pixels, because the images of the retrieved pairs are not stored" in capsys.readouterr().err
    )


def test_the_row_is_scored_like_a_model_and_other_pairs_replace_it(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, {"test": labelled_set(tmp_path / "test.parquet", 10)})
    finish_retrieval(recipe)
    tasks = load_tasks(recipe.tasks)
    slices = {"test": slices_of("test", recipe.evaluate.datasets["test"], tasks)}

    def scored(pixels: RetrievedPixels) -> tuple[list[str], int]:
        row = evaluate._of_pixels(recipe, tasks, "pixels.retrieved", pixels, slices)
        jobs = [(row, part) for part in row.scores.pending()]
        work = ClassifySlice(jobs, recipe, tasks, Embedded(), 1)
        work.setup()
        for number in range(len(jobs)):
            work(number, ReadSlice(jobs, tasks, Embedded())(number))
        made = evaluate._seal(row, recipe, tasks)
        return made.read(0)["predicted"].to_pylist(), made.facts.fitted["num_pairs"]

    # Picture i of the set is the i-th retrieved one, and all are of one red more than the one before.
    assert scored(of_retrieved(recipe)) == (["heron"] * 4 + ["owl"] * 4 + ["accordion"] * 2, 10)
    fewer = of_retrieved(recipe_of(tmp_path, None, "run", "evaluate.pixel_pairs=4"))  # pictures 0, 3, 6 and 9
    assert scored(fewer) == (["heron"] * 5 + ["owl"] * 3 + ["accordion"] * 2, 4)
