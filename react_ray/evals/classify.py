"""Classifies labelled images with one model: decodes and embeds them, and scores each task's classes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from react_ray.clip.embedder import Embedder
from react_ray.clip.prompts import TargetTask
from react_ray.evals.zeroshot import predict
from react_ray.training.scorer import ClassVectors, Scorer


def classify_rows(
    table: pa.Table, embedder: Embedder, scorers: dict[str, Scorer], tasks: list[TargetTask], num_threads: int
) -> pa.Table:
    """Returns schema.PREDICTIONS for a table from `read_slice`. scorers: one for each task."""
    return score_rows(table, embed_rows(table["image"].to_pylist(), embedder, num_threads), scorers, tasks)


def embed_rows(images: list[bytes | None], embedder: Embedder, num_threads: int) -> np.ndarray:
    """float16 [N, D], unit rows; a row is NaN if its image cannot be decoded or embedded."""
    pixels, problems = embedder.decode(images, num_threads)
    good = np.array([problem is None for problem in problems], bool)
    image_ND = np.full((len(images), embedder.image_dim), np.nan, np.float16)
    image_ND[good] = embedder.embed_images(pixels[good])
    return image_ND


def score_rows(table: pa.Table, image_ND: np.ndarray, scorers: dict[str, Scorer], tasks: list[TargetTask]) -> pa.Table:
    """As `classify_rows`, of images that are embedded."""
    names = np.array(table["task"].to_pylist(), dtype=object)
    dataset = table["dataset"][0].as_py() if table.num_rows else ""
    found = []
    for task in tasks:
        rows = np.flatnonzero(names == task.name)
        here = table.take(pa.array(rows))
        labels, places = here["label"].to_pylist(), here["row"].to_numpy()
        position = here["position"].fill_null(-1).to_numpy()
        scorer, classes = scorers[task.name], list(task.class_names)
        found.append(predict(image_ND[rows], scorer, classes, labels, dataset, task.name, places, position))
    return pa.concat_tables(found)


def prompt_scorers(embedder: Embedder, tasks: list[TargetTask]) -> dict[str, Scorer]:
    """The zero-shot classifier of each task (CLIP, section 3.1.4), by the embedder's own text tower."""
    return {task.name: ClassVectors(embedder.zero_shot_classifier(task)) for task in tasks}
