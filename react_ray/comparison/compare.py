"""compare: models and labelled sets -> the figures of each model on each set, and its differences from the base.

All is done by this process: each model is loaded once, embeds the images of all sets and classifies them by prompts.
The first model is the base. Next: sentences.py.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from react_ray.clip.backbone import Backbone
from react_ray.clip.embedder import Embedder
from react_ray.clip.prompts import TOP1, TargetTask
from react_ray.comparison.labelled_set import LabelledSet
from react_ray.comparison.shared_images import check_images
from react_ray.evals.classify import classify_rows, prompt_scorers
from react_ray.evals.labelled import read_slice
from react_ray.evals.score import ZERO_SHOT, Score
from react_ray.evals.set_name import named_by_options
from react_ray.evals.zeroshot import MEAN, TASK_METRIC, check_readable, summarise
from react_ray.progress import Progress
from react_ray.report.intervals import Gain, paired_gain, paired_metric, paired_metric_gain


class Loadable(Protocol):
    """A model of the table: one that is named, or an interpolation between two."""

    @property
    def label(self) -> str: ...

    def load(self, device: str) -> Backbone: ...


class Mistake(NamedTuple):
    """An image of a class that is taken for another one."""

    task: str
    label: str
    predicted: str


class Difference(NamedTuple):
    """A model against the base on one set, in top-1 accuracy, or in the metrics that count for its tasks; a set of
    --validation shows no result, and has none."""

    model: str
    dataset: str
    off_target: bool
    gain: Gain  # the mean over tasks
    num_images: int
    metric: str = TOP1  # or another of METRICS, or TASK_METRIC where tasks have different ones


@dataclass(frozen=True)
class Comparison:
    base: str
    scores: list[Score] = field(default_factory=list)  # of all models, the base first
    differences: list[Difference] = field(default_factory=list)
    mistakes: dict[tuple[str, str], Counter[Mistake]] = field(default_factory=dict)  # by (model, set)

    def value(self, model: str, dataset: str, metric: str, task: str = MEAN) -> float:
        key = (model, dataset, task, metric)
        return next(one.value for one in self.scores if (one.model, one.dataset, one.task, one.metric) == key)

    @property
    def models(self) -> list[str]:
        return list(dict.fromkeys(one.model for one in self.scores))


def compare(
    models: Sequence[Loadable], sets: Sequence[LabelledSet], batch_size: int, allow_missing: bool
) -> Comparison:
    """allow_missing: images that cannot be decoded count as wrong, instead of a ConfigError."""
    check_images(sets)
    base = models[0].label
    result = Comparison(base)
    of_base: dict[str, pa.Table] = {}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with named_by_options({one.name: one.option for one in sets}):
        for model in models:
            said = classified(model.load(device), sets, batch_size, device, model.label)
            for one in sets:
                check_readable(said[one.name], most=1 if allow_missing else 0)
                result.scores.extend(_scores(said[one.name], one, model.label))
                result.mistakes[model.label, one.name] = _mistakes(said[one.name])
                if model.label != base and not one.validation:
                    gain, metric = gain_over(said[one.name], of_base[one.name], one.tasks)
                    result.differences.append(
                        Difference(model.label, one.name, one.off_target, gain, said[one.name].num_rows, metric)
                    )
            of_base = of_base or said
    return result


def classified(
    backbone: Backbone, sets: Sequence[LabelledSet], batch_size: int, device: str, label: str
) -> dict[str, pa.Table]:
    """Set -> the predictions (schema.PREDICTIONS) of a model, in the order of the set."""
    embedder = Embedder(backbone, batch_size, device)
    num_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = {}
    with Progress("compare", sum(len(one.slices) for one in sets), "images", note=label) as progress:
        for one in sets:
            scorers = prompt_scorers(embedder, one.tasks)
            parts = []
            for part in one.slices:
                parts.append(classify_rows(read_slice(part, one.tasks), embedder, scorers, one.tasks, num_threads))
                progress.advance(parts[-1].num_rows, note=label)
            found[one.name] = pa.concat_tables(parts, promote_options="default")
    return found


def gain_over(said: pa.Table, of_base: pa.Table, tasks: Sequence[TargetTask]) -> tuple[Gain, str]:
    """The difference of two predictions of the same images, as the mean over tasks, and by which metric."""
    assert all(said[name].equals(of_base[name]) for name in ("task", "row", "label")), "both are of the same images"
    task_N = np.array(said["task"].to_pylist(), object)
    there = [task for task in tasks if task.name in set(task_N)]
    metrics = {task.metric for task in there}
    if metrics == {TOP1}:
        one_N, other_N = (_correct(table).astype(np.int8) for table in (said, of_base))
        return paired_gain([(one_N - other_N)[None, task_N == task.name] for task in there]), TOP1
    rows_of = {task.name: pa.array(task_N == task.name) for task in there}
    pairs = [paired_metric(said.filter(rows_of[t.name]), of_base.filter(rows_of[t.name]), t) for t in there]
    return paired_metric_gain(pairs), metrics.pop() if len(metrics) == 1 else TASK_METRIC


def _scores(said: pa.Table, of: LabelledSet, model: str) -> Iterator[Score]:
    for dataset, task, metric, value, num in summarise(said, of.tasks):
        yield Score(ZERO_SHOT, model, dataset, task, metric, value, num)


def _mistakes(said: pa.Table) -> Counter[Mistake]:
    wrong = said.filter(pc.greater(said["rank"], 0))  # not of an image that could not be read
    return Counter(Mistake(*row) for row in zip(*(wrong[name].to_pylist() for name in Mistake._fields), strict=True))


def _correct(said: pa.Table) -> np.ndarray:
    """bool [N]; an image that could not be read is not."""
    return said["rank"].fill_null(1).to_numpy() == 0
