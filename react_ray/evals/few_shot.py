"""Draws the labelled images that a classifier learns from: n of each class, or all of them.

Takes the labels of a training set, gives rows of it. The draw depends on the labels, the seed and n alone, so that it
is the same for all models, and fewer shots are a part of more. Next: linear_probe.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from react_ray.errors import ConfigError
from react_ray.evals.score import ALL_SHOTS

VectorMethod = Literal["linear-probe", "anchored-probe", "tip-adapter", "elevater-probe"]  # shot_methods.py has them
FineTuning = Literal["fine-tune-gated", "fine-tune-last", "fine-tune-all"]  # fine_tuning.py
ShotMethod = Literal[VectorMethod, FineTuning]
FINE_TUNING: tuple[FineTuning, ...] = get_args(FineTuning)
HELD_OUT = 0.2  # of the images of a class, to choose by


def numbers(shots: Sequence[int | str]) -> list[int]:
    """Each number of `evaluate.shots` once, ALL_SHOTS for "all"."""
    return [ALL_SHOTS if one == "all" else int(one) for one in dict.fromkeys(shots)]


def draw(
    label_N: np.ndarray,
    shots: int,
    seed: int,
    class_names: Sequence[str],
    dataset: str,
    readable_N: np.ndarray | None = None,
) -> np.ndarray:
    """Returns int64 rows, class by class, each class in the order in which it was drawn.

    label_N: int, positions among the classes. shots: images of each class, or ALL_SHOTS. readable_N: bool, False for
    images that have no vector and are passed over. ConfigError if a class has fewer images than shots, or none at all.
    """
    found = []
    for position, name in enumerate(class_names):
        rows = in_order(label_N, position, seed, readable_N)
        least = 1 if shots == ALL_SHOTS else shots
        if len(rows) < least:
            asked = "1 shot is" if least == 1 else f"{least} shots are"
            raise ConfigError(
                f"evaluate.train.{dataset}: {asked} asked for of each class, and the class {name!r} has {len(rows)} "
                "labelled images; add images of it, or ask for fewer evaluate.shots"
            )
        found.append(rows if shots == ALL_SHOTS else rows[:shots])
    return np.concatenate(found)


def in_order(label_N: np.ndarray, position: int, seed: int, readable_N: np.ndarray | None = None) -> np.ndarray:
    """Returns int64: the rows of one class in the order in which they are drawn; n shots are the first n."""
    rows = np.random.default_rng([seed, position]).permutation(np.flatnonzero(label_N == position))
    return rows if readable_N is None else rows[readable_N[rows]]


def hold_out(label_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Splits drawn images into rows to train on and rows to choose by: int64, int64.

    As in the ELEVATER toolkit the first ceil(n / 5) of each class are held out (evaluation/feature.py:
    train_val_dataset), but never the last image of a class: of one shot nothing is held out.
    """
    held = []
    for label in np.unique(label_N):
        rows = np.flatnonzero(label_N == label)
        held.append(rows[: min(math.ceil(HELD_OUT * len(rows)), len(rows) - 1)])
    held_rows = np.concatenate(held)
    return np.setdiff1d(np.arange(len(label_N)), held_rows), held_rows
