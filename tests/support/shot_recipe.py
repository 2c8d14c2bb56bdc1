"""A recipe whose classifiers are learned from few labels, on a tiny CLIP with random weights."""

from __future__ import annotations

from pathlib import Path

from react_ray.artifact import Artifact
from react_ray.clip.config import BackboneConfig
from react_ray.clip.prompts import load_tasks
from react_ray.evals.labelled import slices_of
from react_ray.kinds import ScoresFacts
from react_ray.recipe import Recipe
from react_ray.stages.evaluating.few_shot_runs import learn_from_shots
from react_ray.stages.evaluating.scored_model import ScoredModel
from tests.support import tiny_clip
from tests.support.scored_run import labelled_set, recipe_of

TINY = str(Path(tiny_clip.__file__).with_suffix(".json"))
BASE = ScoredModel(BackboneConfig(name=TINY, pretrained="random"))


def shot_recipe(folder: Path, *changes: str) -> Recipe:
    """The recipe with a test set of 12 images and a training set of 30, which stay if they are there."""
    paths = {folder / "test.parquet": 12, folder / "train.parquet": 30}
    test, train = (str(path) if path.exists() else labelled_set(path, num) for path, num in paths.items())
    overrides = (
        f"backbone.name={TINY}",
        "backbone.pretrained=random",
        f"evaluate.train.test={train}",
        "evaluate.shots=[1, 4]",
        "evaluate.shot_seeds=[0, 1]",
        "evaluate.shot_methods=[tip-adapter]",
    )
    return recipe_of(folder, {"test": test}, "run", *overrides, *changes)


def learned(recipe: Recipe, rows: dict[str, ScoredModel]) -> list[Artifact[ScoresFacts]]:
    tasks = load_tasks(recipe.tasks)
    slices = {name: slices_of(name, uri, tasks) for name, uri in recipe.evaluate.datasets.items()}
    return learn_from_shots(recipe, tasks, rows, slices)
