"""Classifies labelled images with one model: decodes and embeds them, and scores each task's classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from react_ray import schema
from react_ray.clip.embedder import Embedder
from react_ray.clip.pixels import decoded_batches
from react_ray.clip.prompts import TargetTask, by_own_names
from react_ray.evals.metrics import log_softmax
from react_ray.evals.zeroshot import FROM_CLASS_SCORES, predict
from react_ray.training.scorer import ClassVectors, Scorer


def classify_rows(
    table: pa.Table, embedder: Embedder, scorers: dict[str, Scorer], tasks: list[TargetTask], num_threads: int
) -> pa.Table:
    """Returns schema.PREDICTIONS for a table from `read_slice`. scorers: one for each task."""
    return score_rows(table, embed_labelled(table, embedder, tasks, num_threads), scorers, tasks)


def embed_labelled(table: pa.Table, embedder: Embedder, tasks: Iterable[TargetTask], num_threads: int) -> np.ndarray:
    """As `embed_rows`, of a table from `read_slice`: each image becomes a square in the way of its task."""
    squashed = pa.array([task.name for task in tasks if task.squash], pa.string())
    names = table["task"] if table.num_rows else pa.array([], pa.string())  # an empty table may have lost its columns
    is_squashed_N = pc.is_in(names, squashed).to_numpy(zero_copy_only=False)
    image_ND = np.empty((table.num_rows, embedder.image_dim), np.float16)
    for squash in np.unique(is_squashed_N).tolist():
        rows = np.flatnonzero(is_squashed_N == squash)
        images = table["image"].take(pa.array(rows)).to_pylist()
        image_ND[rows] = embed_rows(images, embedder, num_threads, squash)
    return image_ND


def embed_rows(images: list[bytes | None], embedder: Embedder, num_threads: int, squash: bool = False) -> np.ndarray:
    """float16 [N, D], unit rows; a row is NaN if its image cannot be decoded or embedded.

    num_threads: that decode, ahead of the model. squash: images are resized to a square whatever their shape, instead
    of by the model's own way.
    """
    backbone = embedder.backbone
    image_ND = np.full((len(images), embedder.image_dim), np.nan, np.float16)
    start = 0
    with ThreadPoolExecutor(num_threads, "decode") as pool:
        how = backbone.image_size, "squash" if squash else backbone.crop, backbone.interpolation, pool
        for pixels_BCHW, failures in decoded_batches(images, embedder.batch_size, *how):
            good = np.flatnonzero([failure is None for failure in failures])
            if len(good):
                whole = len(good) == len(failures)
                image_ND[start + good] = embedder.embed_images(pixels_BCHW if whole else pixels_BCHW[good])
            start += len(failures)
    return image_ND


def score_rows(
    table: pa.Table,
    image_ND: np.ndarray,
    scorers: dict[str, Scorer],
    tasks: list[TargetTask],
    log_probabilities: Callable[[np.ndarray], np.ndarray] = log_softmax,
    keep: bool = False,
) -> pa.Table:
    """As `classify_rows`, of images that are embedded; with schema.WITH_CLASS_SCORES if a task's metric needs that.

    log_probabilities: of the classes by their scores. keep: them, of every task.
    """
    names = np.array(table["task"].to_pylist(), dtype=object)
    dataset = table["dataset"][0].as_py() if table.num_rows else ""
    found = []
    for task in tasks:
        rows = np.flatnonzero(names == task.name)
        here = table.take(pa.array(rows))
        labels, places = here["label"].to_pylist(), here["row"].to_numpy()
        position = here["position"].fill_null(-1).to_numpy()
        scorer, classes = scorers[task.name], list(task.class_names)
        also = here["also"].to_pylist()
        one = predict(image_ND[rows], scorer, classes, labels, dataset, task.name, places, position, also)
        if keep or task.metric in FROM_CLASS_SCORES:
            one = one.append_column("also", here["also"])
            one = one.append_column("class_scores", _class_scores(image_ND[rows], scorer, log_probabilities))
            one = schema.conform(one, schema.WITH_CLASS_SCORES)
        found.append(one)
    return pa.concat_tables(found, promote_options="default")


def _class_scores(
    image_ND: np.ndarray, scorer: Scorer, log_probabilities: Callable[[np.ndarray], np.ndarray]
) -> pa.Array:
    """A list of log-probabilities for each image, null where the image could not be read."""
    good_N = np.isfinite(image_ND).all(axis=1)
    lists = iter(list(log_probabilities(scorer(image_ND[good_N]))))
    return pa.array([next(lists) if good else None for good in good_N], pa.list_(pa.float32()))


def prompt_scorers(embedder: Embedder, tasks: list[TargetTask]) -> dict[str, Scorer]:
    """The zero-shot classifier of each task (CLIP, section 3.1.4), by the embedder's own text tower."""
    return {task.name: ClassVectors(embedder.zero_shot_classifier(by_own_names(task))) for task in tasks}
