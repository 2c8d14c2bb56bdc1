"""Writes what `evaluate` found as other tools read it: ELEVATER's submissions and lm-evaluation-harness's results."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa

from react_ray import __version__
from react_ray.errors import ConfigError
from react_ray.evals.elevater_submission import submission, toolkit_name
from react_ray.evals.lm_eval_results import lm_eval_results
from react_ray.recipe import Recipe
from react_ray.runtime.layout import shown_name
from react_ray.stages.evaluating.all_scores import all_scores
from react_ray.stages.evaluating.features import class_vectors_of, features_artifact
from react_ray.stages.evaluating.scored_model import load_scored, scored_models
from react_ray.storage import join, open_storage
from react_ray.vectors import from_vectors


def write_lm_eval(recipe: Recipe, folder: str) -> list[str]:
    """Writes results_<model>.json for each model of the table, and returns their URIs. folder: its URI."""
    scores = all_scores(recipe)
    storage, made = open_storage(folder), []
    for model in dict.fromkeys(score.model for score in scores):
        name = f"results_{model}.json"
        values = lm_eval_results(scores, model, __version__)
        storage.write(name, (json.dumps(values, indent=2) + "\n").encode())
        made.append(join(folder, name))
    return made


def write_elevater(recipe: Recipe, folder: str) -> list[str]:
    """Writes <model>/<set>.json for each model that scores by prompts and each task that has images.

    Returns their URIs. folder: its URI. ArtifactMissing if the features were deleted; ConfigError as of `_images`.
    """
    storage, made = open_storage(folder), list[str]()
    for row, model in scored_models(recipe).items():
        if model.head:
            continue
        text, backbone = class_vectors_of(recipe, row), load_scored(model, recipe.seed, "cpu")
        for task, image_ND in _images(recipe, row).items():
            name = f"{shown_name(row)}/{toolkit_name(task)}.json"
            storage.write(name, submission(image_ND, text[task], backbone.model, shown_name(row), task))
            made.append(join(folder, name))
    return made


def _images(recipe: Recipe, row: str) -> dict[str, np.ndarray]:
    """Task -> the vectors of its images, [N, D]. ConfigError if two sets have images of one task, which would be one
    file, or if an image could not be read, since the toolkit needs a prediction for each of its labels."""
    set_of: dict[str, str] = {}
    found: dict[str, np.ndarray] = {}
    for dataset in recipe.evaluate.datasets:
        table = pa.concat_tables(features_artifact(recipe, row, dataset).tables(["task", "image"]))
        task_N, image_ND = np.array(table["task"].to_pylist(), object), from_vectors(table["image"])
        if unreadable := int(np.isnan(image_ND).any(axis=1).sum()):
            raise ConfigError(
                f"evaluate.datasets.{dataset}: {unreadable} of {len(image_ND)} images cannot be decoded, and a "
                "submission to ELEVATER needs a prediction for each; mend the set"
            )
        for task in dict.fromkeys(task_N):
            if task in set_of:
                raise ConfigError(
                    f"evaluate.datasets.{set_of[task]} and evaluate.datasets.{dataset} both have images of {task}, and "
                    "a submission to ELEVATER has one set for each task; leave one of them out"
                )
            set_of[task], found[task] = dataset, image_ND[task_N == task]
    return found
