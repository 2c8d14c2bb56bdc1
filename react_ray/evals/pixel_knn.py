"""Computes a trivial baseline: 1-nearest neighbour on small pictures, given the class labels of base and pool.

Takes the sample data (or a folder with the same files) and gives predictions like those of zero-shot classification.
The baseline sees labels that REACT never sees: the label of a row comes from the name of its drawing (`key`:
"top-hat", "flag-for-ghana"). A model that does not come near these figures has learned little about how things look.
To print the figures, run `python -m react_ray.evals.pixel_knn`.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import re
import unicodedata
from collections import defaultdict

import numpy as np
import pyarrow as pa
from PIL import Image
from typing_extensions import TypedDict

from react_ray import schema
from react_ray.errors import ConfigError
from react_ray.evals.zeroshot import MEAN, summarise
from react_ray.metadata import parse_json, shaped
from react_ray.storage import absolute, join, open_parquet, read_bytes

logger = logging.getLogger(__name__)
SIZE = 16
TRAINING = ("base", "pool")
FLAGS = "flags"
ROWS_AT_ONCE = 256


class Task(TypedDict):
    classes: list[str]


class Tasks(TypedDict):
    tasks: dict[str, Task]


def run(folder: str = "sample://", dataset: str = "test", size: int = SIZE) -> pa.Table:
    """Returns schema.PREDICTIONS for a dataset of the folder; `score` is minus the mean squared distance of values."""
    folder = absolute(folder)
    uri, form = join(folder, "tasks.json"), "see sample://tasks.json for the form"
    file = shaped(parse_json(read_bytes(uri), uri, form, ConfigError), Tasks, uri, form, ConfigError)
    tasks = {name: task["classes"] for name, task in file["tasks"].items()}
    labels = Labels(tasks)
    pictures, known = [], []
    for name in TRAINING:
        table = open_parquet(join(folder, f"{name}.parquet")).read(["image", "key"])
        captions = _captions(folder, name)
        found = labels.of(table["key"].to_pylist(), captions)
        rows = np.flatnonzero([one is not None for one in found])
        pictures.append(shrink(table["image"].take(pa.array(rows)), size))
        known += [found[row] for row in rows]
    train_ND, train_label = np.concatenate(pictures), np.array(known, dtype=object)
    table = open_parquet(join(folder, f"{dataset}.parquet")).read(["image", "task", "label"])
    task_of = np.array(table["task"].to_pylist(), dtype=object)
    image_ND = shrink(table["image"], size)
    predictions = []
    for task in tasks:
        rows = np.flatnonzero(task_of == task)
        mine = np.flatnonzero([label[0] == task for label in train_label])
        if not len(rows):
            continue
        if not len(mine):
            raise ConfigError(f"no row of {', '.join(TRAINING)} is named like a class of {task}; remove the task")
        names = [label[1] for label in train_label[mine]]
        true = table["label"].take(pa.array(rows)).to_pylist()
        predictions.append(_nearest(train_ND[mine], names, image_ND[rows], true, rows, dataset, task))
    return pa.concat_tables(predictions)


def shrink(images: pa.ChunkedArray, size: int = SIZE) -> np.ndarray:
    """Encoded pictures -> float32 [N, 3 * size * size] in [0, 1], antialiased; transparency on white."""
    out = np.empty((len(images), size * size * 3), dtype=np.float32)
    for row, data in enumerate(images.to_pylist()):
        picture = Image.open(io.BytesIO(data)).convert("RGBA")
        flat = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
        out[row] = np.asarray(flat.resize((size, size), Image.Resampling.BILINEAR), dtype=np.float32).ravel() / 255
    return out


class Labels:
    """Finds the (task, class) of a drawing by its name."""

    def __init__(self, tasks: dict[str, list[str]]) -> None:
        self.by_slug = {slug(name): (task, name) for task, names in tasks.items() for name in names}
        self.countries = sorted(tasks.get(FLAGS, []), key=len, reverse=True)

    def of(self, keys: list[str], captions: list[str]) -> list[tuple[str, str] | None]:
        codes = self._country_codes(keys, captions)
        return [self._one(key, caption, codes) for key, caption in zip(keys, captions, strict=True)]

    def _one(self, key: str, caption: str, codes: dict[str, str]) -> tuple[str, str] | None:
        about_flags = "flag" in key or "flag" in caption.lower()
        if key in codes and about_flags:
            return FLAGS, codes[key]
        label = self.by_slug.get(re.sub(r"^flag-(for-)?", "", key) if about_flags else key)
        if label is None or (label[0] == FLAGS and not about_flags):  # the outline of a country is no flag
            return None
        return label

    def _country_codes(self, keys: list[str], captions: list[str]) -> dict[str, str]:
        """Maps two-letter names of flags ("gh") to the country that most of their captions name."""
        votes: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for key, caption in zip(keys, captions, strict=True):
            if re.fullmatch("[a-z]{2}", key):
                for country in self.countries:
                    if country in caption:
                        votes[key][country] += 1
                        break
        return {key: max(sorted(names), key=lambda name: names[name]) for key, names in votes.items()}


def slug(name: str) -> str:
    """Turns "Côte d’Ivoire" into "cote-divoire", and "Antigua & Barbuda" into "antigua-and-barbuda"."""
    plain = unicodedata.normalize("NFKD", re.sub("[.’']", "", name.replace("&", " and ")))
    return re.sub("[^a-z0-9]+", "-", plain.encode("ascii", "ignore").decode().lower()).strip("-")


def _captions(folder: str, name: str) -> list[str]:
    file = open_parquet(join(folder, f"{name}.parquet"))
    column = "captions" if "captions" in file.schema_arrow.names else "caption"
    return [one if isinstance(one, str) else " | ".join(one) for one in file.read([column])[column].to_pylist()]


def _nearest(
    train_ND: np.ndarray,
    train_label: list[str],
    image_ND: np.ndarray,
    true: list[str],
    rows: np.ndarray,
    dataset: str,
    task: str,
) -> pa.Table:
    """Ranks classes by the distance of their nearest drawing; classes without a drawing come last."""
    classes = sorted({*train_label, *true})
    position = {name: i for i, name in enumerate(classes)}
    order = np.argsort([position[name] for name in train_label], kind="stable")
    owner = np.array([position[name] for name in train_label])[order]
    train_ND = train_ND[order].astype(np.float64)
    start = np.flatnonzero(np.diff(owner, prepend=-1))
    distance_NC = np.full((len(rows), len(classes)), np.inf)
    for first in range(0, len(rows), ROWS_AT_ONCE):
        block = image_ND[first : first + ROWS_AT_ONCE].astype(np.float64)
        squares = (block**2).sum(axis=1)[:, None] - 2 * block @ train_ND.T + (train_ND**2).sum(axis=1)
        distance_NC[first : first + ROWS_AT_ONCE, owner[start]] = np.minimum.reduceat(squares, start, axis=1)
    label = np.array([position[name] for name in true])
    own = distance_NC[np.arange(len(rows)), label][:, None]
    before = (distance_NC < own) | ((distance_NC == own) & (np.arange(len(classes)) < label[:, None]))
    return pa.table(
        {
            "row": rows.astype(np.int32),
            "dataset": [dataset] * len(rows),
            "task": [task] * len(rows),
            "label": true,
            "predicted": [classes[i] for i in distance_NC.argmin(axis=1)],
            "score": (-distance_NC.min(axis=1) / train_ND.shape[1]).astype(np.float32),
            "rank": before.sum(axis=1).astype(np.int32),
        },
        schema=schema.PREDICTIONS,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="classify small pictures by their nearest labelled neighbour")
    parser.add_argument("--folder", default="sample://", help="holds tasks.json, base, pool and the dataset as Parquet")
    parser.add_argument("--dataset", default="test", help="file of the folder to classify")
    parser.add_argument("--size", type=int, default=SIZE, help="side to which pictures are shrunk, pixels")
    wanted = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    rows = summarise(run(wanted.folder, wanted.dataset, wanted.size))
    points = {task: 100 * value for _, task, metric, value, _ in rows if metric == "top1"}
    counts = {task: num_images for _, task, metric, _, num_images in rows if metric == "top1"}
    for task, value in points.items():
        logger.info("%-12s %5.1f  (%d images)", task, value, counts[task])
    tasks = {task: round(value, 2) for task, value in points.items() if task != MEAN}
    logger.info(json.dumps({"dataset": wanted.dataset, "mean": round(points[MEAN], 2), "tasks": tasks}))


if __name__ == "__main__":
    main()
