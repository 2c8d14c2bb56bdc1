"""The methods that learn a classifier from the labelled images of each class, by the names that a recipe gives them.

A method takes the vectors of the drawn images and of the test images, and gives the test images' scores. Next:
few_shot.py, which draws, and fine_tuning.py, whose methods take images instead of vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from react_ray.evals.elevater_probe import train_swept
from react_ray.evals.few_shot import ShotMethod
from react_ray.evals.linear_probe import fit_swept
from react_ray.evals.target import quality
from react_ray.evals.tip_adapter import tip_adapter

LAST_EPOCH, BEST_EPOCH = "last epoch", "best epoch on the test set"


@dataclass(frozen=True)
class Shots:
    """The drawn images of one task, and the class prompts."""

    image_ND: np.ndarray  # float16 or float32 unit rows, all finite
    target: np.ndarray  # their classes, as in target.py
    text_CD: np.ndarray  # float32 unit rows
    seed: int


@dataclass(frozen=True)
class Learned:
    score_NC: np.ndarray  # float32 logits of the test images; NaN rows where an image has no vector
    one_vs_rest: bool = False  # a logit is of its class against all else (sigmoid), not against other classes (softmax)
    setting: str = ""  # as in Score
    told: str = ""  # what was chosen, for the terminal and the artifact
    collapsed: bool = False  # training made the classifier worse than the prompts on the very images it trained on


def learn(method: ShotMethod, shots: Shots, test_ND: np.ndarray, test_target: np.ndarray) -> list[Learned]:
    """method: of METHODS. test_ND: float16 or float32, NaN rows where an image has no vector. test_target: is read by
    nothing but the choice of an epoch that the setting BEST_EPOCH names.
    """
    readable = np.isfinite(test_ND).all(axis=1)
    return [
        replace(learned, score_NC=_spread(learned.score_NC, readable))
        for learned in METHODS[method](shots, test_ND[readable], test_target[readable])
    ]


def _linear_probe(shots: Shots, test_ND: np.ndarray, _: np.ndarray, anchored: bool = False) -> list[Learned]:
    probe = fit_swept(shots.image_ND, shots.target, shots.text_CD, anchored)
    return [Learned(probe(test_ND), shots.target.ndim == 2, told=f"penalty {probe.l2:.2g}")]


def _tip_adapter(shots: Shots, test_ND: np.ndarray, _: np.ndarray) -> list[Learned]:
    cache = tip_adapter(shots.image_ND, shots.target, shots.text_CD)
    return [Learned(cache(test_ND), told=f"alpha {cache.alpha:.2g}, beta {cache.beta:.2g}")]


def _elevater_probe(shots: Shots, test_ND: np.ndarray, test_target: np.ndarray) -> list[Learned]:
    found = train_swept(shots.image_ND, shots.target, shots.text_CD, test_ND, shots.seed)
    told = f"learning rate {found.learning_rate:.2g}, weight decay {found.weight_decay:.2g}"
    best = max(range(len(found.logits_ENC)), key=lambda epoch: quality(found.logits_ENC[epoch], test_target))
    return [
        Learned(found.logits_ENC[epoch], shots.target.ndim == 2, setting, told, found.collapsed)
        for epoch, setting in ((-1, LAST_EPOCH), (best, BEST_EPOCH))
    ]


def _spread(score_MC: np.ndarray, readable_N: np.ndarray) -> np.ndarray:
    score_NC = np.full((len(readable_N), score_MC.shape[1]), np.nan, np.float32)
    score_NC[readable_N] = score_MC
    return score_NC


METHODS: dict[str, Callable[[Shots, np.ndarray, np.ndarray], list[Learned]]] = {
    "linear-probe": _linear_probe,
    "anchored-probe": partial(_linear_probe, anchored=True),
    "tip-adapter": _tip_adapter,
    "elevater-probe": _elevater_probe,
}
