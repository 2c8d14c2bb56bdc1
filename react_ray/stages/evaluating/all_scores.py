"""Gathers the scores of all protocols of a run into `scores.parquet` and `scores.json`, for people and for programs.

Zero-shot scores follow from the predictions of each row of the table; every other protocol keeps its own in an
artifact of the kind `scores`, below a folder of the run whose name begins with `scores_`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from statistics import fmean

from react_ray.artifact import Artifact, open_artifact
from react_ray.clip.prompts import load_tasks
from react_ray.evals.score import ALL_SETS, ZERO_SHOT, Place, Score, place_of, score_table
from react_ray.evals.zeroshot import MEAN, TASK_METRIC
from react_ray.kinds import PREDICTIONS, SCORES, ScoresFacts
from react_ray.manifest import MANIFEST
from react_ray.parquet import parquet_bytes
from react_ray.recipe import Recipe
from react_ray.report.intervals import Gain
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
    report. Those of an arm that the recipe no longer has stay where they are, and are none of these."""
    rows = scored(recipe)
    found = [score for row, uri in rows.items() for score in _zero_shot(row, uri)]
    found += over_sets(found, [task.name for task in load_tasks(recipe.tasks)])
    for artifact in _of_protocols(recipe):
        for table in artifact.tables():
            found += [Score(**row) for row in table.to_pylist() if row["model"] in rows]
    return [score._replace(model=shown_name(score.model)) for score in found]


def score_gains(recipe: Recipe) -> dict[Place, Gain]:
    """Of the scores of protocols other than classification, those over the base that have an interval."""
    found = {}
    for artifact in _of_protocols(recipe):
        if artifact.facts.gains:
            rows = [row for table in artifact.tables() for row in table.to_pylist()]
            of = {(row["task"], row["metric"]): Score(**row) for row in rows}
            for told in artifact.facts.gains:
                score = of[told["task"], told["metric"]]
                gain = Gain(**{name: told[name] for name in Gain._fields})
                found[place_of(score._replace(model=shown_name(score.model)))] = gain
    return found


def _of_protocols(recipe: Recipe) -> Iterator[Artifact[ScoresFacts]]:
    """All finished scores of protocols of their own, also of sets that the recipe no longer has."""
    storage = open_storage(recipe.out)
    for path in storage.list():
        folder, _, name = path.rpartition("/")
        if name == MANIFEST and folder.startswith(OF_PROTOCOLS):
            yield open_artifact(join(storage.uri, folder), SCORES)


def over_sets(scores: list[Score], tasks: list[str]) -> list[Score]:
    """The mean over all tasks of each model, where each task has a set of its own name. A model that has no score of a
    task has no such mean."""
    values: dict[str, dict[str, Score]] = {}
    for score in scores:
        if score.dataset in tasks and (score.task, score.metric) == (MEAN, TASK_METRIC):
            values.setdefault(score.model, {})[score.dataset] = score
    return [
        of[tasks[0]]._replace(dataset=ALL_SETS, value=fmean(of[task].value for task in tasks), num=_num(of))
        for of in values.values()
        if len(tasks) > 1 and len(of) == len(tasks)
    ]


def tables_of(recipe: Recipe) -> str:
    """All scores of the run as text for the terminal, and which tasks of a collection of sets have none."""
    metric_of = {task.name: task.metric for task in load_tasks(recipe.tasks)}
    scores = all_scores(recipe)
    text = score_tables(scores, metric_of, score_gains(recipe))
    absent = [name for name in metric_of if name not in {score.task for score in scores if score.protocol == ZERO_SHOT}]
    if absent and len(absent) < len(metric_of):
        have = len(metric_of) - len(absent)
        text += f"{have} of {len(metric_of)} tasks have images, so there is no mean over all; absent: "
        text += f"{', '.join(absent)}\n"
    if any(score.protocol == ZERO_SHOT for score in scores):
        text += "\n`react-ray report RECIPE` says which differences of zero-shot are beyond chance.\n"
    return text


def _num(of: dict[str, Score]) -> int:
    return sum(score.num for score in of.values())


def _zero_shot(row: str, uri: str) -> list[Score]:
    if not open_storage(uri).exists(MANIFEST):
        return []
    return [
        Score(
            ZERO_SHOT, row, one["dataset"], one["task"], one["metric"], one["value"], one["num_images"], 0, one["seed"]
        )
        for one in open_artifact(uri, PREDICTIONS).facts.scores
    ]
