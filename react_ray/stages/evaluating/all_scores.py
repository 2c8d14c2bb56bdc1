"""Gathers the scores of all protocols of a run into `scores.parquet` and `scores.json`, for people and for programs.

Zero-shot scores follow from the predictions of each row of the table; every other protocol keeps its own in an
artifact of the kind `scores`, below a folder of the run whose name begins with `scores_`.
"""

from __future__ import annotations

import json

from react_ray.artifact import open_artifact
from react_ray.clip.prompts import load_tasks
from react_ray.evals.score import ZERO_SHOT, Score, score_table
from react_ray.kinds import PREDICTIONS, SCORES
from react_ray.manifest import MANIFEST
from react_ray.parquet import parquet_bytes
from react_ray.recipe import Recipe
from react_ray.report.score_table import score_tables
from react_ray.runtime.layout import scored, shown_name
from react_ray.storage import join, open_storage

PARQUET, JSON = "scores.parquet", "scores.json"
OF_PROTOCOLS = "scores_"


def write_scores(recipe: Recipe) -> None:
    """Writes all scores that the run has so far; a row is a figure (schema.SCORES)."""
    storage, table = open_storage(recipe.out), score_table(all_scores(recipe))
    storage.write(PARQUET, parquet_bytes(table))
    storage.write(JSON, (json.dumps(table.to_pylist(), indent=1) + "\n").encode())


def all_scores(recipe: Recipe) -> list[Score]:
    """Zero-shot scores first, then those of other protocols by the names of their folders. Models are named as in the
    report."""
    storage = open_storage(recipe.out)
    found = [score for row, uri in scored(recipe).items() for score in _zero_shot(row, uri)]
    for path in storage.list():
        folder, _, name = path.rpartition("/")
        if name == MANIFEST and folder.startswith(OF_PROTOCOLS):
            for table in open_artifact(join(storage.uri, folder), SCORES).tables():
                found += [Score(**row) for row in table.to_pylist()]
    return [score._replace(model=shown_name(score.model)) for score in found]


def tables_of(recipe: Recipe) -> str:
    """All scores of the run as text for the terminal."""
    return score_tables(all_scores(recipe), {task.name: task.metric for task in load_tasks(recipe.tasks)})


def _zero_shot(row: str, uri: str) -> list[Score]:
    if not open_storage(uri).exists(MANIFEST):
        return []
    return [
        Score(
            ZERO_SHOT, row, one["dataset"], one["task"], one["metric"], one["value"], one["num_images"], 0, one["seed"]
        )
        for one in open_artifact(uri, PREDICTIONS).facts.scores
    ]
