"""Zero-shot classification: predicts the class whose prompts are nearest to the image.

Takes unit image embeddings and a classifier (one unit vector per class: its prompts encoded, normalised, averaged and
normalised again), gives a prediction per image and their summary. An image that could not be read counts as wrong.
"""

from __future__ import annotations

import difflib
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from react_ray import schema
from react_ray.errors import ConfigError
from react_ray.evals.score import IMAGE_TEXT_RETRIEVAL, SEGMENTATION
from react_ray.progress import say
from react_ray.section import Section, field, speed
from react_ray.training.scorer import Scorer

NO_CLASS = -1
MEAN = "mean"  # in the column `task`: the unweighted mean over tasks
IMAGES_AT_ONCE = 8192


class EvaluateConfig(Section):
    # What other protocols than classification read changes no prediction; their own artifacts digest it.
    datasets: dict[str, str] = field(
        {},
        "name -> URI of labelled images: Parquet or Arrow with columns image, label (class names, or positions in the "
        "class list) and task (not needed if the recipe has one task), a folder with one folder of images per class, "
        "WebDataset tars (.cls), or a csv of path and label beside its images",
    )
    captions: dict[str, str] = speed(
        {},
        "name -> URI of images with captions, for image-text retrieval: a dataset_*.json in Karpathy's layout (its "
        "split test, or that behind #), or what ingest reads, with one caption or a list of them per image",
    )
    segmentation: dict[str, str] = speed(
        {},
        "name of a task (or any name, if the recipe has one task) -> URI of a folder of images and masks as those of "
        "VOC, ADE20K or COCO-Stuff, with #split behind it if it has several",
    )
    dense_size: int = speed(
        0,
        "pixels per side to which segmentation and detection resize an image, a multiple of the patch size; 0 = as the "
        "model was trained with",
        ge=0,
    )
    wise_ft: float = field(
        1.0, "score customised models at this weight between the backbone (0) and the trained model (1)", ge=0, le=1
    )
    headline: str = speed("test", "dataset whose top-1 accuracy the report and summary.json show")
    other_runs: list[str] = speed(
        [], "URIs of finished runs of this recipe with other seeds; the report then shows mean and standard deviation"
    )
    pixel_pairs: int = speed(
        20_000,
        "most retrieved pairs that the row of 1-NN on 16x16 pixels compares with, all if there are no more; 0 = no row",
        ge=0,
        le=1_000_000,
    )
    pixel_knn: str = speed(
        "", "folder with the files of react_ray/sample, for a row of 1-NN on 16x16 pixels with labels; empty = no row"
    )
    max_unreadable: float = speed(
        0.05, "refuse the scores of a set of which more than this share of images cannot be decoded", ge=0, le=1
    )
    batch_size: int = speed(256, "images per forward pass, halved when memory runs out", ge=1)

    @property
    def other_sets(self) -> dict[str, dict[str, str]]:
        """The sets of protocols other than classification: protocol -> name -> URI."""
        return {IMAGE_TEXT_RETRIEVAL: self.captions, SEGMENTATION: self.segmentation}

    @property
    def uris(self) -> list[str]:
        """The places of all sets; none if there is nothing to evaluate on."""
        return [uri for sets in (self.datasets, *self.other_sets.values()) for uri in sets.values()]


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
) -> pa.Table:
    """Returns the predictions (schema.PREDICTIONS) for the images of one task.

    first_row: the row of the first image in its dataset, or the rows of all images. position_N: int, the true class
    where a label is more than a name, else -1. If two classes share a name, the one at the position is correct, as
    where argmax is compared with labels; of an image known by name either one is, and the better rank counts.
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
    """Returns rows of (dataset, task, metric, value, num_images) for metrics top1 and top5, with values in [0, 1].

    Datasets and tasks keep the order of their first appearance. After the tasks of a dataset comes the task "mean", the
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
    """Raises ConfigError if a label of a known task is not one of its classes, or if no task is known.

    labels: table with columns task and label.
    """
    tasks, names = labels["task"].to_pylist(), labels["label"].to_pylist()
    if not set(tasks) & set(class_names):
        found = ", ".join(sorted(set(map(str, tasks)))[:10])
        raise ConfigError(
            f"evaluate.datasets.{dataset}: its tasks ({found}) are none of the recipe's; name another dataset"
        )
    for task, known in class_names.items():
        unknown = sorted(map(str, {n for t, n in zip(tasks, names, strict=True) if t == task} - set(known)))
        if unknown:
            raise ConfigError(_unknown_labels(unknown, known, dataset, task))


def check_readable(predictions: pa.Table, most: float) -> None:
    """Says how many images of a set count as wrong because they could not be decoded. ConfigError above `most`."""
    for dataset in pc.unique(predictions["dataset"]).to_pylist():
        here = predictions.filter(pc.equal(predictions["dataset"], dataset))
        failed = here["rank"].null_count
        if failed > most * here.num_rows:
            raise ConfigError(
                f"evaluate.datasets.{dataset}: {failed} of {here.num_rows} images cannot be decoded, and would "
                "count as wrong; mend the set, or allow it with evaluate.max_unreadable"
            )
        if failed:
            say(f"evaluate.datasets.{dataset}: {failed} of {here.num_rows} images cannot be decoded and count as wrong")


def _positions(class_names: list[str], labels: list[str], first: bool) -> np.ndarray:
    """Returns the position of the first (or last) class with each label's name; ImageNet lists two names twice."""
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
