"""Draws the labelled images that a classifier learns from: n of each class, or all of them.

Takes the labels of a training set, gives rows of it. The draw depends on the labels, the seed and n alone, so that it
is the same for all models, and fewer shots are a part of more. Next: target.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from react_ray.errors import ConfigError
from react_ray.evals.score import ALL_SHOTS

VectorMethod = Literal["linear-probe", "anchored-probe", "tip-adapter", "elevater-probe"]  # shot_methods.py has them
FineTuning = Literal["fine-tune-gated", "fine-tune-last", "fine-tune-all"]  # fine_tuning.py
ShotMethod = Literal[VectorMethod, FineTuning]
FINE_TUNING: tuple[FineTuning, ...] = get_args(FineTuning)


def numbers(shots: Sequence[int | str]) -> list[int]:
    """Each number of `evaluate.shots` once, ALL_SHOTS for "all"."""
    return [ALL_SHOTS if one == "all" else int(one) for one in dict.fromkeys(shots)]


def draw(
    target: np.ndarray,
    shots: int,
    seed: int,
    class_names: Sequence[str],
    dataset: str,
    readable_N: np.ndarray | None = None,
) -> np.ndarray:
    """Returns int64 rows, class by class, each class in the order in which it was drawn.

    An image of several classes is drawn once, and counts for each of them, so that a frequent class may have more than
    its shots. target: as in target.py. shots: images of each class, or ALL_SHOTS. readable_N: bool, False for images
    that have no vector and are passed over. ConfigError if a class has fewer images than shots, or none at all.
    """
    found = []
    for position, name in enumerate(class_names):
        rows = in_order(target, position, seed, readable_N)
        least = 1 if shots == ALL_SHOTS else shots
        if len(rows) < least:
            asked = "1 shot is" if least == 1 else f"{least} shots are"
            raise ConfigError(
                f"evaluate.train.{dataset}: {asked} asked for of each class, and the class {name!r} has {len(rows)} "
                "labelled images; add images of it, or ask for fewer evaluate.shots"
            )
        found.append(rows if shots == ALL_SHOTS else rows[:shots])
    every = np.concatenate(found)
    _, first = np.unique(every, return_index=True)
    return every[np.sort(first)]


def in_order(target: np.ndarray, position: int, seed: int, readable_N: np.ndarray | None = None) -> np.ndarray:
    """Returns int64: the rows of one class in the order in which they are drawn; n shots are the first n."""
    of_class_N = target == position if target.ndim == 1 else target[:, position]
    rows = np.random.default_rng([seed, position]).permutation(np.flatnonzero(of_class_N))
    return rows if readable_N is None else rows[readable_N[rows]]
