"""Learns classifiers from few labels on the image vectors of each model: `scores_few/<row>/<set>`.

Takes the features of a labelled set and of its training set (features.py), gives for each method, number of shots and
seed one part: the scores (schema.SCORES), and beside them the predictions that they are of. A part is one task of Ray;
shots, methods and seeds that a recipe adds later are new parts. Next: evals/few_shot.py.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, product
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from threadpoolctl import threadpool_limits

from react_ray import schema
from react_ray.artifact import Artifact, Parts, plan_of
from react_ray.clip.prompts import TargetTask
from react_ray.draft import Draft, create
from react_ray.errors import ArtifactMismatch
from react_ray.evals.classify import score_rows
from react_ray.evals.config import EvaluateConfig
from react_ray.evals.few_shot import ShotMethod, draw, numbers
from react_ray.evals.labelled import Slice, check_shots, slices_of
from react_ray.evals.score import ALL_SHOTS, Score, score_table
from react_ray.evals.set_name import training_set
from react_ray.evals.shot_methods import BEST_EPOCH, Learned, Shots, learn
from react_ray.evals.zeroshot import summarise
from react_ray.kinds import SCORES, LabelledFacts, ScoresFacts
from react_ray.manifest import Receipt, part_name
from react_ray.parquet import parquet_bytes
from react_ray.progress import say
from react_ray.recipe import Recipe
from react_ray.runtime.layout import Layout
from react_ray.runtime.map_parts import MapStage, ReadNothing, Work, map_parts
from react_ray.runtime.placement import is_soonest_here, placement
from react_ray.stages.evaluating.features import Features, classifiers_in, embed_sets, features_in
from react_ray.stages.evaluating.scored_model import ScoredModel
from react_ray.storage import open_storage

COLLAPSED = "collapsed"
PASSES = 15  # over the drawn images, that a sweep takes at least
Learning = tuple[ShotMethod, int, int]  # method, shots, seed


@dataclass(frozen=True)
class Sets:
    """Finished artifacts of one row of the table and one labelled set."""

    row: str
    dataset: str
    test: Artifact[LabelledFacts]
    train: Artifact[LabelledFacts]
    classes: Artifact[LabelledFacts]

    @property
    def parents(self) -> dict[str, Artifact[Any]]:
        return {"test": self.test, "train": self.train, "classes": self.classes}


def learn_from_shots(
    recipe: Recipe, tasks: list[TargetTask], rows: dict[str, ScoredModel], slices: dict[str, list[Slice]]
) -> list[Artifact[ScoresFacts]]:
    """Returns the sealed scores of each row whose model scores by prompts, for each set that has a set to train on.

    rows: of the table. slices: of each set. Rows that score by a head embed like another row, or see patch tokens, for
    which there are no prompts to begin with; they are left out.
    """
    config = recipe.evaluate
    if not config.shots or not tasks:
        return []
    check_shots(config, tasks)
    most = config.max_unreadable
    training = {name: slices_of(training_set(name), uri, tasks, most) for name, uri in config.train.items()}
    wanted = {name: slices[name] for name in training} | {training_set(name): of for name, of in training.items()}
    by_prompts = [row for row, model in rows.items() if not model.head]
    embedded = embed_sets(recipe, tasks, rows, {row: wanted for row in by_prompts})
    found = [
        Sets(row, name, embedded.features[row, name], embedded.features[row, training_set(name)], embedded.classes[row])
        for row, name in product(by_prompts, training)
    ]
    _say_leaks(found)
    drafts = [_begin(Layout(recipe).scores_few(one.row, one.dataset), learnings(config), one.parents) for one in found]
    jobs = [
        Job(one, draft, part, learning)
        for one, (draft, listed) in zip(found, drafts, strict=True)
        for part, learning in enumerate(listed)
        if not draft.sealed and part in set(draft.pending())
    ]
    cluster = recipe.cluster
    stage = MapStage(
        "few labels",
        ReadNothing(),
        LearnFromShots(jobs, tasks, cluster.threads_per_actor),
        noun="scores",
        options={"num_cpus": cluster.threads_per_actor} | placement(cluster, "embed"),
        retries=cluster.part_retries,
        here=is_soonest_here(cluster, PASSES * sum(_num_images(job, tasks) for job in jobs)),
    )
    map_parts(stage, list(range(len(jobs))), len(jobs))
    sealed = [draft.seal() for draft, _ in drafts]
    _say_collapsed(sealed)
    return sealed


def learnings(config: EvaluateConfig) -> list[Learning]:
    """With all images there is nothing to draw, so only the first seed counts."""
    seeds = list(dict.fromkeys(config.shot_seeds))
    return [
        (method, number, seed)
        for method, number in product(dict.fromkeys(config.shot_methods), numbers(config.shots))
        for seed in (seeds[:1] if number == ALL_SHOTS else seeds)
    ]


def predictions_of(scores: Parts[ScoresFacts], part: int) -> pa.Table:
    """The predictions that the scores of a part are of: schema.PREDICTIONS and `setting`, as in Score."""
    return pq.read_table(io.BytesIO(scores.read_file(part, _predictions(part))))


@dataclass(frozen=True)
class Job:
    of: Sets
    draft: Draft[ScoresFacts]
    part: int
    learning: Learning


class LearnFromShots(Work):
    """Learns one classifier for each task, by one method from one draw."""

    def __init__(self, jobs: list[Job], tasks: list[TargetTask], num_threads: int) -> None:
        self.jobs, self.tasks, self.num_threads = jobs, tasks, num_threads

    def setup(self) -> None:
        self.loaded: Sets | None = None

    def __call__(self, number: int, _: pa.Table) -> Receipt:
        """The number of threads is the same wherever the work is done, since sums depend on it."""
        began, threads_before = time.monotonic(), torch.get_num_threads()
        job = self.jobs[number]
        torch.set_num_threads(self.num_threads)
        try:
            with threadpool_limits(self.num_threads):
                scores, predictions = self._learn(job)
        finally:
            torch.set_num_threads(threads_before)
        files = {f"{part_name(job.part)}.parquet": parquet_bytes(scores)}
        files |= {_predictions(job.part): parquet_bytes(predictions)}
        return job.draft.commit_files(job.part, files, time.monotonic() - began, scores.num_rows)

    def _learn(self, job: Job) -> tuple[pa.Table, pa.Table]:
        of, (method, shots, seed) = job.of, job.learning
        if self.loaded is not of:
            self.test, self.train = (
                features_in(pa.concat_tables(one.tables()), self.tasks) for one in (of.test, of.train)
            )
            self.text, self.loaded = classifiers_in(of.classes, self.tasks), of
        predicted: dict[str, list[pa.Table]] = {}
        scores: list[Score] = []
        for task in self.tasks:
            test = self.test.of_task(task.name)
            if not len(test.label_N):
                continue
            drawn = self._draw(task, shots, seed, of.dataset)
            for learned in learn(method, drawn, test.image_ND, test.label_N):
                predicted.setdefault(learned.setting, []).append(_predict(learned, test, task, of.dataset))
                if learned.collapsed:
                    about = (method, of.row, of.dataset, task.name, COLLAPSED, 1.0, len(drawn.label_N))
                    scores.append(Score(*about, shots, seed, learned.setting))
        for setting, tables in predicted.items():
            for dataset, name, metric, value, num in summarise(_joined(tables), self.tasks):
                scores.append(Score(method, of.row, dataset, name, metric, value, num, shots, seed, setting))
        settings = [setting for setting, tables in predicted.items() for table in tables for _ in range(len(table))]
        every = _joined([schema.PREDICTIONS.empty_table(), *chain(*predicted.values())])
        return score_table(scores), every.append_column("setting", pa.array(settings, pa.string()))

    def _draw(self, task: TargetTask, shots: int, seed: int, dataset: str) -> Shots:
        train = self.train.of_task(task.name)
        readable = np.isfinite(train.image_ND).all(axis=1)
        rows = draw(train.label_N, shots, seed, task.class_names, dataset, readable)
        return Shots(train.image_ND[rows], train.label_N[rows], self.text[task.name], seed)


def _predict(learned: Learned, test: Features, task: TargetTask, dataset: str) -> pa.Table:
    """As `score_rows`. Classes of one name are told apart by their positions, as the classifier was taught them."""
    num_images = len(test.label_N)
    columns = {
        "row": test.row_N,
        "dataset": [dataset] * num_images,
        "task": [task.name] * num_images,
        "label": [task.class_names[label] for label in test.label_N],
        "position": test.label_N,
        "also": pa.nulls(num_images, pa.list_(pa.string())),
    }
    return score_rows(pa.table(columns), learned.score_NC, {task.name: lambda score_NC: score_NC}, [task])


def _joined(tables: list[pa.Table]) -> pa.Table:
    """Only tasks whose metric needs it have scores of all classes."""
    return pa.concat_tables(tables, promote_options="default")


def _begin(
    uri: str, wanted: list[Learning], parents: dict[str, Artifact[Any]]
) -> tuple[Draft[ScoresFacts], list[Learning]]:
    """Begins scores, or makes room for what was added since; returns what each part is, too. Those of other vectors are
    replaced: they follow from artifacts alone."""
    found: list[Learning] = [tuple(one) for one in plan_of(uri).get("config", {}).get("learnings", [])]
    every = list(dict.fromkeys([*found, *wanted]))
    try:
        smaller = {"learnings": found}
        return create(uri, SCORES, {"learnings": every}, parents, len(every), grows=True, smaller=smaller), every
    except ArtifactMismatch:
        open_storage(uri).delete_all()
        return create(uri, SCORES, {"learnings": wanted}, parents, len(wanted)), wanted


def _num_images(job: Job, tasks: list[TargetTask]) -> int:
    shots = job.learning[1]
    return job.of.train.rows if shots == ALL_SHOTS else shots * sum(len(task.class_names) for task in tasks)


def _predictions(part: int) -> str:
    return f"{part_name(part)}.predictions.parquet"


def _say_leaks(found: Iterable[Sets]) -> None:
    """An image that is learned from and tested on is known by its bytes; the same sets are asked about once."""
    for one in {one.dataset: one for one in found}.values():
        test, train = (
            {digest for table in artifact.tables(["sha256"]) for digest in table["sha256"].to_pylist()} - {None}
            for artifact in (one.test, one.train)
        )
        if both := len(test & train):
            where = f"evaluate.train.{one.dataset}"
            say(f"{where}: {both:,} of its images are images of evaluate.datasets.{one.dataset} too")


def _say_collapsed(scores: Iterable[Artifact[ScoresFacts]]) -> None:
    for table in (table for artifact in scores for table in artifact.tables()):
        for row in table.to_pylist():
            if row["metric"] == COLLAPSED and row["setting"] != BEST_EPOCH:
                shots = "all images" if row["shots"] == ALL_SHOTS else f"{row['shots']} shots"
                say(
                    f"{row['protocol']} of {row['model'] or 'the model'} on {row['dataset']}, {row['task']}, {shots}, "
                    f"seed {row['seed']}: the learning rate that its sweep chose has collapsed in the final training"
                )
