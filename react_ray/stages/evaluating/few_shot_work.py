"""Learns one classifier for each task, by one method from one draw, on image vectors that are there already.

Takes finished features of a labelled set and of its training set, gives one part: the scores (schema.SCORES), and
beside them the predictions that they are of. Next: evals/shot_methods.py.
"""

from __future__ import annotations

import io
import time
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from threadpoolctl import threadpool_limits

from react_ray import schema
from react_ray.artifact import Artifact, Parts
from react_ray.clip.prompts import TargetTask
from react_ray.draft import Draft
from react_ray.evals.classify import score_rows
from react_ray.evals.few_shot import FINE_TUNING, ShotMethod, draw
from react_ray.evals.metrics import log_sigmoid, log_softmax
from react_ray.evals.score import ALL_SHOTS, COLLAPSED, Score, score_table
from react_ray.evals.shot_methods import Learned, Shots, learn
from react_ray.evals.zeroshot import summarise
from react_ray.kinds import LabelledFacts, ScoresFacts
from react_ray.manifest import Receipt, part_name
from react_ray.parquet import parquet_bytes
from react_ray.runtime.work import Work
from react_ray.stages.evaluating.features import Features, classifiers_in, features_in

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


@dataclass(frozen=True)
class Job:
    of: Sets
    draft: Draft[ScoresFacts]
    part: int
    learning: Learning
    probabilities: bool = False  # of all classes are kept

    def num_drawn(self, tasks: list[TargetTask]) -> int:
        """The images that are learned from, of all tasks."""
        shots = self.learning[1]
        return self.of.train.rows if shots == ALL_SHOTS else shots * sum(len(task.class_names) for task in tasks)


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
                {task.name: features_in(table, task) for task in self.tasks}
                for table in (pa.concat_tables(one.tables()) for one in (of.test, of.train))
            )
            self.text, self.loaded = classifiers_in(of.classes, self.tasks), of
        predicted: dict[str, list[pa.Table]] = {}
        scores: list[Score] = []
        for task in self.tasks:
            test = self.test[task.name]
            if not test.labels.num_rows:
                continue
            drawn = self._draw(task, shots, seed, of.dataset)
            for learned in self.learned(job, task, drawn, test):
                predicted.setdefault(learned.setting, []).append(
                    _predict(learned, test, task, of.dataset, job.probabilities)
                )
                if learned.collapsed:
                    about = (method, of.row, of.dataset, task.name, COLLAPSED, 1.0, len(drawn.target))
                    scores.append(Score(*about, shots, seed, learned.setting))
        for setting, tables in predicted.items():
            for dataset, name, metric, value, num in summarise(_joined(tables), self.tasks):
                scores.append(Score(method, of.row, dataset, name, metric, value, num, shots, seed, setting))
        settings = [setting for setting, tables in predicted.items() for table in tables for _ in range(len(table))]
        every = _joined([schema.PREDICTIONS.empty_table(), *chain(*predicted.values())])
        return score_table(scores), every.append_column("setting", pa.array(settings, pa.string()))

    def learned(self, job: Job, task: TargetTask, drawn: Features, test: Features) -> list[Learned]:
        """drawn, test: images of the task, to learn from and to score."""
        method = job.learning[0]
        assert method not in FINE_TUNING, "fine-tuning needs images"
        return learn(method, self.shots(job, task, drawn), test.image_ND, test.target)

    def shots(self, job: Job, task: TargetTask, drawn: Features) -> Shots:
        return Shots(drawn.image_ND, drawn.target, self.text[task.name], seed=job.learning[2])

    def _draw(self, task: TargetTask, shots: int, seed: int, dataset: str) -> Features:
        train = self.train[task.name]
        readable = np.isfinite(train.image_ND).all(axis=1)
        return train.of_rows(draw(train.target, shots, seed, task.class_names, dataset, readable))


def _predict(learned: Learned, test: Features, task: TargetTask, dataset: str, keep: bool = False) -> pa.Table:
    """As `score_rows`, of logits instead of vectors."""
    table = test.labels.append_column("dataset", pa.array([dataset] * test.labels.num_rows, pa.string()))
    log_probabilities = log_sigmoid if learned.one_vs_rest else partial(log_softmax, scale=1)
    return score_rows(table, learned.score_NC, {task.name: lambda logit_NC: logit_NC}, [task], log_probabilities, keep)


def _joined(tables: list[pa.Table]) -> pa.Table:
    """Only tasks whose metric needs it have scores of all classes."""
    return pa.concat_tables(tables, promote_options="default")


def predictions_of(scores: Parts[ScoresFacts], part: int) -> pa.Table:
    """The predictions that the scores of a part are of: schema.PREDICTIONS and `setting`, as in Score."""
    return pq.read_table(io.BytesIO(scores.read_file(part, _predictions(part))))


def _predictions(part: int) -> str:
    return f"{part_name(part)}.predictions.parquet"
