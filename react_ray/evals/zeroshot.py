"""Zero-shot classification: predicts the class whose prompts are nearest to the image.

Takes unit image embeddings and a classifier (one unit vector per class: its prompts encoded, normalised, averaged and
normalised again), gives a prediction per image and their summary. An image that could not be read counts as wrong.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from react_ray import schema
from react_ray.clip.prompts import MAP_11_POINT, MEAN_PER_CLASS, ROC_AUC, TOP1, TargetTask
from react_ray.errors import ConfigError
from react_ray.evals.metrics import mean_average_precision_11_point, mean_per_class, roc_auc, top_k
from react_ray.evals.readable import check_share
from react_ray.evals.resampled import class_scores
from react_ray.evals.set_name import field_of
from react_ray.metadata import shown
from react_ray.training.scorer import Scorer

NO_CLASS = -1
MEAN = "mean"  # in the column `task`: the unweighted mean over tasks
TASK_METRIC = "task_metric"  # of the mean over tasks: each by its own metric
UNREADABLE = "unreadable"
FROM_CLASS_SCORES = (MAP_11_POINT, ROC_AUC)  # metrics that rank images by their scores of a class
IMAGES_AT_ONCE = 8192


class Classified(NamedTuple):
    """Holds one entry per image; an image without an embedding has top1 -1, rank -1 and score NaN."""

    top1: np.ndarray  # int64 [N]: position of the predicted class, the first one of equal scores
    rank: np.ndarray  # int64 [N]: number of classes ranked before the true one, 0 = top-1
    score: np.ndarray  # float32 [N]: of the predicted class; with prompts, its cosine with the image


def classify(image_ND: np.ndarray, scorer: Scorer, label_N: np.ndarray) -> Classified:
    """Predicts the class with the highest score.

    image_ND: float16 or float32, NaN rows where an image failed. label_N: int, positions among the scorer's classes.
    """
    num_images = len(image_ND)
    top1 = np.full(num_images, NO_CLASS, dtype=np.int64)
    rank = np.full(num_images, NO_CLASS, dtype=np.int64)
    score = np.full(num_images, np.nan, dtype=np.float32)
    readable = np.flatnonzero(np.isfinite(image_ND).all(axis=1))
    for start in range(0, len(readable), IMAGES_AT_ONCE):
        rows = readable[start : start + IMAGES_AT_ONCE]
        score_NC = scorer(image_ND[rows])
        assert np.isfinite(score_NC).all(), "no class is before a true class whose score is NaN, so it would be right"
        label = np.asarray(label_N)[rows][:, None]
        true_N1 = np.take_along_axis(score_NC, label, axis=1)
        before = (score_NC > true_N1) | ((score_NC == true_N1) & (np.arange(score_NC.shape[1]) < label))
        top1[rows] = score_NC.argmax(axis=1)
        rank[rows] = before.sum(axis=1)
        score[rows] = score_NC.max(axis=1)
    return Classified(top1, rank, score)


def predict(
    image_ND: np.ndarray,
    scorer: Scorer,
    class_names: list[str],
    labels: list[str],
    dataset: str,
    task: str,
    first_row: int | np.ndarray = 0,
    position_N: np.ndarray | None = None,
    also: Sequence[Sequence[str] | None] = (),
) -> pa.Table:
    """Returns the predictions (schema.PREDICTIONS) for the images of one task.

    first_row: the row of the first image in its dataset, or the rows of all images. position_N: int, the true class
    where a label is more than a name, else -1. If two classes share a name, the one at the position is correct, as
    where argmax is compared with labels; of an image known by name either one is, and the better rank counts. also: the
    other labels of each image, each of which is correct.
    """
    known = set(class_names)
    unknown = sorted({label for label in labels if label not in known})
    if unknown:
        raise ConfigError(_unknown_labels(unknown, class_names, dataset, task))
    first_N, last_N = (_positions(class_names, labels, first) for first in (True, False))
    if position_N is not None:
        first_N, last_N = (np.where(position_N >= 0, position_N, either_N) for either_N in (first_N, last_N))
    found = classify(image_ND, scorer, first_N)
    rank = found.rank
    if (first_N != last_N).any():
        rank = np.minimum(rank, classify(image_ND, scorer, last_N).rank)
    for place in range(max((len(others or []) for others in also), default=0)):
        names = [(others or [])[place : place + 1] or [label] for others, label in zip(also, labels, strict=True)]
        other_N = _positions(class_names, [name for [name] in names], first=True)
        rank = np.minimum(rank, classify(image_ND, scorer, other_N).rank)
    failed = found.top1 == NO_CLASS
    rows = np.arange(len(labels)) + first_row if isinstance(first_row, int) else first_row
    named = np.array(class_names, dtype=object)
    return pa.table(
        {
            "row": np.asarray(rows, dtype=np.int32),
            "dataset": [dataset] * len(labels),
            "task": [task] * len(labels),
            "label": labels,
            "predicted": pa.array(named[found.top1], pa.string(), mask=failed),
            "score": pa.array(found.score, mask=failed),
            "rank": pa.array(rank.astype(np.int32), mask=failed),
        },
        schema=schema.PREDICTIONS,
    )


def summarise(predictions: pa.Table, tasks: Sequence[TargetTask] = ()) -> list[tuple[str, str, str, float, int]]:
    """Returns rows of (dataset, task, metric, value, num_images) with values in [0, 1].

    Metrics are top1, top5 and mean_per_class, and the task's own where it is another. Datasets and tasks keep the order
    of their first appearance. After the tasks of a dataset comes the task "mean", the unweighted mean over them, with
    the number of all images; its metric task_metric is the mean over each task's own metric, as ELEVATER's score is.
    The share of images that could not be decoded, and count as wrong, is its metric unreadable, if there are any.
    Classes of one name count as one in mean_per_class.

    tasks: those whose metric is another than top1, at least.
    """
    metric_of = {task.name: task for task in tasks}
    rows: list[tuple[str, str, str, float, int]] = []
    for dataset in pc.unique(predictions["dataset"]).to_pylist():
        of_set = predictions.filter(pc.equal(predictions["dataset"], dataset))
        values: dict[str, list[float]] = {}
        for name in pc.unique(of_set["task"]).to_pylist():
            found = of_set.filter(pc.equal(of_set["task"], name))
            task = metric_of.get(name)
            measured = _measure(found, task)
            if undefined := [metric for metric, value in measured.items() if np.isnan(value)]:
                raise ConfigError(
                    f"{field_of(dataset)}: {undefined[0]} of {name} needs images of both classes; add the other"
                )
            rows.extend((dataset, name, metric, value, found.num_rows) for metric, value in measured.items())
            for metric in (TOP1, "top5", MEAN_PER_CLASS):
                values.setdefault(metric, []).append(measured[metric])
            values.setdefault(TASK_METRIC, []).append(measured[task.metric if task else TOP1])
        if unreadable := of_set["rank"].null_count:
            values[UNREADABLE] = [unreadable / of_set.num_rows]
        rows.extend(
            (dataset, MEAN, metric, float(np.mean(of_tasks)), of_set.num_rows) for metric, of_tasks in values.items()
        )
    return rows


def _measure(found: pa.Table, task: TargetTask | None) -> dict[str, float]:
    """The metrics of one task, by name."""
    rank = found["rank"].fill_null(np.iinfo(np.int32).max).to_numpy()
    names = {name: place for place, name in enumerate(pc.unique(found["label"]).to_pylist())}
    label_N = np.array([names[label] for label in found["label"].to_pylist()])
    values = {TOP1: top_k(rank, 1), "top5": top_k(rank, 5), MEAN_PER_CLASS: mean_per_class(label_N, rank == 0)}
    if task and task.metric in FROM_CLASS_SCORES:
        true_NC, score_NC = class_scores(found, task)
        auc = task.metric == ROC_AUC
        values[task.metric] = (
            roc_auc(true_NC[:, 1], score_NC[:, 1]) if auc else mean_average_precision_11_point(true_NC, score_NC)
        )
    return values


def check_labels(labels: pa.Table, class_names: dict[str, list[str]], dataset: str) -> None:
    """Raises ConfigError if a label of a known task is not one of its classes, or if no task is known.

    labels: table with columns task and label.
    """
    tasks, names = labels["task"].to_pylist(), labels["label"].to_pylist()
    if not set(tasks) & set(class_names):
        found = ", ".join(sorted(set(map(str, tasks)))[:10])
        raise ConfigError(f"{field_of(dataset)}: its tasks ({found}) are none of the recipe's; name another dataset")
    for task, known in class_names.items():
        unknown = sorted(map(str, {n for t, n in zip(tasks, names, strict=True) if t == task} - set(known)))
        if unknown:
            raise ConfigError(_unknown_labels(unknown, known, dataset, task))


def check_readable(predictions: pa.Table, most: float) -> None:
    """Says how many images of a set count as wrong because they could not be decoded. ConfigError above `most`."""
    for dataset in pc.unique(predictions["dataset"]).to_pylist():
        here = predictions.filter(pc.equal(predictions["dataset"], dataset))
        check_share(here["rank"].null_count, here.num_rows, field_of(dataset), most)


def _positions(class_names: list[str], labels: list[str], first: bool) -> np.ndarray:
    """Returns the position of the first (or last) class with each label's name; ImageNet lists two names twice."""
    numbered = list(enumerate(class_names))
    position = {name: i for i, name in (reversed(numbered) if first else numbered)}
    return np.array([position[label] for label in labels], dtype=np.int64)


def _unknown_labels(unknown: list[str], class_names: list[str], dataset: str, task: str) -> str:
    near = difflib.get_close_matches(unknown[0], class_names, n=1)
    first = ", ".join(map(shown, unknown[:5])) + (" ..." if len(unknown) > 5 else "")
    return (
        f"{field_of(dataset)}: {len(unknown)} labels are no class of task {task!r}: {first}; "
        + (f"did you mean {near[0]!r}? " if near else "")
        + "correct the labels or add the classes to the task"
    )
