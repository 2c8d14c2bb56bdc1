"""Zero-shot classification: the class whose prompts are nearest to the image.

Takes unit image embeddings and a classifier (one unit vector per class: its prompts encoded, normalised, averaged,
normalised); gives predictions per image and their summary. An image that could not be read counts as wrong.
Next: pixel_knn.py, the baseline that any of this should pass.
"""

from __future__ import annotations

import difflib
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from react_ray import schema
from react_ray.errors import ConfigError
from react_ray.section import Section, field, speed

NO_CLASS = -1
MEAN = "mean"  # stands in the column `task` for the unweighted mean over tasks
IMAGES_AT_ONCE = 8192


class EvaluateConfig(Section):
    datasets: dict[str, str] = field(
        {}, "name -> URI of a Parquet file with columns image, task, label; labels are class names of that task"
    )
    wise_ft: float = field(
        1.0, "customised models are scored at this weight between the backbone (0) and what was trained (1)", ge=0, le=1
    )
    headline: str = speed("test", "dataset whose top-1 goes into summary.json and the report's table")
    other_runs: list[str] = speed(
        [], "URIs of finished runs of this recipe with other seeds: the report shows the spread"
    )
    pixel_knn: str = speed("", "folder like react_ray/sample for the 1-nearest-neighbour reference line; empty = none")
    notes: list[str] = speed([], "lines that the report ends with")
    batch_size: int = speed(256, "images per forward pass; a larger one needs more memory", ge=1)


class Classified(NamedTuple):
    """One entry per image; an image without an embedding has top1 -1, rank -1 and score NaN."""

    top1: np.ndarray  # int64 [N]: position of the predicted class; equal scores: the first
    rank: np.ndarray  # int64 [N]: classes before the true one, 0 = top-1
    score: np.ndarray  # float32 [N]: cosine of the predicted class


def classify(image_ND: np.ndarray, classifier_CD: np.ndarray, label_N: np.ndarray) -> Classified:
    """image float16 or float32 [N, D], NaN rows where an image failed; classifier float32 [C, D]; label int [N] in C.

    Scores are summed in float64, so that the answer does not depend on how images are batched.
    """
    num_images = len(image_ND)
    top1 = np.full(num_images, NO_CLASS, dtype=np.int64)
    rank = np.full(num_images, NO_CLASS, dtype=np.int64)
    score = np.full(num_images, np.nan, dtype=np.float32)
    classes_DC = classifier_CD.astype(np.float64).T
    readable = np.flatnonzero(np.isfinite(image_ND).all(axis=1))
    for start in range(0, len(readable), IMAGES_AT_ONCE):
        rows = readable[start : start + IMAGES_AT_ONCE]
        score_NC = (image_ND[rows].astype(np.float64) @ classes_DC).astype(np.float32)
        label = np.asarray(label_N)[rows][:, None]
        true_N1 = np.take_along_axis(score_NC, label, axis=1)
        before = (score_NC > true_N1) | ((score_NC == true_N1) & (np.arange(score_NC.shape[1]) < label))
        top1[rows] = score_NC.argmax(axis=1)
        rank[rows] = before.sum(axis=1)
        score[rows] = score_NC.max(axis=1)
    return Classified(top1, rank, score)


def predict(
    image_ND: np.ndarray,
    classifier_CD: np.ndarray,
    class_names: list[str],
    labels: list[str],
    dataset: str,
    task: str,
    first_row: int | np.ndarray = 0,
) -> pa.Table:
    """Predictions (schema.PREDICTIONS) of the images of one task.

    first_row: the row of the first image in its dataset, or the row of each. A name that two classes share is right
    for either: the rank of the better one counts.
    """
    known = set(class_names)
    unknown = sorted({label for label in labels if label not in known})
    if unknown:
        raise ConfigError(_unknown_labels(unknown, class_names, dataset, task))
    found = classify(image_ND, classifier_CD, _positions(class_names, labels, first=True))
    rank = found.rank
    if len(known) < len(class_names):
        rank = np.minimum(rank, classify(image_ND, classifier_CD, _positions(class_names, labels, first=False)).rank)
    failed = found.top1 == NO_CLASS
    rows = np.arange(len(labels)) + first_row if isinstance(first_row, int) else first_row
    names = np.array(class_names, dtype=object)
    return pa.table(
        {
            "row": np.asarray(rows, dtype=np.int32),
            "dataset": [dataset] * len(labels),
            "task": [task] * len(labels),
            "label": labels,
            "predicted": pa.array(names[found.top1], pa.string(), mask=failed),
            "score": pa.array(found.score, mask=failed),
            "rank": pa.array(rank.astype(np.int32), mask=failed),
        },
        schema=schema.PREDICTIONS,
    )


def summarise(predictions: pa.Table) -> list[tuple[str, str, str, float, int]]:
    """(dataset, task, metric, value, num_images) for metrics top1 and top5, values in [0, 1].

    Datasets and tasks keep the order in which they first appear; after the tasks of a dataset comes task "mean", the
    unweighted mean over them, with the number of all images.
    """
    dataset = np.array(predictions["dataset"].to_pylist(), dtype=object)
    task = np.array(predictions["task"].to_pylist(), dtype=object)
    rank = predictions["rank"].fill_null(np.iinfo(np.int32).max).to_numpy()
    rows: list[tuple[str, str, str, float, int]] = []
    for name in dict.fromkeys(dataset):
        here = dataset == name
        ranks = {one: rank[here & (task == one)] for one in dict.fromkeys(task[here])}
        tops = {
            metric: {one: float((r < n).mean()) for one, r in ranks.items()} for metric, n in (("top1", 1), ("top5", 5))
        }
        for one, r in ranks.items():
            rows.extend((name, one, metric, values[one], len(r)) for metric, values in tops.items())
        for metric, values in tops.items():
            rows.append((name, MEAN, metric, float(np.mean(list(values.values()))), int(here.sum())))
    return rows


def check_labels(labels: pa.Table, class_names: dict[str, list[str]], dataset: str) -> None:
    """labels: columns task, label. ConfigError if a label of a known task is none of its classes, or no task is known."""
    tasks, names = labels["task"].to_pylist(), labels["label"].to_pylist()
    if not set(tasks) & set(class_names):
        found = ", ".join(sorted(set(map(str, tasks)))[:10])
        raise ConfigError(
            f"evaluate.datasets.{dataset}: its tasks ({found}) are none of the recipe's; name another dataset"
        )
    for task, known in class_names.items():
        unknown = sorted({n for t, n in zip(tasks, names, strict=True) if t == task} - set(known))
        if unknown:
            raise ConfigError(_unknown_labels(unknown, known, dataset, task))


def _positions(class_names: list[str], labels: list[str], first: bool) -> np.ndarray:
    """Of the first (or last) class of each name: differ where a name occurs twice, as in ImageNet's list."""
    numbered = list(enumerate(class_names))
    position = {name: i for i, name in (reversed(numbered) if first else numbered)}
    return np.array([position[label] for label in labels], dtype=np.int64)


def _unknown_labels(unknown: list[str], class_names: list[str], dataset: str, task: str) -> str:
    near = difflib.get_close_matches(unknown[0], class_names, n=1)
    shown = ", ".join(map(repr, unknown[:5])) + (" ..." if len(unknown) > 5 else "")
    return (
        f"evaluate.datasets.{dataset}: {len(unknown)} labels are no class of task {task!r}: {shown}; "
        + (f"did you mean {near[0]!r}? " if near else "")
        + "correct the labels or add the classes to the task"
    )
