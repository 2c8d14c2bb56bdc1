"""Writes the scores of a run as lm-evaluation-harness does. Next: elevater_files.py."""

from __future__ import annotations

import json

from react_ray import __version__
from react_ray.evals.lm_eval_results import lm_eval_results
from react_ray.recipe import Recipe
from react_ray.stages.evaluating.all_scores import all_scores
from react_ray.storage import join, open_storage


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
